"""Several readers' labelmaps of one case: their consensus, by majority or STAPLE, and how well they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.evaluation.grids import on_common_grid
from SAMLungSegLib.evaluation.intervals import Bootstrap
from SAMLungSegLib.evaluation.sides import (
    BOTH,
    SIDELESS,
    Structures,
    is_one_mask_of_both,
    joint_counts,
    set_codes,
    set_structures,
    sides_look_exchanged,
    structure_mask,
)
from SAMLungSegLib.evaluation.splitting import with_sides
from SAMLungSegLib.evaluation.tables import metric_text, metric_title, with_interval
from SAMLungSegLib.metrics import dice, jaccard
from SAMLungSegLib.structures import LUNGS, LabelSet, Structure
from SAMLungSegLib.volume import Volume

Method = Literal["majority", "staple"]
METHODS: tuple[Method, ...] = get_args(Method)
CONSENSUS = "consensus"

_ONE_MASK = LabelSet("lungs", (Structure("lungs", "lungs", ("39607008", "Lung"), (128, 174, 128)),))
_PROBABLE = 0.5
_OVERLAPS = ("Dice", "Jaccard")


@dataclass(frozen=True, eq=False)
class Readings:
    """Labelmaps of several readers on one grid.

    Attributes:
        name: of the case.
        frame: gives the grid: the first reader's, continued as far as the others reach.
        codes: uint8 (K, J, I) by reader, in labels of the set.
        label_set: what the codes stand for: the lungs, or both as one where a reader does not tell them apart.
        notes: on grids and labels, with the reader where it is about one.
    """

    name: str
    frame: Volume
    codes: Mapping[str, np.ndarray]
    label_set: LabelSet
    notes: tuple[str, ...] = ()

    @property
    def structures(self) -> Structures:
        """Each structure of the set, and, where there are several, all of them together."""
        named = set_structures(self.label_set)
        together = BOTH if self.label_set in (LUNGS, _ONE_MASK) else list(named)[-1]
        single = {name: values for name, values in list(named.items())[:-1] if len(self.label_set) > 1}
        return {**single, together: self.label_set.labels}


@dataclass(frozen=True, eq=False)
class Consensus:
    """What several readers have in common.

    Attributes:
        labelmap_kji: uint8, in labels of the readings' set.
        performance: of STAPLE, one row for each reader and structure: case, reader, structure, sensitivity,
            specificity, as it estimates them; no rows of a majority.
    """

    labelmap_kji: np.ndarray
    performance: pd.DataFrame


def readings_of(labelmaps: Mapping[str, Volume], *, name: str, label_set: LabelSet = LUNGS) -> Readings:
    """Labelmaps of several readers on one grid.

    Args:
        labelmaps: by reader, two or more; the first one's grid is kept, and the others are resampled to it by nearest
            neighbour where they are on another.
        name: of the case.
        label_set: what the labels stand for.
    Raises:
        SettingsError: fewer than two readers.
        GeometryError: grids do not overlap, or differ and have no physical spacing.
        VolumeError: something is not a labelmap of the set.
    """
    if len(labelmaps) < 2:
        raise SettingsError(f"Labelmaps of {len(labelmaps)} reader(s) were given; a consensus needs two or more.")
    notes: list[str] = []
    codes: dict[str, np.ndarray] = {}
    guessed: dict[str, tuple[int, ...]] = {}
    for reader, labelmap in labelmaps.items():
        codes[reader], guessed[reader], said = _codes(labelmap, label_set)
        notes += [f"{reader}: {note}" for note in said]
    frame, codes, said = _on_one_grid(labelmaps, codes)
    has_sides = label_set != LUNGS or _tell_sides(codes, guessed)
    if not has_sides:
        codes = {reader: (one > 0).astype(np.uint8) for reader, one in codes.items()}
        notes.append("A reader does not tell right from left: both lungs are one structure.")
    elif label_set == LUNGS and any((one == SIDELESS).any() for one in codes.values()):
        notes.append("Lung of unknown side is left out.")
        codes = {reader: np.where(one == SIDELESS, 0, one).astype(np.uint8) for reader, one in codes.items()}
    if has_sides and label_set == LUNGS:
        notes += _exchanged(codes)
    return Readings(name, frame, codes, label_set if has_sides else _ONE_MASK, (*notes, *said))


def _codes(labelmap: Volume, label_set: LabelSet) -> tuple[np.ndarray, tuple[int, ...], list[str]]:
    """Codes, the values whose side was guessed, and notes."""
    if label_set == LUNGS:
        return with_sides(labelmap, None, "labelmap")
    codes, notes = set_codes(labelmap, label_set)
    return np.where(codes > len(label_set), 0, codes).astype(np.uint8), (), notes


def _tell_sides(codes: Mapping[str, np.ndarray], guessed: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether all readers do. A single label, 1 or 2, is of that side unless it covers both lungs of another reader."""
    certain = [reader for reader, values in guessed.items() if not values or {*values} >= {*LUNGS.labels}]
    doubtful = [reader for reader in guessed if reader not in certain]
    if not doubtful:
        return True
    sided = [reader for reader in certain if codes[reader].any()]
    return bool(sided) and not any(
        guessed[reader][0] not in LUNGS.labels or is_one_mask_of_both(joint_counts(codes[sided[0]], codes[reader]))
        for reader in doubtful
    )


