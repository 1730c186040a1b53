"""What a person sees of the lungs that were found: the list of segments, sizes, 3D, the table of the scene."""

from __future__ import annotations

import bridge_nodes as nodes
import chests
import numpy as np
import pytest
import slicer
import vtk
import widgettools as tools

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.panels import volumes as panel

pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(panel, "QUIET_MS", 20)


@pytest.fixture
def window(chest, module_window):
    return module_window(size=(1100, 1000))


def segment(window):
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window, "segment")
    return window.ui.outputSelector.currentNode()


def measured(window):
    """The table of sizes as rows of texts, once it is that of the lungs as they are."""
    ui = window.ui
    window.wait_until(lambda: ui.sizesTable.visible and ui.sizesTable.enabled, 30)
    table = ui.sizesTable
    return [[table.item(row, column).text() for column in range(table.columnCount)] for row in range(table.rowCount)]


def headers(table):
    titles = [table.horizontalHeaderItem(column).text() for column in range(table.columnCount)]
    return [title.replace("\n", " ") for title in titles]


def by_hand(segmentation, volume):
    """Rows as the table should have them, of what Slicer itself reads."""
    labels, hu = chests.lungsOf(segmentation, volume), slicer.util.arrayFromVolume(volume)
    voxel_ml = abs(np.linalg.det(chests.ijkToRas(volume)[:3, :3])) / 1000
    rows = []
    for name, inside in (("Right lung", labels == 1), ("Left lung", labels == 2), ("Both lungs", labels > 0)):
        ml, mean = inside.sum() * voxel_ml, hu[inside].mean()
        size = f"{ml:.1f}" if ml < 1000 else f"{ml:.0f}"
        low, mass = 100 * (hu[inside] < -950).mean(), ml * (mean + 1000) / 1000
        rows.append([name, size, f"{mean:.0f}", f"{low:.1f}", f"{mass:.0f}"])
    return rows


def erase(segmentation, volume, part):
    """What the Segment Editor does when a person erases."""
    segmentId = bridge.findLungSegments(segmentation)[1]
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segmentId, volume)
    mask[part] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segmentId, volume)


def test_segmenting_shows_size_density_and_mass_of_right_left_and_both(window, chest):
    assert not window.ui.sizesTable.visible
    segmentation = segment(window)
    assert measured(window) == by_hand(segmentation, chest)
    assert not window.ui.sizesTable.horizontalScrollBar().visible
    assert headers(window.ui.sizesTable) == [*("Lung", "Volume (ml)", "Density (HU)", "Below -950 HU (%)", "Mass (g)")]


def test_the_sizes_of_an_oblique_volume_under_a_transform_are_those_of_its_voxels(module_window):
    oblique = tools.show(chests.obliqueChest())
    window = module_window(size=(1100, 1000))
    assert measured_after_segmenting(window) == by_hand(window.ui.outputSelector.currentNode(), oblique)


def measured_after_segmenting(window):
    segment(window)
    return measured(window)


def test_the_sizes_follow_what_another_hand_erases_and_undo_and_redo(window, chest):
    segmentation = segment(window)
    before = measured(window)
    erase(segmentation, chest, np.s_[:4])
    assert not window.ui.sizesTable.enabled
    assert not window.ui.copySizesButton.enabled
    after = measured(window)
    assert after == by_hand(segmentation, chest)
    assert after[0] != before[0]
    assert after[1] == before[1]
    window.click(window.ui.undoButton)  # to before there were lungs
    assert not window.ui.sizesTable.visible
    window.click(window.ui.redoButton)
    assert measured(window) == after


def test_the_mean_follows_the_voxels_of_the_image(window, chest):
    segmentation = segment(window)
    before = measured(window)
    slicer.util.arrayFromVolume(chest)[:] += 50
    slicer.util.arrayFromVolumeModified(chest)
    window.wait_until(lambda: not window.ui.sizesTable.enabled)
    assert [int(row[2]) for row in measured(window)] == pytest.approx([int(row[2]) + 50 for row in before], abs=1)
    assert measured(window) == by_hand(segmentation, chest)


def test_an_xray_has_an_area_in_square_centimetres_and_no_hu_and_no_surfaces(module_window):
    xray = tools.show(nodes.add_volume(chests.xray()[None], np.diag([-1.0, -2, 1, 1])), 255, 128)
    window = module_window(size=(1100, 1000))
    segmentation = segment(window)
    rows = measured(window)
    pixels = (chests.lungsOf(segmentation, xray) == 1).sum()
    assert headers(window.ui.sizesTable) == ["Lung", "Area (cm²)"]
    assert rows[0] == ["Right lung", f"{pixels * 0.02:.1f}"]
    assert not window.ui.show3DButton.enabled
    assert "flat" in window.ui.show3DButton.toolTip


def test_segmenting_again_at_once_comes_before_the_measuring(window):
    segmentation = segment(window)
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window, "segment")
    assert measured(window) == by_hand(segmentation, window.ui.inputSelector.currentNode())


