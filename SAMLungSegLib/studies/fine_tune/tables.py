"""Tables of the fine-tuning study, from its pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from SAMLungSegLib.models.tuned import PromptKind
from SAMLungSegLib.studies.fine_tune.study import Tuned


def fold_statistics(table: pd.DataFrame, by: Sequence[str], columns: Mapping[str, str]) -> pd.DataFrame:
    """Mean and sample SD over folds of the folds' means over slices.

    Args:
        table: with a column `fold`.
        by: columns that make the rows.
        columns: heading by column, such as {'dice_after': 'F1'}; each gives '<heading> mean' and '<heading> SD'.
    """
    means = table.groupby([*by, "fold"], sort=False)[list(columns)].mean().reset_index()
    groups = means.groupby(list(by), sort=False)[list(columns)]
    mean, deviation = groups.mean(), groups.std(ddof=1)
    parts = {}
    for column, heading in columns.items():
        parts[f"{heading} mean"], parts[f"{heading} SD"] = mean[column], deviation[column]
    return pd.DataFrame(parts).reset_index()


def threshold_table(tuned: Mapping[tuple[str, PromptKind, int], Tuned]) -> pd.DataFrame:
    """Mean validation Dice over folds: set, threshold, and a column for each kind of prompts."""
    rows = []
    for (name, kind, _), one in tuned.items():
        kept = one.result["history"][one.result["epoch"]]
        for column, value in kept.items():
            if column.startswith("dice_"):
                rows.append(
                    {"set": name, "threshold": float(column.removeprefix("dice_")), "kind": kind, "dice": value}
                )
    table = pd.DataFrame(rows).pivot_table(index=["set", "threshold"], columns="kind", values="dice", sort=False)
    return table.reset_index().rename_axis(columns=None)


def history_table(tuned: Mapping[tuple[str, PromptKind, int], Tuned]) -> pd.DataFrame:
    """The learning curves: set, prompt, fold, and the columns of a history."""
    rows = [
        {"set": name, "prompt": kind, "fold": fold + 1, **row}
        for (name, kind, fold), one in tuned.items()
        for row in one.result["history"]
    ]
    return pd.DataFrame(rows)


def best_and_worst(scores: pd.DataFrame, column: str = "dice_after") -> list[pd.Series]:
    """The rows with the highest and the lowest score."""
    return [scores.loc[scores[column].idxmax()], scores.loc[scores[column].idxmin()]]
