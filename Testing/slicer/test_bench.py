"""The test bench itself: the application, dialogs, views, and what a person does in them."""

from __future__ import annotations

import importlib
import sys
import time

import numpy as np
import pytest
import qt
import slicer
from bench import leaks
from bench.dialogs import ERROR, QUESTION, UnexpectedDialogError
from bench.latency import latency

IJK_TO_RAS = np.array([[-2.0, 0, 0, 90], [0, -2.0, 0, 80], [0, 0, 5.0, -75], [0, 0, 0, 1]])
PANEL = """<ui version="4.0"><class>Panel</class><widget class="qMRMLWidget" name="Panel">
<layout class="QVBoxLayout" name="layout">
<item><widget class="qSlicerMarkupsPlaceWidget" name="place">
 <property name="placeMultipleMarkups"><enum>qSlicerMarkupsPlaceWidget::ForcePlaceMultipleMarkups</enum></property>
</widget></item>
<item><widget class="qMRMLNodeComboBox" name="volume">
 <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
 <property name="noneEnabled"><bool>true</bool></property>
</widget></item>
<item><widget class="QPushButton" name="slow"><property name="text"><string>Slow</string></property></widget></item>
</layout></widget>
<connections>
<connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
 <receiver>place</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection>
<connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
 <receiver>volume</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection>
</connections></ui>"""


def phantom_volume(name: str = "CT") -> slicer.vtkMRMLScalarVolumeNode:
    array_kji = np.zeros((30, 80, 90), np.int16)
    array_kji[10:20, 30:50, 30:60] = 1000
    node = slicer.util.addVolumeFromArray(array_kji, ijkToRAS=IJK_TO_RAS, name=name)
    node.CreateDefaultDisplayNodes()
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node


def fiducials(name: str = "points") -> slicer.vtkMRMLMarkupsFiducialNode:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)


MODULE = """
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget

class PanelWidget(ScriptedLoadableModuleWidget):
    cleanedUp = False

    def setup(self):
        super().setup()
        panel = slicer.util.loadUI(self.resourcePath("UI/Panel.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)

    def cleanup(self):
        self.cleanedUp = True
"""


@pytest.fixture
def window(module_window, tmp_path, monkeypatch):
    """Opens a window with a small panel."""
    (tmp_path / "Resources" / "UI").mkdir(parents=True)
    (tmp_path / "Resources" / "UI" / "Panel.ui").write_text(PANEL, encoding="utf-8")
    (tmp_path / "Panel.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "Panel", raising=False)

    def open_panel():
        widget_class = importlib.import_module("Panel").PanelWidget
        return module_window(widget_class, tmp_path / "Panel.py", size=(1000, 700))

    return open_panel


def test_every_test_starts_with_an_empty_scene():
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    phantom_volume()


def test_no_volume_of_an_earlier_test_is_left():
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []


def test_a_click_in_place_mode_places_a_point_where_the_mouse_was(window):
    phantom_volume()
    opened, points = window(), fiducials()
    opened.ui.place.setCurrentNode(points)
    opened.click(opened.ui.place.placeButton())
    opened.jump([20, -10, 5])
    opened.click_in_view("Red", [20, -10, 5])
    opened.click_in_view("Green", [40, -10, 15])
    pixel_mm = 1.0
    placed = slicer.util.arrayFromMarkupsControlPoints(points)
    assert placed == pytest.approx(np.array([[20, -10, 5], [40, -10, 15]]), abs=pixel_mm)
    assert opened.ui.place.placeModeEnabled, "the .ui file asks for several points"


def test_dragging_a_point_moves_it(window):
    phantom_volume()
    opened, points = window(), fiducials()
    points.AddControlPoint(20, -10, 0)
    opened.jump([20, -10, 0])
    opened.drag_in_view("Red", [20, -10, 0], [-15, 25, 0])
    assert points.GetNthControlPointPosition(0) == pytest.approx((-15, 25, 0), abs=1.0)


def test_two_clicks_place_a_box(window):
    phantom_volume()
    opened = window()
    box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    opened.ui.place.setCurrentNode(box)
    opened.ui.place.setPlaceModeEnabled(True)
    opened.jump([0, 0, 0])
    opened.click_in_view("Red", [-20, -30, 0])
    opened.click_in_view("Red", [40, 20, 0])
    bounds = [0.0] * 6
    box.GetRASBounds(bounds)
    assert bounds[:4] == pytest.approx([-20, 40, -30, 20], abs=1.5)


def test_a_position_off_the_slice_cannot_be_clicked(window):
    phantom_volume()
    opened = window()
    opened.jump([0, 0, 0])
    with pytest.raises(ValueError, match=r"12\.0 mm off the slice"):
        opened.click_in_view("Red", [0, 0, 12])


def test_nobody_can_click_what_is_hidden_or_disabled(window):
    opened = window()
    opened.ui.slow.enabled = False
    with pytest.raises(ValueError, match="disabled"):
        opened.click(opened.ui.slow)
    opened.ui.slow.hide()
    with pytest.raises(ValueError, match="not visible"):
        opened.click(opened.ui.slow)


def colours(opened, name: str) -> np.ndarray:
    """The pixels of a view, as (N, 3) RGB."""
    image = opened.view(name).grab().toImage().convertToFormat(qt.QImage.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(-1, 3)


def test_the_views_show_volume_segmentation_and_markups(window):
    node = phantom_volume()
    opened = window()
    opened.jump([0, 0, 0])
    grey_only = colours(opened, "Red")
    assert np.ptp(grey_only.max(axis=0)) == 0
    assert len(np.unique(grey_only)) > 1
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(node)
    segment = segmentation.GetSegmentation().AddEmptySegment("lung", "lung", (0.0, 1.0, 0.0))
    mask_kji = (slicer.util.arrayFromVolume(node) > 0).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask_kji, segmentation, segment, node)
    greenish = colours(opened, "Red").astype(int)
    green_pixels = (greenish[:, 1] > greenish[:, 0] + 50).sum()
    assert green_pixels == pytest.approx(mask_kji[15].sum() * 4 / pixel_area(opened), rel=0.1)
    points = fiducials()
    points.AddControlPoint(0, 0, 0)
    points.GetDisplayNode().SetSelectedColor(1, 0, 0)
    reddish = colours(opened, "Red").astype(int)
    assert (reddish[:, 0] > reddish[:, 1] + 50).sum() > 10


def pixel_area(opened) -> float:
    """Square millimetres of a pixel of the Red view."""
    matrix = slicer.util.arrayFromVTKMatrix(opened.view("Red").mrmlSliceNode().GetXYToRAS())
    return float(np.linalg.norm(matrix[:3, 0]) * np.linalg.norm(matrix[:3, 1]))


def test_the_views_lie_as_in_slicer():
    def normal(name: str) -> list[float]:
        node = slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode()
        return slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())[:3, 2].tolist()

    assert slicer.app.layoutManager().sliceViewNames() == ("Red", "Yellow", "Green")
    assert [normal(name) for name in ("Red", "Yellow", "Green")] == [[0, 0, 1], [-1, 0, 0], [0, 1, 0]]


