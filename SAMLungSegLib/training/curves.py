"""The history of a run: one row an epoch, and its curves as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from SAMLungSegLib.files import write_csv


def add_to_history(folder: Path, row: dict[str, Any]) -> None:
    """Add the row of an epoch to `history.csv`, replacing one of a run that was interrupted, and draw `history.png`."""
    path = folder / "history.csv"
    earlier = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=list(row))
    kept = earlier[earlier["epoch"] < row["epoch"]]
    history = pd.DataFrame([*kept.to_dict("records"), row])
    write_csv(history, path)
    _draw(history, folder / "history.png")


def _draw(history: pd.DataFrame, path: Path) -> None:
    from matplotlib.figure import Figure

    from SAMLungSegLib.evaluation.figures import save_figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    loss, scores = figure.subplots(1, 2)
    loss.plot(history["epoch"], history["loss"], color="black")
    loss.set(xlabel="epoch", ylabel="training loss", yscale="log")
    for name in history.columns.drop(["epoch", "loss"]):
        scores.plot(history["epoch"], history[name], label=name)
    scores.set(xlabel="epoch", ylabel="Dice, validation, no prompt")
    if scores.get_legend_handles_labels()[0]:
        scores.legend(fontsize="small")
    save_figure(figure, path)
