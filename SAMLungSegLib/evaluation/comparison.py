"""Two methods on the same cases against one reference: paired differences of all metrics, and agreement of volumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.evaluation.agreement import Agreement, limits_of_agreement, signed_rank_test
from SAMLungSegLib.evaluation.intervals import Bootstrap, Interval
from SAMLungSegLib.evaluation.measure import Evaluation
from SAMLungSegLib.evaluation.tables import metric_columns
from SAMLungSegLib.metrics import METRICS

_IN_MM = {metric.name for metric in METRICS if metric.needs_spacing}
PAIRS_OF_SIZES = (("a", "reference"), ("b", "reference"), ("a", "b"))


@dataclass(frozen=True)
class ComparedCase:
    """One case, segmented by two methods.

    Attributes:
        a, b: evaluations of both, by one reference.
        patient: whom the case is of; the case's name where each is of another patient.
    """

    a: Evaluation
    b: Evaluation
    patient: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two methods compared; all columns of tables are explained by docs/comparing.md.

    Attributes:
        names: of both methods, for readers.
        scores: one row for each case, structure and metric: case, patient, structure, metric, a, b, difference (a - b).
        sizes: one row for each case and structure: case, patient, structure, unit ('ml', 'cm2' of single slices, 'px'
            where mm are unknown), a, b, reference.
        differences: one row for each structure and metric, over the cases where it is finite for both: n, patients,
            undefined (cases that are left out), and of a, b and their difference the mean with its interval, the
            difference's median and the p value of Wilcoxon's signed-rank test.
        agreement: one row for each structure, unit and two of a, b and reference: n, patients, bias, SD, limits of
            agreement, and their intervals.
        bootstrap: how the intervals were found.
        is_clustered: whether a patient has several cases.
        notes: what was decided about grids and labels, with the case.
    """

    names: tuple[str, str]
    scores: pd.DataFrame
    sizes: pd.DataFrame
    differences: pd.DataFrame
    agreement: pd.DataFrame
    bootstrap: Bootstrap
    is_clustered: bool
    notes: tuple[tuple[str, str], ...]


def compare(
    cases: Sequence[ComparedCase], *, names: tuple[str, str] = ("A", "B"), bootstrap: Bootstrap | None = None
) -> Comparison:
    """Compare two methods on the same cases.

    Args:
        cases: of all; structures that only one of the two evaluations of a case has are left out there.
        names: of the methods.
        bootstrap: how intervals are found.
    Raises:
        VolumeError: there are no cases.
    """
    if not cases:
        raise VolumeError("No case was measured for both methods, so there is nothing to compare; give one at least.")
    bootstrap = bootstrap or Bootstrap()
    scores = pd.DataFrame([row for case in cases for row in _score_rows(case)])
    sizes = pd.DataFrame([row for case in cases for row in _size_rows(case)])
    return Comparison(
        names,
        scores,
        sizes,
        _differences(scores, bootstrap),
        _agreement_table(sizes, bootstrap),
        bootstrap,
        len({case.patient for case in cases}) < len(cases),
        tuple(_notes(cases, names)),
    )


def _score_rows(case: ComparedCase) -> Iterator[dict[str, object]]:
    a, b = (one.per_volume.set_index("structure") for one in (case.a, case.b))
    metrics = [name for name in metric_columns(case.a.per_volume) if name in case.b.per_volume]
    if not case.a.has_physical_spacing:
        metrics = [name for name in metrics if name not in _IN_MM]
    for structure in (name for name in a.index if name in b.index):
        for metric in metrics:
            values = float(a.at[structure, metric]), float(b.at[structure, metric])
            difference = values[0] - values[1] if np.isfinite(values).all() else np.nan
            yield {
                **_key(case, structure),
                **{"metric": metric, "a": values[0], "b": values[1], "difference": difference},
            }


