"""Summary statistics of evaluation tables, and tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.evaluation.intervals import Bootstrap
from SAMLungSegLib.evaluation.measure import Evaluation, with_distinct_names
from SAMLungSegLib.metrics import ALL_METRICS

SLICES = "slices"
VOLUME_MEANS = "volume means"
VOLUMES = "whole volumes"

# Columns that say what was measured; every other column of a table is a metric.
KEY_COLUMNS = (
    *("volume", "structure", "slice", "array_index", "slices", "empty"),
    *("reference_voxels", "prediction_voxels", "reference_ml", "prediction_ml"),
)
TABLES = ("per_slice", "per_volume")
STATISTICS = ("n", "mean", "sd", "mean_low", "mean_high", "min", "q1", "median", "q3", "max")


def summarise(
    evaluations: Iterable[Evaluation],
    *,
    patients: Mapping[str, str] | None = None,
    bootstrap: Bootstrap | None = None,
) -> pd.DataFrame:
    """Statistics over the slices and volumes of all evaluations; see `summarise_tables`."""
    return summarise_tables(*joined_tables(evaluations), patients=patients, bootstrap=bootstrap)


def joined_tables(evaluations: Iterable[Evaluation]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The per-slice and the per-volume table of all evaluations, with a number after names that occur again.

    Raises:
        VolumeError: there are no evaluations.
    """
    distinct = with_distinct_names(list(evaluations))
    if not distinct:
        raise VolumeError("Nothing was evaluated, so there is nothing to summarise; evaluate at least one pair.")
    return tuple(pd.concat([getattr(one, name) for one in distinct], ignore_index=True) for name in TABLES)


def summarise_tables(
    per_slice: pd.DataFrame,
    per_volume: pd.DataFrame | None = None,
    *,
    patients: Mapping[str, str] | None = None,
    bootstrap: Bootstrap | None = None,
) -> pd.DataFrame:
    """Statistics of each metric and structure.

    Args:
        per_slice: columns volume, structure, empty (bool: neither mask has a voxel) and one column for each metric.
        per_volume: the same for whole volumes, one row for each volume and structure.
        patients: of volumes, by name; a volume that is not there is of a patient of its own.
        bootstrap: how intervals are found.
    Returns:
        One row for each scope, structure and metric. Scopes: 'slices' pools the slices of all volumes;
        'volume means' averages over slices in each volume first, so that every volume weighs the same;
        'whole volumes' are the metrics of the masks in 3D. Columns: n, mean, sd (sample), the 95 % interval of the
        mean (mean_low, mean_high; by a bootstrap over patients, with all their volumes and slices; NaN where there is
        one only), min, q1, median, q3, max of the finite values; `empty`, how many were left out because both masks
        are empty; `undefined`, how many were left out otherwise (the distance to an object that is missing, or no
        spacing in mm).
    """
    scopes = [(SLICES, per_slice), (VOLUME_MEANS, _volume_means(per_slice))]
    if per_volume is not None:
        scopes.append((VOLUMES, per_volume))
    patients, bootstrap = patients or {}, bootstrap or Bootstrap()
    rows = [
        {"scope": scope, "structure": structure, "metric": metric, **_statistics(group, metric, patients, bootstrap)}
        for scope, table in scopes
        for structure, group in table.groupby("structure", sort=False)
        for metric in metric_columns(table)
    ]
    return pd.DataFrame(rows, columns=["scope", "structure", "metric", *STATISTICS, "empty", "undefined"])


def metric_columns(table: pd.DataFrame) -> list[str]:
    """Names of the columns of an evaluation table that hold metrics."""
    return [column for column in table.columns if column not in KEY_COLUMNS]


def metric_title(name: str) -> str:
    """A metric's name for readers, with its unit."""
    row = next((metric for metric in ALL_METRICS if metric.name == name), None)
    if row is None:
        return name
    return f"{row.title} [{row.unit}]" if row.unit else row.title


def _statistics(
    group: pd.DataFrame, metric: str, patients: Mapping[str, str], bootstrap: Bootstrap
) -> dict[str, float]:
    measured = group.loc[~group["empty"].astype(bool), metric]
    finite = measured[np.isfinite(measured)]
    low, high = bootstrap.of_mean(
        finite.to_numpy(float), [patients.get(name, name) for name in group.loc[finite.index, "volume"]]
    )
    q1, median, q3 = finite.quantile([0.25, 0.5, 0.75])
    return {
        "n": len(finite),
        "mean": finite.mean(),
        "sd": finite.std(ddof=1),
        "mean_low": low,
        "mean_high": high,
        "min": finite.min(),
        "q1": q1,
        "median": median,
        "q3": q3,
        "max": finite.max(),
        "empty": len(group) - len(measured),
        "undefined": len(measured) - len(finite),
    }


