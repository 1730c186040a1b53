"""Compare a predicted labelmap with a reference: a table of slices, a table of the whole volume, the worst slices."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, nan

import numpy as np
import pandas as pd

from SAMLungSegLib.errors import SettingsError, VolumeError
from SAMLungSegLib.evaluation.extents import with_one_extent
from SAMLungSegLib.evaluation.grids import CommonGrid, on_common_grid
from SAMLungSegLib.evaluation.sides import (
    BOTH,
    Labels,
    Structures,
    comparable_structures,
    joint_counts,
    missing_sides,
    set_codes,
    set_structures,
    structure_mask,
)
from SAMLungSegLib.evaluation.splitting import with_sides
from SAMLungSegLib.metrics import DEFAULT_TOLERANCE_MM, METRICS, Metric, dice, in_pixels, jaccard, measure_all
from SAMLungSegLib.structures import LUNGS, LabelSet
from SAMLungSegLib.volume import SlicePlane, Volume, axial_plane

logger = logging.getLogger(__name__)

WORST_KEPT = 6


@dataclass(frozen=True, eq=False)
class ComparedSlice:
    """One slice with two masks, in display orientation.

    Attributes:
        volume: name of the volume.
        number: slice number, 0 at the inferior end.
        reference_hw: integer (H, W), nonzero inside.
        prediction_hw: integer (H, W), nonzero inside.
        aspect: height of a pixel divided by its width.
        scores: metric values by name, for the title.
        image_hw: uint8 (H, W) grey, or None.
    """

    volume: str
    number: int
    reference_hw: np.ndarray
    prediction_hw: np.ndarray
    aspect: float
    scores: dict[str, float]
    image_hw: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Agreement of one prediction with its reference.

    Attributes:
        name: of the case, in all tables.
        per_slice: one row for each structure and displayed slice: volume, structure, slice (0 at the inferior end),
            array_index (along the reference array's own slice axis; below 0 or beyond its end where only the prediction
            reaches), reference_voxels, prediction_voxels, empty (neither mask has a voxel), and the metrics that have
            a meaning in a slice. Without physical spacing, distances are also there in pixels (`hausdorff_95_px`).
        per_volume: one row for each structure: the same for the masks in 3D, with slices (how many) and, where voxels
            are known in mm, reference_ml and prediction_ml.
        notes: what was decided about grids and labels, and what was left out; one sentence each.
        worst: slices with the lowest Dice of all structures together, worst first.
        tolerance_mm: of the surface Dice.
        plane: how the reference's grid is displayed, continued as far as the prediction reaches.
        has_physical_spacing: whether the reference has a place in mm.
    """

    name: str
    per_slice: pd.DataFrame
    per_volume: pd.DataFrame
    notes: tuple[str, ...]
    worst: tuple[ComparedSlice, ...]
    tolerance_mm: float = DEFAULT_TOLERANCE_MM
    plane: SlicePlane | None = None
    has_physical_spacing: bool = True


