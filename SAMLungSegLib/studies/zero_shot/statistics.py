"""The zero-shot paper's statistics: over the slices of all volumes, and over volumes.

A table of slices has one row for each slice of the study, with the columns subset, volume, slice, empty (bool: the
reference has no lung there), jaccard and dice.
"""

from __future__ import annotations

import pandas as pd

from SAMLungSegLib.evaluation.tables import SLICES, VOLUME_MEANS, summarise_tables

METRICS = ("jaccard", "dice")
STATISTICS = {"min": "min", "max": "max", "mean": "mean", "sd": "SD"}
ALL = "all"


def groups_of(per_slice: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The slices of all images, and of each subset where there are several."""
    subsets = dict(iter(per_slice.groupby("subset", sort=False)))
    return subsets if len(subsets) == 1 else {ALL: per_slice, **subsets}


def slice_statistics(per_slice: pd.DataFrame) -> pd.DataFrame:
    """The paper's table 1: statistics over all slices with lung, in percent.

    Returns:
        One row for each of `groups_of`: Images, slices (how many) and, for each metric, min, max, mean and SD (sample).
    """
    return _table_1(per_slice, SLICES, "slices")


def volume_mean_statistics(per_slice: pd.DataFrame) -> pd.DataFrame:
    """The same over volumes, so that each weighs alike: statistics of the means over the slices of each volume.

    A further column for each metric has the mean of the standard deviations within volumes, which the paper's text
    quotes.
    """
    table = _table_1(per_slice, VOLUME_MEANS, "images")
    by_group = [volume_table(group) for group in groups_of(per_slice).values()]
    for metric in METRICS:
        within = [100 * volumes[f"{metric}_sd"].mean() for volumes in by_group]
        table.insert(table.columns.get_loc(f"{metric.capitalize()} SD [%]") + 1, _within(metric), within)
    return table


def _within(metric: str) -> str:
    return f"{metric.capitalize()} SD within [%]"


def _table_1(per_slice: pd.DataFrame, scope: str, counted: str) -> pd.DataFrame:
    rows = []
    for name, group in groups_of(per_slice).items():
        measured = group[["volume", "empty", *METRICS]].assign(structure="both lungs")
        summary = summarise_tables(measured).query("scope == @scope").set_index("metric")
        row = {"Images": name, counted: int(summary["n"].max())}
        for metric in METRICS:
            for statistic, title in STATISTICS.items():
                row[f"{metric.capitalize()} {title} [%]"] = 100 * float(summary.loc[metric, statistic])
        rows.append(row)
    return pd.DataFrame(rows)


def volume_table(per_slice: pd.DataFrame) -> pd.DataFrame:
    """One row for each volume: slices, slices with lung, and min, max, mean and SD (sample) of each metric over these.

    Volumes without lung have NaN.
    """
    by_volume = per_slice.groupby(["subset", "volume"], sort=False)
    table = by_volume.agg(slices=("empty", "size"), empty=("empty", "sum"))
    table.insert(1, "slices_with_lung", table["slices"] - table.pop("empty"))
    for metric in METRICS:
        statistics = by_volume[metric].agg(min="min", max="max", mean="mean", sd="std")
        table = table.join(statistics.add_prefix(f"{metric}_"))
    return table.reset_index()


def step_statistics(ablation: pd.DataFrame) -> pd.DataFrame:
    """Mean and SD (sample) of each metric for each step, in percent.

    Args:
        ablation: columns step, jaccard, dice; one row for each slice and step.
    """
    by_step = ablation.groupby("step", sort=False)
    table = by_step.agg(slices=("dice", "size"))
    for metric in METRICS:
        table[f"{metric.capitalize()} mean [%]"] = 100 * by_step[metric].mean()
        table[f"{metric.capitalize()} SD [%]"] = 100 * by_step[metric].std()
    return table.reset_index().rename(columns={"step": "Prompts"})
