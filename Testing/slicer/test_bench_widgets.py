"""The bench's Qt, CTK and MRML widgets behave as Slicer's."""

from __future__ import annotations

import time

import ctk
import numpy as np
import pytest
import qt
import slicer


def add(class_name: str, name: str):
    return slicer.mrmlScene.AddNewNodeByClass(class_name, name)


def entries(selector) -> list[str]:
    box = selector.comboBox()
    return [box.itemText(row) for row in range(box.count) if box.itemText(row)]


@pytest.fixture
def selector():
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.addEnabled = selector.removeEnabled = False
    selector.setMRMLScene(slicer.mrmlScene)
    yield selector
    selector.setMRMLScene(None)


def load(tmp_path, content: str):
    path = tmp_path / "panel.ui"
    path.write_text(f'<ui version="4.0"><class>W</class>{content}</ui>', encoding="utf-8")
    return slicer.util.loadUI(str(path))


def test_properties_are_attributes_and_setters_stay_methods():
    label = qt.QLabel("one")
    assert label.text == "one"
    label.text = "two"
    label.setToolTip("a tip")
    assert (label.text, label.toolTip, label.enabled) == ("two", "a tip", True)


def test_signals_connect_by_their_c_signature_and_drop_surplus_arguments():
    button, calls = qt.QPushButton(), []
    button.checkable = True
    button.connect("clicked(bool)", calls.append)
    button.connect("clicked(bool)", lambda: calls.append("none"))
    button.click()
    assert calls == [True, "none"]
    button.disconnect("clicked(bool)", calls.append)
    button.click()
    assert calls == [True, "none", "none"]


def test_qt_has_no_more_than_slicers_qt():
    assert not any(hasattr(qt, name) for name in ("Signal", "Slot", "Property", "QTest"))


def test_a_timer_ticks_and_single_shots_come_once():
    timer, ticks, shots = qt.QTimer(), [], []
    timer.setInterval(5)
    timer.connect("timeout()", lambda: ticks.append(1))
    timer.start()
    qt.QTimer.singleShot(1, lambda: shots.append(1))
    deadline = time.monotonic() + 5
    while len(ticks) < 3 and time.monotonic() < deadline:
        slicer.app.processEvents()
    timer.stop()
    assert (len(ticks), len(shots), timer.active) == (3, 1, False)


def test_an_unknown_custom_widget_fails_loudly(tmp_path):
    with pytest.raises(NotImplementedError, match="qMRMLUnheardOfWidget"):
        load(tmp_path, '<widget class="qMRMLUnheardOfWidget" name="x"/>')


def test_a_connection_to_nothing_fails_loudly(tmp_path):
    connection = "<sender>W</sender><signal>destroyed()</signal><receiver>absent</receiver><slot>hide()</slot>"
    with pytest.raises(LookupError, match="absent"):
        load(
            tmp_path,
            f'<widget class="QWidget" name="W"/><connections><connection>{connection}</connection></connections>',
        )


def test_a_selector_follows_the_scene(selector):
    first, second = add("vtkMRMLScalarVolumeNode", "one"), add("vtkMRMLScalarVolumeNode", "two")
    add("vtkMRMLSegmentationNode", "lungs")
    assert entries(selector) == ["one", "two"]
    assert selector.currentNode() is first
    second.SetName("three")
    assert entries(selector) == ["one", "three"]
    slicer.mrmlScene.RemoveNode(first)
    assert (entries(selector), selector.currentNode()) == (["three"], second)
    slicer.mrmlScene.Clear(0)
    assert (selector.currentNode(), selector.nodeCount()) == (None, 0)


def test_a_selector_with_none_chooses_nothing_by_itself(selector):
    selector.noneEnabled, selector.noneDisplay = True, "Select a CT"
    told = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", told.append)
    node = add("vtkMRMLScalarVolumeNode", "one")
    assert (selector.currentNode(), told, entries(selector)) == (None, [], ["Select a CT", "one"])
    selector.setCurrentNode(node)
    selector.setCurrentNode(None)
    assert told == [node, None]


def test_a_selector_lists_only_the_classes_and_attributes_asked_for(selector):
    add("vtkMRMLScalarVolumeNode", "CT")
    add("vtkMRMLLabelMapVolumeNode", "labels").SetAttribute("kind", "truth")
    assert entries(selector) == ["CT", "labels"]
    selector.hideChildNodeTypes = ["vtkMRMLLabelMapVolumeNode"]
    assert entries(selector) == ["CT"]
    selector.hideChildNodeTypes = []
    selector.addAttribute("vtkMRMLScalarVolumeNode", "kind", "truth")
    assert entries(selector) == ["labels"]
    selector.removeAttribute("vtkMRMLScalarVolumeNode", "kind")
    selector.showChildNodeTypes = False
    assert entries(selector) == ["CT"]