def test_lungs_under_a_warp_are_not_measured_and_the_panel_says_why(window, chest):
    segmentation = segment(window)
    measured(window)
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    warp.SetAndObserveTransformToParent(vtk.vtkThinPlateSplineTransform())
    segmentation.SetAndObserveTransformNodeID(warp.GetID())
    window.wait_until(lambda: "Not measured" in window.ui.sizesLabel.text, 30)
    assert "linear" in window.ui.sizesLabel.text
    assert not window.ui.sizesTable.visible


def test_copy_to_table_makes_one_node_with_titles_and_units_and_fills_it_again(window, chest):
    segmentation = segment(window)
    rows = measured(window)
    window.click(window.ui.copySizesButton)
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    names = [table.GetColumnName(column) for column in range(table.GetNumberOfColumns())]
    assert names[:6] == ["structure", "part", "voxels", "volume_ml", "height_mm", "mean_hu"]
    titles = [table.GetColumnTitle(name) for name in names[2:]]
    assert titles[:4] == ["Voxels", "Volume (ml)", "Height (mm)", "Mean density (HU)"]
    assert table.GetNumberOfRows() == 12
    assert [table.GetCellText(row, 1) for row in (2, 3)] == ["whole", "upper third"]
    assert slicer.util.arrayFromTableColumn(table, "mass_g")[2] == pytest.approx(float(rows[2][4]), abs=0.5)
    assert table.GetColumnUnitLabel("mean_hu") == "HU"
    assert f"{slicer.util.arrayFromTableColumn(table, 'mean_hu')[0]:.0f}" == rows[0][2]
    assert slicer.app.applicationLogic().GetSelectionNode().GetActiveTableID() == table.GetID()
    erase(segmentation, chest, np.s_[:])
    assert measured(window)[0] == ["Right lung", "0.0", "-", "-", "-"]
    window.click(window.ui.copySizesButton)
    assert len(slicer.util.getNodesByClass("vtkMRMLTableNode")) == 1
    assert slicer.util.arrayFromTableColumn(table, "volume_ml")[0] == 0


def test_the_list_of_segments_is_that_of_the_output(window, chest):
    assert not window.ui.segmentsTable.visible
    segmentation = segment(window)
    table = window.ui.segmentsTable
    window.wait_until(lambda: table.visible)
    assert table.segmentationNode() is segmentation
    assert table.segmentCount == 2
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    window.choose(window.ui.outputSelector, other)
    window.wait_until(lambda: table.segmentationNode() is other)
    assert table.segmentCount == 0
    slicer.mrmlScene.Clear(0)
    window.process_events()
    assert table.segmentationNode() is None


def surfaces(segmentation):
    return segmentation.GetSegmentation().ContainsRepresentation("Closed surface")


def test_show_3d_makes_surfaces_and_removes_them(window):
    button = window.ui.show3DButton
    assert not button.enabled
    segmentation = segment(window)
    window.click(button)
    assert surfaces(segmentation)
    assert segmentation.GetDisplayNode().GetVisibility3D()
    assert button.checked
    assert "3D" in window.ui.statusLabel.text
    polydata = vtk.vtkPolyData()
    segmentation.GetClosedSurfaceRepresentation(bridge.findLungSegments(segmentation)[1], polydata)
    assert polydata.GetNumberOfCells() > 100
    window.click(button)
    assert not surfaces(segmentation)
    assert not button.checked


def test_the_3d_button_follows_what_other_modules_do(window):
    segmentation = segment(window)
    button = window.ui.show3DButton
    segmentation.CreateClosedSurfaceRepresentation()
    assert button.checked
    segmentation.GetDisplayNode().SetVisibility3D(False)
    assert not button.checked
    window.click(button)
    assert segmentation.GetDisplayNode().GetVisibility3D()
    segmentation.RemoveClosedSurfaceRepresentation()
    assert not button.checked


def test_export_opens_slicers_module_for_it(window):
    assert not window.ui.exportButton.enabled
    segment(window)
    assert all(word in window.ui.exportButton.toolTip for word in ("Export to files", ".seg.nrrd", "DICOM"))
    window.click(window.ui.exportButton)
    assert slicer.util.moduleSelector().selectedModule == "Segmentations"


@pytest.fixture
def large_letters(slicer_app):
    """Half as large again, as on a screen at 150 %."""
    usual, large = slicer_app.qt.font(), slicer_app.qt.font()
    large.setPointSizeF(usual.pointSizeF() * 1.5)
    slicer_app.qt.setFont(large)
    yield
    slicer_app.qt.setFont(usual)


def test_every_row_of_sizes_and_every_button_can_be_read_with_large_letters(large_letters, chest, module_window):
    window = module_window(size=(1300, 1200))
    segment(window)
    measured(window)
    table = window.ui.sizesTable
    assert table.viewport().height >= sum(table.rowHeight(row) for row in range(table.rowCount))
    for name in ("segmentVolumeButton", "segmentSliceButton", "show3DButton", "copySizesButton", "exportButton"):
        button = getattr(window.ui, name)
        assert button.fontMetrics().horizontalAdvance(button.text) < button.sizeHint.width(), name
        assert button.width >= button.minimumSizeHint.width(), name
