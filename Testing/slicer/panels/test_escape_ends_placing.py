"""Esc ends the placing of points and boxes, and belongs to others at all other times."""

from __future__ import annotations

import pytest
import qt
import slicer
import widgettools as tools
from PySide6.QtCore import QPoint
from PySide6.QtGui import QShortcut
from PySide6.QtTest import QTest

from SAMLungSegSlicer.parameters import boxNodes

IJK = (70, 60, 4)


pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def editor():
    """How often the Segment Editor's own Esc was heard; that lives in the main window, too."""
    heard = []
    shortcut = QShortcut(qt.QKeySequence(qt.Qt.Key_Escape), slicer.app.mainWindow())
    shortcut.connect("activated()", lambda: heard.append(True))
    yield heard
    shortcut.delete()


def is_placing():
    interaction = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    return interaction.GetCurrentInteractionMode() == interaction.Place


def escapes():
    """The module's shortcuts for Esc that are alive."""
    shortcuts = slicer.app.mainWindow().findChildren(QShortcut)
    return [one for one in shortcuts if one.enabled and one.key == qt.QKeySequence(qt.Qt.Key_Escape)]


@pytest.mark.parametrize("button", ["positiveButton", "negativeButton", "boxButton"])
@pytest.mark.parametrize("focus", ["window", "view"])
def test_escape_ends_placing(window, button, focus):
    button = getattr(window.ui, button)
    window.click(button)
    assert is_placing()
    assert button.checked
    window.press_key(qt.Qt.Key_Escape, receiver=window.view("Red") if focus == "view" else None)
    assert not is_placing()
    assert not button.checked
    assert escapes() == []


def test_escape_keeps_the_points_that_are_placed(window, chest):
    ras = tools.world(chest, IJK)
    window.jump(ras)
    window.click(window.ui.positiveButton)
    QTest.mouseMove(window.view("Red"), QPoint(2, 2))  # or there is no move where the mouse was last
    window.click_in_view("Red", ras)
    window.press_key(qt.Qt.Key_Escape)
    window.click_in_view("Red", tools.world(chest, (30, 50, IJK[2])))
    assert window.ui.positiveCountLabel.text == "1 point"


@pytest.mark.parametrize("corners", [0, 1])
def test_escape_gives_an_unplaced_box_up(window, chest, corners):
    ras = tools.world(chest, IJK)
    window.jump(ras)
    window.click(window.ui.boxButton)
    QTest.mouseMove(window.view("Red"), QPoint(2, 2))
    for _ in range(corners):
        window.click_in_view("Red", ras)
    window.press_key(qt.Qt.Key_Escape)
    assert boxNodes(window.widget.logic.getParameterNode()) == []
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 0
    assert window.ui.boxCountLabel.text == "0 boxes"


def test_escape_ends_what_is_placed_after_another_kind(window):
    window.click(window.ui.positiveButton)
    window.click(window.ui.negativeButton)
    window.press_key(qt.Qt.Key_Escape)
    assert not is_placing()
    assert escapes() == []


def test_escape_ends_placing_again_and_again(window):
    for _ in range(3):
        window.click(window.ui.positiveButton)
        assert is_placing()
        window.press_key(qt.Qt.Key_Escape)
        assert not is_placing()


def test_escape_is_the_segment_editors_where_nothing_is_placed(window, editor):
    window.press_key(qt.Qt.Key_Escape)
    assert len(editor) == 1
    window.click(window.ui.positiveButton)
    window.click(window.ui.positiveButton)
    window.press_key(qt.Qt.Key_Escape)
    assert len(editor) == 2


@pytest.mark.parametrize("end", ["leave", "close"])
def test_leaving_or_unloading_the_module_while_placing_frees_escape(window, end, editor):
    window.click(window.ui.negativeButton)
    getattr(window, end)()
    assert not is_placing()
    window.press_key(qt.Qt.Key_Escape)
    assert len(editor) == 1
    assert len(escapes()) == 1


def test_placing_that_another_ends_frees_escape(window, editor):
    window.click(window.ui.positiveButton)
    interaction = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)  # as the toolbar of Slicer does
    window.press_key(qt.Qt.Key_Escape)
    assert len(editor) == 1


def test_without_a_main_window_points_are_placed_all_the_same(window, monkeypatch):
    monkeypatch.setattr(slicer.util, "mainWindow", lambda verbose=True: None)
    window.click(window.ui.positiveButton)
    assert is_placing()
    window.click(window.ui.positiveButton)
    assert not is_placing()