def evaluate(
    prediction: Volume,
    reference: Volume,
    *,
    metrics: Sequence[Metric] = METRICS,
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
    reference_labels: Labels | None = None,
    prediction_labels: Labels | None = None,
    label_set: LabelSet = LUNGS,
    name: str | None = None,
) -> Evaluation:
    """Compare two labelmaps per structure, per slice and as a whole, on the reference's grid.

    A prediction on another grid is resampled to the reference's by nearest neighbour. Where it reaches beyond that, as
    beyond a reference that was cropped to its lungs, the reference's grid is continued, without lung. Metrics are NaN
    where both masks are empty, and those in mm also where the reference has no physical spacing: distances are given
    in pixels then. One label of two lungs that lie apart, side by side, is split into these.

    Args:
        prediction: labelmap, 1 = patient's right lung, 2 = left lung.
        reference: labelmap. With a single label that is not two lungs apart it is compared as both lungs only.
        metrics: rows of the table of metrics.
        tolerance_mm: of the surface Dice, positive.
        reference_labels: labels of the reference where they are not 1 and 2, nor named by its file: {'right': (...),
            'left': (...)}.
        prediction_labels: likewise for the prediction.
        label_set: what the labels of both stand for, where it is not the lungs; a label means what the set says then.
        name: of the case; the reference's name by default.
    Raises:
        GeometryError: the grids do not overlap, or differ and have no physical spacing, or the tolerance is no length.
        VolumeError: something is not a labelmap, or does not have the labels that were named.
    """
    check_tolerance(tolerance_mm)
    if label_set != LUNGS:
        if reference_labels or prediction_labels:
            raise VolumeError(f"Labels of lungs were given for the set '{label_set.name}'; leave them out.")
        return _of_set(prediction, reference, label_set, metrics, tolerance_mm, name)
    prediction, reference, notes = with_one_extent(
        replace(prediction, extent=None) if prediction_labels else prediction,
        replace(reference, extent=None) if reference_labels else reference,
    )
    expected, guessed_reference, notes_on_reference = with_sides(reference, reference_labels, "reference")
    predicted, guessed_prediction, notes_on_prediction = with_sides(prediction, prediction_labels, "prediction")
    common = on_common_grid(reference, expected, prediction, predicted)
    structures, notes_on_sides = comparable_structures(
        joint_counts(common.reference_kji, common.prediction_kji), guessed_reference, guessed_prediction
    )
    notes += [*notes_on_reference, *notes_on_prediction, *notes_on_sides]
    notes += missing_sides(expected, reference_labels, "reference")
    notes += missing_sides(predicted, prediction_labels, "prediction")
    return _compared(_Comparison(name or reference.name, common, structures), metrics, tolerance_mm, notes)


def _of_set(
    prediction: Volume,
    reference: Volume,
    label_set: LabelSet,
    metrics: Sequence[Metric],
    tolerance_mm: float,
    name: str | None,
) -> Evaluation:
    expected, expected_notes = set_codes(reference, label_set)
    predicted, predicted_notes = set_codes(prediction, label_set)
    common = on_common_grid(reference, expected, prediction, predicted, "structures")
    comparison = _Comparison(name or reference.name, common, set_structures(label_set))
    return _compared(comparison, metrics, tolerance_mm, [*expected_notes, *predicted_notes])


def _compared(
    comparison: _Comparison, metrics: Sequence[Metric], tolerance_mm: float, label_notes: Sequence[str]
) -> Evaluation:
    per_slice = comparison.slice_table(metrics, tolerance_mm)
    per_volume = comparison.volume_table(metrics, tolerance_mm)
    notes = [*comparison.common.notes, *label_notes, *comparison.exclusion_notes(per_slice)]
    for note in notes:
        logger.info("%s: %s", comparison.name, note)
    return Evaluation(
        comparison.name,
        per_slice,
        per_volume,
        tuple(notes),
        comparison.worst_slices(),
        tolerance_mm,
        comparison.plane,
        comparison.has_mm,
    )


def check_tolerance(tolerance_mm: float) -> None:
    """Refuse a tolerance of the surface Dice that is not a positive length.

    Raises:
        SettingsError: zero, negative, infinite or NaN.
    """
    if not 0 < tolerance_mm < inf:
        raise SettingsError(f"Tolerance {tolerance_mm:g} mm is not a positive length; 2 mm is usual.")