def _volume_means(per_slice: pd.DataFrame) -> pd.DataFrame:
    """One row for each volume and structure: the mean of each metric over the slices where it is finite."""
    metrics = metric_columns(per_slice)
    finite = per_slice.copy()
    finite[metrics] = finite[metrics].where(np.isfinite(finite[metrics])).where(~finite["empty"].astype(bool))
    groups = finite.groupby(["volume", "structure"], sort=False)
    means = groups[metrics].mean()
    means.insert(0, "empty", groups["empty"].all())
    return means.reset_index()


def readable_summary(summary: pd.DataFrame, scope: str) -> pd.DataFrame:
    """The rows of one scope with the numbers put together as text, for reports and the console."""
    rows = summary[summary["scope"] == scope]
    return pd.DataFrame(
        {
            "Structure": rows["structure"],
            "Metric": [metric_title(name) for name in rows["metric"]],
            "n": rows["n"],
            "Mean ± SD": _join(rows, "{} ± {}", "mean", "sd"),
            "95 % interval of the mean": _join(rows, "{} to {}", "mean_low", "mean_high"),
            "Median (quartiles)": _join(rows, "{} ({} to {})", "median", "q1", "q3"),
            "Range": _join(rows, "{} to {}", "min", "max"),
            "Empty": rows["empty"],
            "Undefined": rows["undefined"],
        }
    )


def readable_metrics(table: pd.DataFrame, keys: Sequence[str] = ("structure",)) -> pd.DataFrame:
    """The rows of an evaluation table with key columns and each metric as text in a column of its own."""
    readable = table[[*keys]].rename(columns=str.capitalize)
    for name in metric_columns(table):
        readable[metric_title(name)] = [metric_text(name, value) for value in table[name]]
    return readable


def readable_slice_means(summary: pd.DataFrame) -> pd.DataFrame:
    """Mean ± SD over slices: one row for each structure, the metrics as columns.

    'Slices' is the number most metrics were measured in; a metric that is undefined in some of them says its own n.
    """
    rows = summary[summary["scope"] == SLICES]
    rows = rows.assign(text=_join(rows, "{} ± {}", "mean", "sd"))
    return pd.DataFrame(_mean_row(structure, group) for structure, group in rows.groupby("structure", sort=False))


def _mean_row(structure: str, rows: pd.DataFrame) -> dict[str, object]:
    most = int(rows["n"].max())
    texts = {
        metric_title(row["metric"]): row["text"] if row["n"] in (0, most) else f"{row['text']} (n = {row['n']})"
        for _, row in rows.iterrows()
    }
    return {"Structure": structure, "Slices": most, **texts}


def _join(rows: pd.DataFrame, pattern: str, *columns: str) -> list[str]:
    lines = []
    for _, row in rows.iterrows():
        texts = [metric_text(row["metric"], row[column]) for column in columns]
        text = pattern.format(*texts).removesuffix(" ± -")
        lines.append("-" if text == "- to -" or not row["n"] else text)
    return lines


def metric_text(name: str, value: float) -> str:
    """A metric's value as text with as many decimals as its unit deserves; '-' where it is undefined."""
    if np.isnan(value):
        return "-"
    unit = next((metric.unit for metric in ALL_METRICS if metric.name == name), "")
    return f"{value:.{ {'mm': 2, 'px': 2, 'ml': 1}.get(unit, 4) }f}"


def with_interval(value: str, low: str, high: str) -> str:
    """'0.95 (0.93 to 0.97)'; the value alone where there is no interval."""
    return value if low == "-" else f"{value} ({low} to {high})"


def table_markdown(table: pd.DataFrame, decimals: int = 4) -> str:
    """A data frame as a Markdown table with aligned columns; numbers to the right, NaN as '-'."""
    columns = [[str(name), *_cells(table[name], decimals)] for name in table.columns]
    numeric = [pd.api.types.is_numeric_dtype(table[name]) for name in table.columns]
    widths = [max(3, *map(len, column)) for column in columns]
    rule = ["-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, numeric, strict=True)]
    rows = [_aligned(row, widths, numeric) for row in zip(*columns, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])) + "\n"


def _cells(values: pd.Series, decimals: int) -> list[str]:
    if pd.api.types.is_float_dtype(values):
        return ["-" if np.isnan(value) else f"{value:.{decimals}f}" for value in values]
    return [str(value).replace("|", "\\|") for value in values]


def _aligned(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> list[str]:
    rows = zip(cells, widths, numeric, strict=True)
    return [cell.rjust(width) if right else cell.ljust(width) for cell, width, right in rows]
