"""The cardiothoracic ratio from the panel, the console and the job: lines, table, and what is refused."""

from __future__ import annotations

import bridge_nodes as nodes
import chests
import numpy as np
import pytest
import slicer
import widgettools as tools

from SAMLungSegLib.errors import VolumeError
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs import CardiothoracicJob, cardiothoracicTable
from SAMLungSegSlicer.logic import SAMLungSegLogic

AS_PICTURES = np.diag([-1.0, -1.0, 1.0, 1.0])
OBLIQUE = nodes.affine(np.array([[-0.4, 0, 0], [0, 0, 0.7], [0, -0.7, 0]]) @ np.diag([1, 1, 1]), [5, -3, 8])
MOVED = nodes.affine([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]], [12, -7, 30])


def labels_hw() -> np.ndarray:
    """Lungs in rows 10 to 89, columns 10 to 49 and 70 to 109; the heart leaves columns 50 to 84 above the domes."""
    labels = np.zeros((100, 120), np.uint8)
    labels[10:90, 10:50], labels[10:90, 70:110] = 1, 2
    labels[50:80, 70:85] = 0
    labels[80:90, 20:100] = 0
    return labels


def frontal(ijkToRas=AS_PICTURES, parent=None, name="frontal"):
    grey = np.where(labels_hw() > 0, 60, 180).astype(np.uint8)
    return tools.show(nodes.add_volume(grey[None], ijkToRas, parent=parent, name=name), 255, 128)


def lungsOf(volumeNode, labels=None):
    node = bridge.ensureSegmentation(volumeNode)
    bridge.writeLabelmap(node, (labels_hw() if labels is None else labels)[None], volumeNode)
    return node


def addHeart(segmentationNode, volumeNode, name="heart", terminology=""):
    mask = np.zeros((1, 100, 120), np.uint8)
    mask[0, 40:70, 45:95] = 1
    segment = nodes.add_segment(segmentationNode, mask, chests.ijkToRas(volumeNode), name)
    if terminology:
        segmentationNode.GetSegmentation().GetSegment(segment).SetTag(
            slicer.vtkSegment.GetTerminologyEntryTagName(), terminology
        )


def measured(volumeNode, segmentationNode, **options):
    job = CardiothoracicJob(volumeNode, segmentationNode, **options)
    return job.finish(job.run())


def row(table) -> dict:
    return {table.GetColumnName(n): table.GetCellText(0, n) for n in range(table.GetNumberOfColumns())}


def endsWorld(line) -> np.ndarray:
    return np.array([line.GetNthControlPointPositionWorld(n) for n in range(line.GetNumberOfControlPoints())])


def labelsOf(line) -> list[str]:
    return [text for n in range(2) if (text := line.GetNthControlPointLabel(n))]


@pytest.mark.parametrize("isMoved", [False, True])
def test_lines_lie_where_heart_and_chest_are_widest_also_on_a_moved_anisotropic_grid(isMoved):
    volume = frontal(OBLIQUE, nodes.add_transform(MOVED) if isMoved else None)
    _table, heart, chest = measured(volume, lungsOf(volume))
    toWorld = bridge.ijkToWorldMatrix(volume)
    for line, columns, level, labels in (
        (heart, (49.5, 84.5), 79, "Heart width: 14 mm"),
        (chest, (9.5, 109.5), 89, "Chest width: 40 mm"),
    ):
        expected = [(toWorld @ [column, level, 0, 1])[:3] for column in columns]
        np.testing.assert_allclose(endsWorld(line), expected, atol=1e-6)
        assert labelsOf(line) == [labels]
    assert heart.GetLineLengthWorld() == pytest.approx(35 * 0.4)
    assert [one.GetName() for one in (heart, chest)] == ["Heart width", "Chest width"]


def test_the_table_has_a_row_with_units():
    volume = frontal(OBLIQUE)
    found = row(measured(volume, lungsOf(volume)).table)
    assert found["Cardiothoracic ratio"] == "0.35" and found["Heart found by"] == "lungs"
    assert (found["Heart width (mm)"], found["Chest width (mm)"]) == ("14", "40")
    assert "fat and vessels" in found["Notes"]


