"""The strip: one column for each slice, drawn into a label; a click goes to the slice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import qt
from slicer.i18n import tr as _

from SAMLungSegLib.interaction import Timeline

HEIGHT = 56
_LOCKS, _PROMPTS, _BARS, _REFERENCE = (0, 7), (8, 13), (15, 45), (48, 55)  # rows of pixels, first and last
_LOCKED, _PROMPTED = (58, 118, 214), (224, 160, 0)
_CALM, _DOUBTFUL, _UNKNOWN = (150, 150, 150), (214, 90, 20), (150, 150, 150)
_DISAGREES = (200, 30, 30)
_LEAST = 4  # pixels of the lowest bar


class StripPicture(qt.QObject):
    """Bars are high where a slice is doubtful: by the model's own estimate, as a rank within the volume."""

    def __init__(self, label: Any, goTo: Callable[[int], None]) -> None:
        """Draws into a label, which is empty until `show`.

        Args:
            label: as wide as it likes.
            goTo: gets the number of the slice that was clicked, or dragged to.
        """
        super().__init__()
        self._label, self._goTo = label, goTo
        self._count = 0
        self._shown: tuple[Timeline, int | None] | None = None
        label.setMinimumHeight(HEIGHT)
        label.setCursor(qt.QCursor(qt.Qt.PointingHandCursor))
        label.installEventFilter(self)

    def clear(self) -> None:
        """Show nothing."""
        self._count, self._shown = 0, None
        self._label.clear()

    def show(self, timeline: Timeline, current: int | None) -> None:
        """Draw the slices, and a line where the view is."""
        self._count, self._shown = len(timeline.ranks), (timeline, current)
        width = max(self._label.width, 100)
        ratio = float(self._label.devicePixelRatioF())
        picture = qt.QPixmap(round(width * ratio), round(HEIGHT * ratio))
        picture.setDevicePixelRatio(ratio)
        picture.fill(qt.QColor(0, 0, 0, 0))
        painter = qt.QPainter(picture)
        doubtful = set(timeline.doubtful)
        for number in range(self._count):
            self._drawSlice(painter, timeline, number, width, number in doubtful)
        if current is not None:
            left, right = self._columns(current, width)
            painter.setPen(qt.QPen(self._label.palette.color(qt.QPalette.WindowText), 1))
            painter.drawRect(int(left) - 1, 0, max(int(right - left), 1) + 1, HEIGHT - 1)
        painter.end()
        self._label.setPixmap(picture)
        self._label.toolTip = _tip(timeline, current)

    def eventFilter(self, _watched: Any, event: Any) -> bool:
        """A press, or a drag with the button down, shows the slice below the mouse; a new width is drawn on."""
        if event.type() == qt.QEvent.Resize and self._shown is not None:
            self.show(*self._shown)
        isPress = event.type() == qt.QEvent.MouseButtonPress
        isDrag = event.type() == qt.QEvent.MouseMove and bool(event.buttons() & qt.Qt.LeftButton)
        if not self._count or not (isPress or isDrag):
            return False
        place = event.position() if hasattr(event, "position") else event.pos()  # Qt 6, Qt 5
        number = int(place.x() * self._count / max(self._label.width, 1))
        self._goTo(min(max(number, 0), self._count - 1))
        return True

    def _columns(self, number: int, width: int) -> tuple[float, float]:
        return number * width / self._count, (number + 1) * width / self._count

    def _drawSlice(self, painter: Any, timeline: Timeline, number: int, width: int, isDoubtful: bool) -> None:
        left, right = self._columns(number, width)
        across = left, max(right - left - (1 if width >= 4 * self._count else 0), 1)
        if timeline.locked[number]:
            _fill(painter, across, _LOCKS, _LOCKED)
        if timeline.prompted[number]:
            _fill(painter, across, _PROMPTS, _PROMPTED)
        rank = timeline.ranks[number]
        if not np.isnan(rank):
            top = _BARS[1] - _LEAST - (1 - rank) * (_BARS[1] - _BARS[0] - _LEAST)
            _fill(painter, across, (top, _BARS[1]), _DOUBTFUL if isDoubtful else _CALM)
        if not np.isnan(timeline.disagreement[number]):
            opacity = min(1.0, 0.1 + 3 * float(timeline.disagreement[number]))
            _fill(painter, across, _REFERENCE, _DISAGREES, opacity)


def _fill(
    painter: Any,
    across: tuple[float, float],
    rows: tuple[float, float],
    color: tuple[int, int, int],
    opacity: float = 1.0,
) -> None:
    left, width = across
    area = qt.QRectF(left, rows[0], width, rows[1] - rows[0] + 1)
    painter.fillRect(area, qt.QColor(*color, round(255 * opacity)))


def _tip(timeline: Timeline, current: int | None) -> str:
    lines = [
        _("One column for each slice, inferior at the left; click to go there."),
        _("Grey and orange: how much is expected to be wrong, as a rank within this volume; orange comes first."),
        _("Blue: locked ({count}). Yellow: with prompts.").format(count=int(timeline.locked.sum())),
    ]
    if not np.isnan(timeline.disagreement).all():
        lines.append(_("Red below: unlike the reference."))
    if current is not None:
        lines.insert(0, _("Slice {number} of {count}").format(number=current + 1, count=len(timeline.ranks)))
    return "\n".join(lines)