def _size_rows(case: ComparedCase) -> Iterator[dict[str, object]]:
    a, b = (one.per_volume.set_index("structure") for one in (case.a, case.b))
    (factor_a, unit_a), (factor_b, unit_b) = _size_of_voxel(case.a), _size_of_voxel(case.b)
    if unit_a != unit_b:  # one is in pixels only, so that the other's size cannot be compared with it
        factor_a, factor_b, unit_a = 1.0, 1.0, "px"
    for structure in (name for name in a.index if name in b.index):
        yield {
            **_key(case, structure),
            "unit": unit_a,
            "a": a.at[structure, "prediction_voxels"] * factor_a,
            "b": b.at[structure, "prediction_voxels"] * factor_b,
            "reference": a.at[structure, "reference_voxels"] * factor_a,
        }


def _key(case: ComparedCase, structure: str) -> dict[str, object]:
    return {"case": case.a.name, "patient": case.patient, "structure": structure}


def _size_of_voxel(one: Evaluation) -> tuple[float, str]:
    """Of the reference's grid: ml, or cm2 of one slice, or 1 pixel."""
    plane = one.plane
    if plane is None or not one.has_physical_spacing:
        return 1.0, "px"
    if plane.size_nhw[0] == 1:
        return float(np.prod(plane.spacing_hw_mm)) / 100, "cm2"
    return float(plane.slice_spacing_mm * np.prod(plane.spacing_hw_mm)) / 1000, "ml"


def _differences(scores: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    groups = scores.groupby(["structure", "metric"], sort=False)
    return pd.DataFrame(
        {"structure": structure, "metric": metric, **_difference(group, bootstrap)}
        for (structure, metric), group in groups
    )


def _difference(group: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, float]:
    finite = group[np.isfinite(group["difference"])]
    patients = finite["patient"].tolist()
    row: dict[str, float] = {
        "n": len(finite),
        "patients": len(set(patients)),
        "undefined": len(group) - len(finite),
    }
    for name in ("a", "b", "difference"):
        values = finite[name].to_numpy(float)
        low, high = bootstrap.of_mean(values, patients)
        row |= {f"{name}_mean": finite[name].mean(), f"{name}_low": low, f"{name}_high": high}
    differences = finite["difference"].to_numpy(float)
    return row | {
        "difference_median": finite["difference"].median(),
        "p_value": signed_rank_test(differences, patients),
    }


def _agreement_table(sizes: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    groups = sizes.groupby(["structure", "unit"], sort=False)
    return pd.DataFrame(
        {"structure": structure, "unit": unit, "first": first, "second": second, **_as_row(agreement)}
        for (structure, unit), group in groups
        for first, second in PAIRS_OF_SIZES
        for agreement in [agreement_of_sizes(group, first, second, bootstrap)]
    )


def agreement_of_sizes(sizes: pd.DataFrame, first: str, second: str, bootstrap: Bootstrap) -> Agreement:
    """Of two columns of a table of sizes, of one structure and unit."""
    differences = (sizes[first] - sizes[second]).to_numpy(float)
    return limits_of_agreement(differences, sizes["patient"].tolist(), bootstrap=bootstrap)


def _as_row(one: Agreement) -> dict[str, float]:
    intervals: Mapping[str, Interval] = {
        "bias": one.bias_interval,
        "lower": one.lower_interval,
        "upper": one.upper_interval,
    }
    row: dict[str, float] = {"n": one.count, "patients": one.clusters, "bias": one.bias, "sd": one.sd}
    row |= {"lower": one.lower, "upper": one.upper}
    for name, interval in intervals.items():
        row |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return row


def _notes(cases: Sequence[ComparedCase], names: tuple[str, str]) -> Iterator[tuple[str, str]]:
    for case in cases:
        for note in case.a.notes:
            yield case.a.name, note if note in case.b.notes else f"{names[0]}: {note}"
        for note in case.b.notes:
            if note not in case.a.notes:
                yield case.a.name, f"{names[1]}: {note}"
        structures = [list(one.per_volume["structure"]) for one in (case.a, case.b)]
        if structures[0] != structures[1]:
            yield case.a.name, "The two methods do not tell the same structures apart: compared where both do."