def test_a_block_of_150_ms_is_seen_and_a_quiet_loop_is_quick(window):
    opened = window()
    opened.ui.slow.connect("clicked()", lambda: time.sleep(0.15))
    with latency() as quiet:
        opened.wait(0.1)
    with latency() as blocked:
        opened.click(opened.ui.slow)
        opened.wait(0.05)
    assert quiet.percentile_ms(50) < 50
    assert blocked.max_ms > 140
    assert blocked.percentile_ms(50) < 140


def test_waiting_ends_when_the_condition_holds_and_fails_when_it_never_does(window):
    opened, ticks = window(), []
    qt.QTimer.singleShot(30, lambda: ticks.append(1))
    opened.wait_until(lambda: ticks, timeout_s=5)
    with pytest.raises(TimeoutError):
        opened.wait_until(lambda: len(ticks) > 1, timeout_s=0.05)


def test_a_closed_window_leaves_nothing_behind(window):
    phantom_volume()
    window().close()
    before = leaks.snapshot()
    window().close()
    assert leaks.left_since(before) == []


def test_an_observer_and_a_timer_that_stay_are_found():
    before = leaks.snapshot()
    timer = qt.QTimer()
    timer.start(1000)
    tag = slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, lambda caller, event: None)
    assert leaks.left_since(before) == ["1 x active timer", "1 x observer of the scene"]
    timer.stop()
    slicer.mrmlScene.RemoveObserver(tag)
    assert leaks.left_since(before) == []


def test_a_picture_is_labelled_as_the_test_benchs(window, tmp_path):
    path = window().grab(tmp_path / "pictures" / "panel.png")
    image = qt.QImage(str(path))
    assert (image.width(), image.height()) == (1000, 700)


def test_an_error_is_recorded_and_answered(dialogs):
    slicer.util.errorDisplay("no space left on the disk")
    (shown,) = dialogs.take()
    assert (shown.kind, shown.text, shown.answer) == (ERROR, "no space left on the disk", "Ok")