def _exchanged(codes: Mapping[str, np.ndarray]) -> list[str]:
    """A note that names the fewer readers whose right lung lies where others have the left one."""
    readers = [reader for reader, one in codes.items() if one.any()]
    against = [reader for reader in readers if sides_look_exchanged(joint_counts(codes[readers[0]], codes[reader]))]
    if not against:
        return []
    with_first = [reader for reader in readers if reader not in against]
    fewer, more = sorted((against, with_first), key=len)
    return [
        f"Right and left of {', '.join(fewer)} look exchanged against {', '.join(more)}: check the labels, 1 is the "
        "patient's right lung and 2 the left."
    ]


def _on_one_grid(
    labelmaps: Mapping[str, Volume], codes: Mapping[str, np.ndarray]
) -> tuple[Volume, dict[str, np.ndarray], list[str]]:
    (first, frame), *others = labelmaps.items()
    placed, notes = {first: codes[first]}, []
    for reader, labelmap in others:
        common = on_common_grid(frame, placed[first], labelmap, codes[reader])
        placed = {one: _padded(array, common.first_kji, common.frame.size_kji) for one, array in placed.items()}
        placed[reader] = common.prediction_kji
        frame = common.frame
        notes += [f"{reader}: {_in_words_of_readers(note)}" for note in common.notes]
    return frame, placed, notes


def _in_words_of_readers(note: str) -> str:
    return (
        note.replace("The prediction", "The labelmap")
        .replace("the prediction", "the labelmap")
        .replace("reference", "first reader")
    )


def _padded(array_kji: np.ndarray, first_kji: Sequence[int], size_kji: Sequence[int]) -> np.ndarray:
    ends = zip(first_kji, size_kji, array_kji.shape, strict=True)
    return np.pad(array_kji, [(first, size - length - first) for first, size, length in ends])


def consensus_of(readings: Readings, method: Method = "majority") -> Consensus:
    """The consensus of the readers.

    By majority, a voxel has a label that more than half of the readers gave it; with two readers both must agree. By
    STAPLE, it has the structure whose probability is the largest, and more than a half.

    Args:
        readings: on one grid.
        method: 'majority' or 'staple'.
    Raises:
        SettingsError: another method.
    Source: Warfield, Zou and Wells (2004), doi:10.1109/TMI.2004.828354, each structure by itself, by SimpleITK.
    """
    if method == "majority":
        return Consensus(_majority(list(readings.codes.values()), readings.label_set), pd.DataFrame())
    if method == "staple":
        return _staple(readings)
    raise SettingsError(f"There is no consensus by '{method}'; choose one of {', '.join(METHODS)}.")


def _majority(codes: Sequence[np.ndarray], label_set: LabelSet) -> np.ndarray:
    labelmap = np.zeros(codes[0].shape, np.uint8)
    for label in label_set.labels:
        votes = np.zeros(labelmap.shape, np.uint16)
        for one in codes:
            votes += one == label
        labelmap[votes * 2 > len(codes)] = label
    return labelmap


