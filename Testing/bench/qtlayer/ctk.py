"""Slicer's flat module ``ctk``: the widgets of the Common Toolkit that scripted modules use."""

# ruff: noqa: F401
from __future__ import annotations

from bench.qtlayer.ctk_buttons import (
    ctkCheckablePushButton,
    ctkCheckBox,
    ctkCollapsibleButton,
    ctkColorPickerButton,
    ctkMenuButton,
    ctkPushButton,
)
from bench.qtlayer.ctk_numbers import (
    ctkDoubleRangeSlider,
    ctkDoubleSlider,
    ctkDoubleSpinBox,
    ctkRangeWidget,
    ctkSliderWidget,
)
from bench.qtlayer.ctk_texts import ctkComboBox, ctkDirectoryButton, ctkMessageBox, ctkPathLineEdit, ctkWidgetsUtils
