"""CTK's sliders and spin boxes."""

from __future__ import annotations

import qt
from PySide6.QtCore import Property, Signal

from bench.qtlayer.custom import custom_widget, forwarded, kept


@custom_widget
class ctkDoubleSpinBox(qt.QDoubleSpinBox):
    """A spin box."""


def _spin_property(name: str, kind: type) -> Property:
    def write(self: ctkSliderWidget, value: float) -> None:
        setattr(self._spin, name, value)
        self._follow()

    return Property(kind, lambda self: getattr(self._spin, name), write)


@custom_widget
class ctkSliderWidget(qt.QWidget):
    """A slider with a spin box; the value has as many decimals as the spin box shows."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)

    pageStep = kept("pageStep", float, 10.0)
    tickInterval = kept("tickInterval", float, 0.0)
    popupSlider = kept("popupSlider", bool, False)
    spinBoxVisible = forwarded("_spin", "visible", bool)
    suffix = forwarded("_spin", "suffix", str)
    prefix = forwarded("_spin", "prefix", str)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = qt.QSlider(qt.Qt.Horizontal, self)
        self._spin = qt.QDoubleSpinBox(self)
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin)
        self._tracking, self._reported = True, 0.0
        self._spin.setRange(0, 99)
        self._follow()
        self._spin.valueChanged.connect(self._onSpin)
        self._slider.valueChanged.connect(self._onSlider)
        self._slider.sliderReleased.connect(self._report)

    def spinBox(self) -> qt.QDoubleSpinBox:
        return self._spin

    def slider(self) -> qt.QSlider:
        return self._slider

    def setRange(self, minimum: float, maximum: float) -> None:
        self._spin.setRange(minimum, maximum)
        self._follow()

    def reset(self) -> None:
        self.value = self.minimum

    def _onSpin(self, value: float) -> None:
        self._follow()
        self.valueIsChanging.emit(value)
        if self._tracking or not self._slider.sliderDown:
            self._report()

    def _onSlider(self, position: int) -> None:
        self._spin.value = self._spin.minimum + position * self._spin.singleStep

    def _report(self) -> None:
        if self._reported != self._spin.value:
            self._reported = self._spin.value
            self.valueChanged.emit(self._reported)

    def _follow(self) -> None:
        step = self._spin.singleStep or 1.0
        blocked = self._slider.blockSignals(True)
        self._slider.setRange(0, min(round((self._spin.maximum - self._spin.minimum) / step), 2**31 - 1))
        if not self._slider.sliderDown:
            self._slider.value = round((self._spin.value - self._spin.minimum) / step)
        self._slider.blockSignals(blocked)

    value = _spin_property("value", float)
    minimum = _spin_property("minimum", float)
    maximum = _spin_property("maximum", float)
    singleStep = _spin_property("singleStep", float)
    decimals = _spin_property("decimals", int)
    tracking = Property(
        bool, lambda self: self._tracking, lambda self, value: self.__dict__.__setitem__("_tracking", value)
    )


@custom_widget
class ctkDoubleSlider(ctkSliderWidget):
    """A slider of real numbers."""


@custom_widget
class ctkRangeWidget(qt.QWidget):
    """Two values within a range."""

    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    singleStep = kept("singleStep", float, 1.0)
    decimals = kept("decimals", int, 2)
    suffix = kept("suffix", str, "")

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._range = self._values = (0.0, 99.0)

    def setRange(self, minimum: float, maximum: float) -> None:
        self._range = (minimum, maximum)
        self.setValues(*self._values)

    def setValues(self, low: float, high: float) -> None:
        values = (max(low, self._range[0]), min(high, self._range[1]))
        if values != self._values:
            self._values = values
            self.valuesChanged.emit(*values)

    minimum = Property(float, lambda self: self._range[0], lambda self, value: self.setRange(value, self._range[1]))
    maximum = Property(float, lambda self: self._range[1], lambda self, value: self.setRange(self._range[0], value))
    minimumValue = Property(
        float, lambda self: self._values[0], lambda self, value: self.setValues(value, self._values[1])
    )
    maximumValue = Property(
        float, lambda self: self._values[1], lambda self, value: self.setValues(self._values[0], value)
    )


@custom_widget
class ctkDoubleRangeSlider(ctkRangeWidget):
    """A slider with two handles."""