def test_a_picture_is_measured_in_pixels_and_its_lines_claim_no_mm(tmp_path):
    volume = frontal()
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    (tmp_path / "frontal.png").touch()
    storage.SetFileName(str(tmp_path / "frontal.png"))
    volume.SetAndObserveStorageNodeID(storage.GetID())
    table, heart, _chest = measured(volume, lungsOf(volume))
    assert row(table)["Heart width (pixels)"] == "35"
    assert not heart.GetMeasurement("length").GetEnabled()
    assert labelsOf(heart) == ["Heart width"]


@pytest.mark.parametrize(
    ("name", "terminology"),
    [
        ("Heart", ""),
        ("Herz", "General~SCT^123037004^Anatomical Structure~SCT^80891009^Heart~^^~Anatomic codes~^^~^^"),
    ],
)
def test_a_heart_that_is_segmented_is_measured(name, terminology):
    volume = frontal()
    segmentation = lungsOf(volume)
    addHeart(segmentation, volume, name, terminology)
    found = row(measured(volume, segmentation).table)
    assert (found["Cardiothoracic ratio"], found["Heart found by"]) == ("0.5", "heart segment")


def test_measuring_again_moves_the_same_lines_and_fills_the_same_table():
    volume = frontal()
    segmentation = lungsOf(volume)
    first = measured(volume, segmentation)
    changed = labels_hw()
    changed[:, 105:] = 0
    bridge.writeLabelmap(segmentation, changed[None], volume)
    second = measured(volume, segmentation)
    assert second == first and first.chestLine.GetNumberOfControlPoints() == 2
    assert row(second.table)["Cardiothoracic ratio"] == f"{35 / 95:.3f}"


def test_what_is_no_xray_is_refused():
    volume = frontal()
    with pytest.raises(VolumeError, match="is a CT"):
        measured(volume, lungsOf(volume), modality="CT")
    assert cardiothoracicTable(volume) is None


def test_the_console_measures():
    volume = frontal()
    assert row(SAMLungSegLogic().cardiothoracicRatio(volume, lungsOf(volume)).table)["Cardiothoracic ratio"] == "0.35"


# ---- the panel


def test_a_person_measures_and_sees_ratio_and_limits(module_window):
    volume = frontal()
    segmentation = lungsOf(volume)
    window = module_window(size=(1100, 900))
    ui = window.ui
    assert ui.cardiothoracicCollapsibleButton.visible and not ui.cardiothoracicButton.enabled
    assert "Segment the lungs first" in ui.cardiothoracicButton.toolTip
    window.choose(ui.outputSelector, segmentation)
    window.click(ui.cardiothoracicButton)
    tools.idle(window)
    assert "<b>Cardiothoracic ratio: 0.35</b>" in ui.cardiothoracicLabel.text
    assert "AP and portable views" in ui.cardiothoracicLabel.text
    bridge.writeLabelmap(segmentation, np.where(labels_hw() == 1, 1, 0)[None], volume)
    window.widget.refresh()
    assert "changed since" in ui.cardiothoracicLabel.text
    window.click(ui.cardiothoracicButton)
    tools.idle(window)
    assert "no left lung" in ui.statusLabel.text


def test_a_ct_has_no_such_section(window):
    assert not window.ui.cardiothoracicCollapsibleButton.visible


def test_lines_are_shown_with_their_xray_only(module_window):
    first, second = frontal(), frontal(name="other")
    heart = measured(first, lungsOf(first)).heartLine
    window = module_window(size=(1100, 900))
    window.choose(window.ui.inputSelector, first)
    assert heart.GetDisplayNode().GetVisibility()
    window.choose(window.ui.inputSelector, second)
    assert not heart.GetDisplayNode().GetVisibility()
    window.choose(window.ui.inputSelector, first)
    assert heart.GetDisplayNode().GetVisibility()


def test_lines_and_ratio_come_back_with_the_scene(module_window, tmp_path):
    volume = frontal()
    segmentation = lungsOf(volume)
    measured(volume, segmentation)
    window = module_window(size=(1100, 900))
    window.choose(window.ui.outputSelector, segmentation)
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(path)
    window.process_events()
    assert "0.35" in window.ui.cardiothoracicLabel.text
    assert len(slicer.util.getNodesByClass("vtkMRMLMarkupsLineNode")) == 2
    window.click(window.ui.cardiothoracicButton)
    tools.idle(window)
    assert len(slicer.util.getNodesByClass("vtkMRMLMarkupsLineNode")) == 2