def test_a_question_gets_the_answer_of_the_test(dialogs):
    dialogs.answer("Cancel", "Yes")
    assert slicer.util.confirmOkCancelDisplay("Download 350 MB?") is False
    assert slicer.util.confirmYesNoDisplay("Replace it?") is True
    assert [(one.kind, one.buttons) for one in dialogs.take()] == [
        (QUESTION, ("Ok", "Cancel")),
        (QUESTION, ("Yes", "No")),
    ]


def test_a_question_without_an_answer_fails_at_once(dialogs):
    with pytest.raises(UnexpectedDialogError, match="Download 350 MB"):
        slicer.util.confirmOkCancelDisplay("Download 350 MB?")
    assert len(dialogs.problems()) == 1
    dialogs.reset()


def test_a_file_dialog_gives_the_path_of_the_test(dialogs, tmp_path):
    dialogs.answer(tmp_path / "lungs.csv", "")
    assert qt.QFileDialog.getSaveFileName(None, "Save", "", "CSV (*.csv)") == str(tmp_path / "lungs.csv")
    assert qt.QFileDialog.getExistingDirectory(None, "Folder") == ""


def test_an_error_that_the_test_did_not_take_is_a_problem(dialogs):
    slicer.util.errorDisplay("lost")
    assert dialogs.problems() == ["an error that the test did not take: lost"]
    dialogs.take()


def test_an_exception_in_a_slot_is_a_fault_unless_the_user_was_told(faults, dialogs):
    def fail_with_dialog():
        with slicer.util.tryWithErrorDisplay("Failed."):
            raise RuntimeError("the first")

    for slot in (fail_with_dialog, lambda: 1 / 0):
        button = qt.QPushButton()
        button.connect("clicked()", slot)
        button.click()
    told = [one.text for one in dialogs.take()]
    (untold,) = faults.untold(told)
    assert "ZeroDivisionError" in untold
    assert [type(error) for error in faults.take()] == [RuntimeError, ZeroDivisionError]


def test_an_exception_in_an_observer_is_a_fault(faults):
    slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, lambda caller, event: 1 / 0)
    fiducials()
    assert {type(error) for error in faults.take()} == {ZeroDivisionError}


def test_a_scene_comes_back_from_a_bundle(tmp_path):
    volume = phantom_volume("chest")
    points = fiducials()
    points.AddControlPoint(1, 2, 3)
    array_kji = slicer.util.arrayFromVolume(volume).copy()
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "case.mrb"))
    reopened = slicer.util.getNode("chest")
    assert np.array_equal(slicer.util.arrayFromVolume(reopened), array_kji)
    assert slicer.util.arrayFromMarkupsControlPoints(slicer.util.getNode("points")).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("name", ["chest.nrrd", "chest.nii.gz"])
def test_a_volume_comes_back_from_a_file(tmp_path, name):
    array_kji = slicer.util.arrayFromVolume(phantom_volume()).copy()
    assert slicer.util.saveNode(slicer.util.getNode("CT"), str(tmp_path / name))
    assert np.array_equal(slicer.util.arrayFromVolume(slicer.util.loadVolume(str(tmp_path / name))), array_kji)


def test_a_file_that_does_not_exist_is_an_error():
    with pytest.raises(RuntimeError, match=r"absent\.nrrd"):
        slicer.util.loadVolume("absent.nrrd")


def test_settings_are_kept_aside_and_forgotten(slicer_app):
    qt.QSettings().setValue("SAMLungSeg/seen", "yes")
    assert slicer.util.settingsValue("SAMLungSeg/seen", "no") == "yes"
    assert qt.QSettings().fileName().startswith(slicer_app.temporaryPath)
    slicer_app.reset()
    assert slicer.util.settingsValue("SAMLungSeg/seen", "no") == "no"


def test_a_module_is_entered_left_and_reloaded(window):
    opened = window()
    parent = slicer.modules.panel.widgetRepresentation()
    assert (parent.isEntered, slicer.util.getModuleWidget("Panel")) == (True, opened.widget)
    opened.leave()
    assert not parent.isEntered
    opened.enter()
    before = opened.widget
    slicer.util.reloadScriptedModule("Panel")
    assert (before.cleanedUp, opened.widget is before, opened.widget.cleanedUp) == (True, False, False)
    opened.click(opened.ui.slow)


def test_a_wait_cursor_that_is_left_on_is_found(slicer_app):
    slicer_app.setOverrideCursor(qt.Qt.WaitCursor)
    slicer_app.restoreOverrideCursor()
    assert slicer_app.forgetOverrideCursors() is False
    slicer_app.setOverrideCursor(qt.Qt.WaitCursor)
    assert slicer_app.forgetOverrideCursors() is True


def test_the_application_tells_when_its_start_is_complete(slicer_app):
    told = []
    slicer_app.connect("startupCompleted()", lambda: told.append(1))
    slicer_app.finishStartup()
    assert told == [1]