class _Comparison:
    """Codes of both labelmaps in display orientation, and how to measure them."""

    def __init__(self, name: str, common: CommonGrid, structures: Structures) -> None:
        self.name, self.common, self.plane = name, common, axial_plane(common.frame)
        self.structures = structures
        *_, self.together = structures
        self.expected = np.ascontiguousarray(self.plane.to_display(common.reference_kji))
        self.predicted = np.ascontiguousarray(self.plane.to_display(common.prediction_kji))
        self.has_mm = common.frame.has_physical_spacing
        self.spacing_mm = (self.plane.slice_spacing_mm, *self.plane.spacing_hw_mm) if self.has_mm else None
        self.first_index = common.first_kji[self.plane.axes[0]]

    def slice_table(self, metrics: Sequence[Metric], tolerance_mm: float) -> pd.DataFrame:
        metrics = [metric for metric in metrics if metric.per_slice]
        spacing_mm = self.spacing_mm and self.spacing_mm[1:]
        rows = []
        for structure in self.structures:
            expected, predicted = self._masks(structure)
            for number, pair in enumerate(zip(expected, predicted, strict=True)):
                place = {"slice": number, "array_index": self._array_index(number)}
                rows.append(self._row(structure, place, pair, metrics, spacing_mm, tolerance_mm))
        return pd.DataFrame(rows)

    def volume_table(self, metrics: Sequence[Metric], tolerance_mm: float) -> pd.DataFrame:
        place = {"slices": len(self.expected)}
        table = pd.DataFrame(
            self._row(structure, place, self._masks(structure), metrics, self.spacing_mm, tolerance_mm)
            for structure in self.structures
        )
        voxel_ml = np.prod(self.spacing_mm) / 1000 if self.spacing_mm else nan
        after = table.columns.get_loc("prediction_voxels") + 1
        table.insert(after, "reference_ml", table["reference_voxels"] * voxel_ml)
        table.insert(after + 1, "prediction_ml", table["prediction_voxels"] * voxel_ml)
        return table

    def exclusion_notes(self, per_slice: pd.DataFrame) -> list[str]:
        empty = per_slice.loc[per_slice["structure"] == self.together, "empty"]
        what = "lung" if self.together == BOTH else "structure"
        notes = (
            [f"{empty.sum()} of {len(empty)} slices have no {what} in either labelmap: left out."]
            if empty.any()
            else []
        )
        if not self.has_mm:
            notes.append(
                "The reference has no physical spacing: distances are in pixels, metrics in mm and ml undefined."
            )
        return notes

    def worst_slices(self) -> tuple[ComparedSlice, ...]:
        expected, predicted = self._masks(self.together)
        scores = np.array([dice(*pair) for pair in zip(expected, predicted, strict=True)])
        height, width = self.plane.spacing_hw_mm
        return tuple(
            ComparedSlice(
                self.name,
                int(number),
                self.expected[number].copy(),
                self.predicted[number].copy(),
                height / width,
                {"dice": scores[number], "jaccard": jaccard(expected[number], predicted[number])},
            )
            for number in np.argsort(scores, kind="stable")[:WORST_KEPT]
            if not np.isnan(scores[number])
        )

    def _masks(self, structure: str) -> tuple[np.ndarray, np.ndarray]:
        values = self.structures[structure]
        return structure_mask(self.expected, values), structure_mask(self.predicted, values)

    def _array_index(self, number: int) -> int:
        index = len(self.expected) - 1 - number if self.plane.flips[0] else number
        return index - self.first_index

    def _row(
        self,
        structure: str,
        place: dict[str, int],
        pair: tuple[np.ndarray, np.ndarray],
        metrics: Sequence[Metric],
        spacing_mm: Sequence[float] | None,
        tolerance_mm: float,
    ) -> dict[str, object]:
        voxels = [int(np.count_nonzero(mask)) for mask in pair]
        empty = not any(voxels)
        values = dict.fromkeys((metric.name for metric in metrics), nan)
        if not empty:
            values = measure_all(metrics, *pair, spacing_mm, tolerance_mm)
        if spacing_mm is None:
            values |= self._in_pixels(metrics, pair)
        return {
            "volume": self.name,
            "structure": structure,
            **place,
            "reference_voxels": voxels[0],
            "prediction_voxels": voxels[1],
            "empty": empty,
            **values,
        }

    def _in_pixels(self, metrics: Sequence[Metric], pair: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
        distances = in_pixels(metrics)
        return measure_all(distances, *pair, (1.0,) * pair[0].ndim) if distances else {}


def lowest_slices(evaluations: Sequence[Evaluation], count: int) -> list[ComparedSlice]:
    """The slices with the lowest Dice of all cases, worst first."""
    return sorted((one for each in evaluations for one in each.worst), key=lambda one: one.scores["dice"])[:count]


def with_distinct_names(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The same evaluations, with a number after names that occur again, so that tables keep them apart."""
    seen: dict[str, int] = {}
    distinct = []
    for one in evaluations:
        seen[one.name] = seen.get(one.name, 0) + 1
        distinct.append(one if seen[one.name] == 1 else _renamed(one, f"{one.name} ({seen[one.name]})"))
    return distinct


def _renamed(one: Evaluation, name: str) -> Evaluation:
    return replace(
        one,
        name=name,
        per_slice=one.per_slice.assign(volume=name),
        per_volume=one.per_volume.assign(volume=name),
        worst=tuple(replace(worst, volume=name) for worst in one.worst),
    )
