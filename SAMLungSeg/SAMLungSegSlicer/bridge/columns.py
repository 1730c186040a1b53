"""Titles and units of table columns, for people; the names that scripts use stay as they are."""

from __future__ import annotations

from typing import NamedTuple

import slicer
from slicer.i18n import tr as _


class Heading(NamedTuple):
    """What stands above a column.

    Attributes:
        title: with the unit in brackets, where there is one.
        unit: alone; empty without one.
    """

    title: str
    unit: str = ""


def headingOf(name: str) -> Heading:
    """The heading of a column by its name; unknown names are made readable: 'mean_grey' becomes 'Mean grey'."""
    known = {**_sizes(), **_metrics(), **_others()}
    if name in known:
        return known[name]
    metric, _separator, side = name.rpartition("_")
    if metric in _metrics() and side in _sides():
        measured = _metrics()[metric]
        return Heading(f"{measured.title}, {_sides()[side]}", measured.unit)
    words = name.replace("_", " ")
    return Heading(words[:1].upper() + words[1:])


def setHeadings(tableNode: slicer.vtkMRMLTableNode) -> None:
    """Give every column of a table its title and unit, and have views show the titles."""
    tableNode.SetUseColumnTitleAsColumnHeader(True)
    for column in range(tableNode.GetNumberOfColumns()):
        name = tableNode.GetColumnName(column)
        heading = headingOf(name)
        tableNode.SetColumnTitle(name, heading.title)
        tableNode.SetColumnUnitLabel(name, heading.unit)


def _with(title: str, unit: str) -> Heading:
    return Heading(f"{title} ({unit})" if unit else title, unit)


def _lungs() -> dict[str, str]:
    return {"right": _("Right lung"), "left": _("Left lung"), "both": _("Both lungs")}


def _sides() -> dict[str, str]:
    return {"right": _("right"), "left": _("left"), "both": _("both")}


def _metrics() -> dict[str, Heading]:
    from SAMLungSegLib.metrics import METRICS

    return {metric.name: _with(metric.title, metric.unit) for metric in METRICS}


def _sizes() -> dict[str, Heading]:
    """Of lungs, of a reference and what is compared with it."""
    what = {**_lungs(), "reference": _("Reference"), "prediction": _("Segmentation"), "volume": _("Volume")}
    units = {"ml": "ml", "voxels": _("voxels")}
    return {f"{one}_{key}": _with(title, unit) for one, title in what.items() for key, unit in units.items()}


def _numbers() -> dict[str, Heading]:
    """Of lungs, see docs/statistics.md."""
    return {
        "structure": Heading(_("Structure")),
        "part": Heading(_("Part")),
        "voxels": Heading(_("Voxels")),
        "right_cm2": _with(_("Right lung"), "cm²"),
        "left_cm2": _with(_("Left lung"), "cm²"),
        "area_cm2": _with(_("Area"), "cm²"),
        "height_mm": _with(_("Height"), "mm"),
        "mean_hu": _with(_("Mean density"), "HU"),
        "sd_hu": _with(_("SD of density"), "HU"),
        "perc15_hu": _with(_("Perc15"), "HU"),
        "laa950_percent": _with(_("Below -950 HU"), "%"),
        "laa910_percent": _with(_("Below -910 HU"), "%"),
        "haa_percent": _with(_("-600 to -250 HU"), "%"),
        "mass_g": _with(_("Mass"), "g"),
    }


def _others() -> dict[str, Heading]:
    """What does not read well as it is."""
    return {
        **_numbers(),
        "seconds": _with(_("Time"), "s"),
        "seconds_reading": _with(_("Reading"), "s"),
        "seconds_writing": _with(_("Writing"), "s"),
        "right_to_left": Heading(_("Right to left lung")),
        "id": Heading(_("Image")),
        "image": Heading(_("File")),
        "n": Heading("n"),
        "sd": Heading("SD"),
        "min": Heading(_("Minimum")),
        "max": Heading(_("Maximum")),
        "q1": Heading(_("Lower quartile")),
        "q3": Heading(_("Upper quartile")),
    }