def _staple(readings: Readings) -> Consensus:
    labelmap = np.zeros(readings.frame.size_kji, np.uint8)
    best = np.full(labelmap.shape, _PROBABLE)
    rows = []
    for label, structure in readings.label_set:
        masks = [(one == label).astype(np.uint8) for one in readings.codes.values()]
        if not any(mask.any() for mask in masks):
            continue
        staple = sitk.STAPLEImageFilter()
        staple.SetForegroundValue(1)
        probability = sitk.GetArrayFromImage(staple.Execute([sitk.GetImageFromArray(mask) for mask in masks]))
        is_more = probability > best
        labelmap[is_more], best[is_more] = label, probability[is_more]
        estimates = zip(readings.codes, staple.GetSensitivity(), staple.GetSpecificity(), strict=True)
        rows += [
            {
                **{"case": readings.name, "reader": reader, "structure": structure.name},
                **{"sensitivity": sensitivity, "specificity": specificity},
            }
            for reader, sensitivity, specificity in estimates
        ]
    return Consensus(labelmap, pd.DataFrame(rows))


def reader_agreement(readings: Readings, labelmap_kji: np.ndarray | None = None) -> pd.DataFrame:
    """Overlap of each two readers.

    Args:
        readings: on one grid.
        labelmap_kji: their consensus, with which each reader is compared, too.
    Returns:
        One row for each structure and two readers: case, structure, first, second, dice, jaccard (NaN where neither
        has the structure).
    """
    codes = dict(readings.codes)
    if labelmap_kji is not None:
        codes[CONSENSUS] = labelmap_kji
    rows = []
    for structure, values in readings.structures.items():
        masks = {reader: structure_mask(one, values) for reader, one in codes.items()}
        for first, second in combinations(masks, 2):
            pair = masks[first], masks[second]
            rows.append(
                {
                    **{"case": readings.name, "structure": structure, "first": first, "second": second},
                    **{"dice": dice(*pair), "jaccard": jaccard(*pair)},
                }
            )
    return pd.DataFrame(rows)


def summarise_agreement(
    agreement: pd.DataFrame, *, patients: Mapping[str, str] | None = None, bootstrap: Bootstrap | None = None
) -> pd.DataFrame:
    """Means over cases of `reader_agreement`, with their intervals.

    Args:
        agreement: of all cases.
        patients: of cases, by name; a case that is not there is of a patient of its own.
        bootstrap: how intervals are found.
    Returns:
        One row for each structure, two readers and metric: structure, first, second, metric, n, mean, sd, mean_low,
        mean_high.
    """
    patients, bootstrap = patients or {}, bootstrap or Bootstrap()
    rows = []
    for (structure, first, second), group in agreement.groupby(["structure", "first", "second"], sort=False):
        for metric in ("dice", "jaccard"):
            finite = group[np.isfinite(group[metric])]
            low, high = bootstrap.of_mean(
                finite[metric].to_numpy(float), [patients.get(case, case) for case in finite["case"]]
            )
            rows.append(
                {
                    **{"structure": structure, "first": first, "second": second, "metric": metric, "n": len(finite)},
                    **{"mean": finite[metric].mean(), "sd": finite[metric].std(ddof=1)},
                    **{"mean_low": low, "mean_high": high},
                }
            )
    return pd.DataFrame(rows)


def readable_agreement_of_readers(summary: pd.DataFrame) -> pd.DataFrame:
    """A table of `summarise_agreement` as text, one row for each structure and two readers."""
    rows = []
    for (structure, first, second), group in summary.groupby(["structure", "first", "second"], sort=False):
        texts = {
            metric_title(row["metric"]): with_interval(
                *(metric_text(row["metric"], row[name]) for name in ("mean", "mean_low", "mean_high"))
            )
            for _, row in group.iterrows()
        }
        rows.append({"Structure": structure, "Of": f"{first}, {second}", "n": int(group["n"].max()), **texts})
    return pd.DataFrame(rows).rename(columns=lambda name: f"{name} (95 % interval)" if name in _OVERLAPS else name)
