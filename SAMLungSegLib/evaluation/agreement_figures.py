"""Bland-Altman plots: the difference of two measurements by their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from SAMLungSegLib.evaluation.agreement import Agreement
from SAMLungSegLib.evaluation.figures import save_figure, shortened
from SAMLungSegLib.evaluation.intervals import Interval

_DPI = 150
_PANEL_INCHES = 4.4, 3.6
_POINT, _BIAS, _LIMIT = "#0072B2", "#000000", "#D55E00"
_NAME_LENGTH = 18
_TEXT_SHARE = 0.1  # of the height, that two lines of text take


@dataclass(frozen=True, eq=False)
class AgreementPanel:
    """One plot.

    Attributes:
        names: of the two measurements.
        unit: of both.
        first, second: (N,).
        agreement: of first - second.
    """

    names: tuple[str, str]
    unit: str
    first: np.ndarray
    second: np.ndarray
    agreement: Agreement


def bland_altman_plot(path: str | Path, panels: Sequence[AgreementPanel], *, title: str = "") -> None:
    """Draw panels side by side on one scale of differences: points, bias and limits of agreement, shaded intervals.

    Args:
        path: picture to write.
        panels: one or more.
        title: above all.
    Source: Bland and Altman (1986), doi:10.1016/S0140-6736(86)90837-8.
    """
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * len(panels) + 0.4, height + 0.4), dpi=_DPI, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for one, panel in zip(axes, panels, strict=True):
        _draw(one, panel)
    axes[0].set_ylabel(f"difference [{_unit(panels[0].unit)}]", fontsize=10)
    axes[0].margins(y=0.12)
    for one, panel in zip(axes, panels, strict=True):  # on the scale of all
        _name_lines(one, panel.agreement)
    figure.suptitle(title, fontsize=12)
    save_figure(figure, path)


def _draw(axes: Axes, panel: AgreementPanel) -> None:
    agreement, (first, second) = panel.agreement, (shortened(name, _NAME_LENGTH) for name in panel.names)
    axes.axhline(0, color="#BBBBBB", linewidth=0.8)
    _line(axes, agreement.bias, agreement.bias_interval, _BIAS, "-")
    _line(axes, agreement.upper, agreement.upper_interval, _LIMIT, "--")
    _line(axes, agreement.lower, agreement.lower_interval, _LIMIT, "--")
    axes.scatter((panel.first + panel.second) / 2, panel.first - panel.second, s=16, color=_POINT, alpha=0.8, zorder=3)
    axes.set_title(f"{first} \N{MINUS SIGN} {second}", fontsize=11)
    axes.set_xlabel(f"mean of {first} and {second} [{_unit(panel.unit)}]", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _line(axes: Axes, value: float, interval: Interval, colour: str, style: str) -> None:
    if not np.isfinite(value):
        return
    if np.isfinite(interval).all():
        axes.axhspan(*interval, color=colour, alpha=0.12, linewidth=0)
    axes.axhline(value, color=colour, linewidth=1.3, linestyle=style)


def _name_lines(axes: Axes, agreement: Agreement) -> None:
    """Names and values of the lines at the right, pushed apart where they lie closer than text is high."""
    lines = [("upper", agreement.upper, _LIMIT), ("bias", agreement.bias, _BIAS), ("lower", agreement.lower, _LIMIT)]
    lines = [line for line in lines if np.isfinite(line[1])]
    low, high = axes.get_ylim()
    gap = _TEXT_SHARE * (high - low)
    middle = (len(lines) - 1) / 2  # the bias, from which both limits are equally far
    for place, (name, value, colour) in enumerate(lines):
        steps = middle - place
        at = agreement.bias + np.sign(steps) * max(abs(value - agreement.bias), abs(steps) * gap)
        axes.text(
            *(1.01, at, f"{name}\n{value:.1f}"),
            transform=axes.get_yaxis_transform(),
            fontsize=8,
            color=colour,
            va="center",
        )


def _unit(unit: str) -> str:
    return {"cm2": "cm²", "px": "pixels"}.get(unit, unit)