def test_a_person_can_create_rename_and_delete_in_a_selector(selector, dialogs):
    selector.addEnabled = selector.removeEnabled = selector.renameEnabled = True
    selector.baseName = "Lungs"
    box = selector.comboBox()
    box.activated.emit(box.findText("Create new Lungs"))
    assert selector.currentNode().GetName() == "Lungs"
    dialogs.answer("Mine")
    box.activated.emit(box.findText("Rename current node"))
    assert selector.currentNode().GetName() == "Mine"
    box.activated.emit(box.findText("Delete current node"))
    assert selector.currentNode() is None


def test_a_deleted_selector_observes_the_scene_no_longer():
    from bench import leaks

    before = leaks.snapshot()
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    assert leaks.left_since(before) != []
    selector.delete()
    assert leaks.left_since(before) == []


def test_place_mode_belongs_to_one_node_at_a_time():
    widgets = [slicer.qSlicerMarkupsPlaceWidget() for _ in range(2)]
    for number, widget in enumerate(widgets):
        widget.setMRMLScene(slicer.mrmlScene)
        widget.setCurrentNode(add("vtkMRMLMarkupsFiducialNode", f"points {number}"))
    first, second = widgets
    first.placeModeEnabled = True
    assert (first.placeModeEnabled, second.placeModeEnabled) == (True, False)
    second.setPlaceModeEnabled(True)
    assert (first.placeModeEnabled, second.placeModeEnabled) == (False, True)
    assert (first.placeButton().checked, second.placeButton().checked) == (False, True)
    for widget in widgets:
        widget.delete()


def test_deleting_points_by_the_place_widget():
    widget, points = slicer.qSlicerMarkupsPlaceWidget(), add("vtkMRMLMarkupsFiducialNode", "points")
    widget.setMRMLScene(slicer.mrmlScene)
    widget.setCurrentNode(points)
    assert not widget.deleteButton().enabled
    for position in range(3):
        points.AddControlPoint(position, 0, 0)
    widget.deleteButton().click()
    assert points.GetNumberOfControlPoints() == 2
    widget.deleteAllPoints()
    assert points.GetNumberOfControlPoints() == 0
    widget.delete()


def test_a_collapsed_section_hides_its_contents():
    section = ctk.ctkCollapsibleButton()
    section.text = "Advanced"
    button = qt.QPushButton("inside")
    qt.QVBoxLayout(section).addWidget(button)
    section.collapsed = True
    section.show()
    assert (button.visible, section.checked) == (False, False)
    section.click()
    assert (button.visible, section.collapsed) == (True, False)
    section.close()


def test_a_slider_rounds_to_its_decimals_and_tells_once():
    slider, told = ctk.ctkSliderWidget(), []
    slider.minimum, slider.maximum, slider.decimals, slider.singleStep = 0, 1, 1, 0.1
    slider.connect("valueChanged(double)", told.append)
    slider.value = 0.33
    slider.setValue(0.34)
    slider.value = 7
    assert (told, slider.value) == ([0.3, 1.0], 1.0)


def test_a_path_line_asks_for_a_file_or_a_folder(dialogs):
    line = ctk.ctkPathLineEdit()
    dialogs.answer("/models/a.pt", "/cases")
    line.browse()
    assert line.currentPath == "/models/a.pt"
    line.filters = ctk.ctkPathLineEdit.Dirs
    line.browse()
    assert line.currentPath == "/cases"
    assert [one.text for one in dialogs.take()] == ["getOpenFileName", "getExistingDirectory"]


def test_a_table_shows_column_names_in_its_header_only_where_the_node_says_so():
    table = slicer.util.updateTableFromArray(None, [np.array([0.5, 0.25]), np.array([1, 2])], ["Dice", "slice"])
    view = slicer.qMRMLTableView()
    view.setMRMLTableNode(table)
    texts = [view.model().index(row, 0).data() for row in range(view.model().rowCount())]
    assert (view.model().headerData(0, qt.Qt.Horizontal), texts) == ("A", ["Dice", "0.5", "0.25"])
    table.SetUseColumnTitleAsColumnHeader(True)
    assert (view.model().headerData(0, qt.Qt.Horizontal), view.model().rowCount()) == ("Dice", 2)
    view.delete()


