"""Slicer's own widgets (``slicer.qMRML...``, ``slicer.qSlicer...``), on the real MRML scene."""

from __future__ import annotations

import slicer

from bench.modules import ScriptedModule
from bench.qtlayer.custom import CUSTOM_WIDGETS
from bench.qtlayer.mrml import (  # noqa: F401  (importing them registers their classes)
    basic,
    nodecombobox,
    placewidget,
    plotview,
    segmentstable,
    tableview,
)


def publish() -> None:
    """Makes the widgets attributes of the module ``slicer``."""
    for name, widget in CUSTOM_WIDGETS.items():
        if name.startswith("q"):
            setattr(slicer, name, widget)
    slicer.qSlicerScriptedLoadableModule = ScriptedModule
