"""The module in a window, driven as a person drives it: the real widget at the left, real slice views at the right."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer
from PySide6.QtTest import QTest

from bench.modules import ScriptedModule

PANEL_WIDTH = 440
ON_SLICE_MM = 0.51
LABEL = "test bench"


class ModuleWindow:
    """Slicer's main window with one scripted module."""

    def __init__(
        self, widget_class: type, module_path: Path | str, size: tuple[int, int] = (1280, 800), logic: Any = None
    ) -> None:
        """Makes the widget as Slicer does, shows the window and enters the module.

        Args:
            widget_class: the module's widget class, called ``<module name>Widget``.
            module_path: path of the module's main file; its resources lie beside it.
            size: width and height of the window in pixels.
            logic: what ``slicer.modules.<name>.logic()`` answers.
        """
        self.module_name = widget_class.__name__.removesuffix("Widget")
        self._window = slicer.app.mainWindow()
        self._parent = slicer.qSlicerScriptedLoadableModuleWidget(self.module_name)
        self._parent.setLayout(qt.QVBoxLayout())
        self._parent.setMRMLScene(slicer.mrmlScene)
        slicer.app.publish_module(ScriptedModule(self.module_name, logic, str(module_path), self._parent))
        self._parent.fill(widget_class)
        self._fill(size)
        self.enter()

    def _fill(self, size: tuple[int, int]) -> None:
        opened_first = self._window.centralWidget() is None
        central, panel = qt.QWidget(), qt.QScrollArea()
        panel.setWidget(self._parent)
        panel.setWidgetResizable(True)
        panel.setFixedWidth(PANEL_WIDTH)
        panel.setHorizontalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
        layout = qt.QHBoxLayout(central)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.addWidget(panel)
        self._views = qt.QGridLayout()
        self._views.setSpacing(2)
        layout.addLayout(self._views, 1)
        self._arrange_views()
        self._window.setCentralWidget(central)
        self._window.resize(*size)
        self._window.show()
        if opened_first:  # only now the views have their size
            self.process_events()
            slicer.util.resetSliceViews()

    def _arrange_views(self) -> None:
        """The first view above, the others in rows of two."""
        while self._views.count():
            self._views.takeAt(0).widget().hide()
        manager = slicer.app.layoutManager()
        for place, name in enumerate(manager.sliceViewNames(), start=1):
            row, column = divmod(place, 2)
            self._views.addWidget(manager.sliceWidget(name), row, column if row else 0, 1, 1 if row else 2)
            manager.sliceWidget(name).show()

    def choose_layout(self, layout: int) -> None:
        """The user chooses a layout, one of `vtkMRMLLayoutNode`; its slice views are shown, in a grid."""
        slicer.app.layoutManager().setLayout(layout)
        self._arrange_views()
        self.process_events()  # only now the views have their size
        slicer.util.resetSliceViews()

    def enter(self) -> None:
        """The user opens the module."""
        self._parent.enter()
        self.process_events()

    def leave(self) -> None:
        """The user opens another module."""
        self._parent.exit()
        self.process_events()

    @property
    def widget(self) -> Any:
        """The module's widget; another one after a reload."""
        return self._parent.self()

    @property
    def ui(self) -> Any:
        """The widget's ``ui``, by the names of the .ui file."""
        return self.widget.ui

    # The event loop ------------------------------------------------------------------------------------------------

    @staticmethod
    def process_events() -> None:
        """Lets Qt deal with what is waiting."""
        slicer.app.processEvents()

    def wait_until(self, condition: Callable[[], Any], timeout_s: float = 10.0) -> None:
        """Runs the event loop until the condition holds.

        Raises:
            TimeoutError: it did not hold in time.
        """
        loop, poll = qt.QEventLoop(), qt.QTimer()
        held: list[Any] = []

        def check() -> None:
            if not held and condition():
                held.append(True)
                loop.quit()

        poll.setInterval(2)
        poll.timeout.connect(check)
        poll.start()
        qt.QTimer.singleShot(int(timeout_s * 1000), loop.quit)
        check()
        if not held:
            loop.exec()
        poll.stop()
        if not held:
            raise TimeoutError(f"not so within {timeout_s:g} s")

    def wait(self, seconds: float) -> None:
        """Runs the event loop for a while."""
        loop = qt.QEventLoop()
        qt.QTimer.singleShot(int(seconds * 1000), loop.quit)
        loop.exec()

    # What a person does in the panel -------------------------------------------------------------------------------

    def click(self, button: qt.QWidget) -> None:
        """Clicks with the left mouse button.

        Raises:
            ValueError: a person could not: the widget is hidden or disabled.
        """
        self._require_usable(button)
        position = qt.QPoint(8, button.height // 2) if isinstance(button, (qt.QCheckBox, qt.QRadioButton)) else None
        if isinstance(button, qt.QToolButton):
            position = qt.QPoint(6, button.height // 2)  # beside the arrow of its menu
        QTest.mouseClick(button, qt.Qt.LeftButton, qt.Qt.NoModifier, position or button.rect.center())
        self.process_events()

    def choose(self, box: Any, entry: Any) -> None:
        """Chooses a node (None: no node) in a node selector, or a text in a combo box.

        Raises:
            ValueError: a person could not: the box is hidden or disabled, or has no such entry.
        """
        self._require_usable(box)
        if isinstance(box, qt.QComboBox):
            row = box.findText(entry)
        else:
            box, entry = box.comboBox(), entry.GetID() if entry is not None else ""
            row = box.findData(entry)
        if row < 0:
            entries = [box.itemText(index) for index in range(box.count)]
            raise ValueError(f"there is no entry {entry!r}, only {entries}")
        box.setCurrentIndex(row)
        box.activated.emit(row)
        self.process_events()

    def type_text(self, line: qt.QWidget, text: str) -> None:
        """Replaces the text of a line or spin box by typing."""
        self._require_usable(line)
        line.setFocus()
        line.selectAll()
        QTest.keyClicks(line, text)
        QTest.keyClick(line, qt.Qt.Key_Return)
        self.process_events()

    def press_key(self, key: Any, modifier: Any = qt.Qt.NoModifier, receiver: qt.QWidget | None = None) -> None:
        """Presses a key, in the window or in one of its widgets."""
        QTest.keyClick(receiver or self._window, key, modifier)
        self.process_events()

    def expand(self, section: Any) -> None:
        """Opens a collapsible section where it is closed."""
        if section.collapsed:
            section.click()
            self.process_events()

    @classmethod
    def _require_usable(cls, widget: qt.QWidget) -> None:
        cls.process_events()  # what has changed is shown before a person acts
        if not widget.visible:
            raise ValueError(f"nobody can use {widget.name!r}: it is not visible")
        if not widget.enabled:
            raise ValueError(f"nobody can use {widget.name!r}: it is disabled")

    # What a person does in the views -------------------------------------------------------------------------------

    def view(self, name: str) -> Any:
        """The picture of a slice view: 'Red', 'Yellow', 'Green', or another one of the layout."""
        return slicer.app.layoutManager().sliceWidget(name).sliceView()

    def jump(self, ras: Any) -> None:
        """Shows a position (mm, RAS) in every slice view."""
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *(float(value) for value in ras))
        self.process_events()

    def click_in_view(self, name: str, ras: Any) -> None:
        """Clicks at a position (mm, RAS) that the view shows.

        Raises:
            ValueError: the view does not show it: scroll there first (`jump`).
        """
        view, position = self.view(name), self._position(name, ras)
        QTest.mouseMove(view, position)
        QTest.mouseClick(view, qt.Qt.LeftButton, qt.Qt.NoModifier, position)
        self.process_events()

    def drag_in_view(self, name: str, start_ras: Any, end_ras: Any, steps: int = 8) -> None:
        """Drags with the left mouse button between two positions (mm, RAS) that the view shows.

        Raises:
            ValueError: the view does not show one of them.
        """
        view = self.view(name)
        start, end = self._position(name, start_ras), self._position(name, end_ras)
        QTest.mouseMove(view, start)
        self.process_events()
        QTest.mousePress(view, qt.Qt.LeftButton, qt.Qt.NoModifier, start)
        for step in range(1, steps + 1):
            QTest.mouseMove(view, start + (end - start) * (step / steps))
            self.process_events()
        QTest.mouseRelease(view, qt.Qt.LeftButton, qt.Qt.NoModifier, end)
        self.process_events()

    def draw_in_view(
        self, name: str, positions_ras: Any, modifier: Any = qt.Qt.NoModifier, *, release: bool = True
    ) -> None:
        """Draws with the left mouse button from one position (mm, RAS) through others, straight in between.

        Raises:
            ValueError: the view does not show one of them.
        """
        view, points = self.view(name), [self._position(name, ras) for ras in positions_ras]
        QTest.mouseMove(view, qt.QPoint(2, 2))
        QTest.mouseMove(view, points[0])
        QTest.mousePress(view, qt.Qt.LeftButton, modifier, points[0])
        for start, stop in pairwise(points):
            for step in range(1, 9):
                QTest.mouseMove(view, start + (stop - start) * (step / 8))
        if release:
            QTest.mouseRelease(view, qt.Qt.LeftButton, modifier, points[-1])
        self.process_events()

    def _position(self, name: str, ras: Any) -> qt.QPoint:
        view = self.view(name)
        plane = slicer.util.arrayFromVTKMatrix(view.mrmlSliceNode().GetSliceToRAS())
        distance = float(np.dot(plane[:3, 2], np.asarray(ras, float) - plane[:3, 3]))
        if abs(distance) > ON_SLICE_MM:
            raise ValueError(f"the position {ras} lies {distance:.1f} mm off the slice that {name} shows")
        position = view.rasToPosition(ras)
        if not view.rect.contains(position):
            raise ValueError(f"the position {ras} is outside the {name} view")
        return position

    # The end -------------------------------------------------------------------------------------------------------

    def grab(self, path: Path | str) -> Path:
        """Saves a picture of the window, labelled as the test bench's."""
        self.process_events()
        image = self._window.grab()
        painter = qt.QPainter(image)
        area = qt.QRect(image.width() - 96, image.height() - 22, 92, 18)
        painter.fillRect(area, qt.QColor(255, 255, 255, 200))
        painter.drawText(area, qt.Qt.AlignCenter, LABEL)
        painter.end()
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if not image.save(str(path)):
            raise OSError(f"the picture could not be written to {path}")
        return Path(path)

    def close(self) -> None:
        """Leaves the module and unloads it, as Slicer does at its end."""
        if self._parent is None:
            return
        self._parent.exit()
        slicer.app.moduleManager().emit("moduleAboutToBeUnloaded(QString)", self.module_name)
        delattr(slicer.modules, f"{self.module_name}Widget")
        self._parent.delete()
        self._parent = None
        self.process_events()