def test_a_plot_view_draws_the_series_in_their_colours():
    table = slicer.util.updateTableFromArray(None, [np.arange(5.0), np.arange(5.0) / 5], ["slice", "Dice"])
    series = add("vtkMRMLPlotSeriesNode", "right")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("slice")
    series.SetYColumnName("Dice")
    series.SetPlotType(series.PlotTypeScatter)
    series.SetColor(0, 0, 1)
    chart, view_node = add("vtkMRMLPlotChartNode", "Dice"), add("vtkMRMLPlotViewNode", "plot")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    view_node.SetPlotChartNodeID(chart.GetID())
    view = slicer.qMRMLPlotView()
    view.setMRMLScene(slicer.mrmlScene)
    view.setMRMLPlotViewNode(view_node)
    view.resize(300, 200)
    image = view.grab().toImage()
    blue = sum(
        image.pixelColor(x, y).blue() > image.pixelColor(x, y).red() + 100 for x in range(300) for y in range(200)
    )
    assert blue > 100
    view.delete()


def test_a_table_shows_titles_in_the_place_of_names_where_columns_have_them():
    table = slicer.util.updateTableFromArray(None, [np.array([0.5]), np.array([1])], ["hd95_mm", "slice"])
    table.SetColumnTitle("hd95_mm", "HD95 (mm)")
    table.SetUseColumnTitleAsColumnHeader(True)
    view = slicer.qMRMLTableView()
    view.setMRMLTableNode(table)
    assert [view.model().headerData(column, qt.Qt.Horizontal) for column in (0, 1)] == ["HD95 (mm)", "slice"]
    view.delete()


@pytest.fixture
def segments():
    """A table of two segments, and their node."""
    node = add("vtkMRMLSegmentationNode", "lungs")
    node.CreateDefaultDisplayNodes()
    for key, colour in (("right", (1, 0, 0)), ("left", (0, 0, 1))):
        node.GetSegmentation().AddEmptySegment(key, f"{key} lung", colour)
    table = slicer.qMRMLSegmentsTableView()
    table.setMRMLScene(slicer.mrmlScene)
    table.setSegmentationNode(node)
    yield table, node
    table.delete()


def cells(table, column):
    model = table.tableWidget().model()
    return [model.index(row, column).data() for row in range(model.rowCount())]


def test_a_segments_table_lists_names_and_colours_and_follows_the_node(segments):
    table, node = segments
    assert (table.segmentCount, cells(table, 3)) == (2, ["right lung", "left lung"])
    blue = table.tableWidget().model().index(1, 1).data(qt.Qt.BackgroundRole).color()
    assert (blue.red(), blue.blue()) == (0, 255)
    node.GetSegmentation().AddEmptySegment("nodule", "nodule", (0, 1, 0))
    node.GetSegmentation().GetSegment("left").SetName("links")
    assert cells(table, 3) == ["right lung", "links", "nodule"]
    node.GetSegmentation().RemoveSegment("right")
    assert table.displayedSegmentIDs() == ("left", "nodule")


def test_a_click_in_a_segments_table_hides_one_segment_and_shows_it_again(segments):
    table, node = segments
    model = table.tableWidget().model()
    table.tableWidget().clicked.emit(model.index(1, 0))
    display = node.GetDisplayNode()
    assert (display.GetSegmentVisibility("right"), display.GetSegmentVisibility("left")) == (True, False)
    table.tableWidget().clicked.emit(model.index(1, 0))
    assert display.GetSegmentVisibility("left")


def test_a_segments_table_renames_unless_it_is_read_only(segments):
    table, node = segments
    table.tableWidget().model().item(0, 3).setText("rechts")
    assert node.GetSegmentation().GetSegment("right").GetName() == "rechts"
    table.readOnly = True
    assert not table.tableWidget().model().item(0, 3).isEditable()


def test_a_segments_table_selects_by_id_and_keeps_columns_hidden(segments):
    table, node = segments
    table.opacityColumnVisible = False
    table.setSelectedSegmentIDs(["left"])
    node.GetSegmentation().AddEmptySegment("nodule", "nodule", (0, 1, 0))
    assert table.selectedSegmentIDs() == ("left",)
    assert not table.opacityColumnVisible
    table.setSegmentationNode(None)
    assert table.segmentCount == 0


def test_a_segments_table_has_nothing_that_slicers_does_not(segments):
    with pytest.raises(AttributeError):
        segments[0].setSegmentNames(["a"])
