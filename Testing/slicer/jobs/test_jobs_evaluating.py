"""Evaluating nodes: the library's numbers as tables, a chart, and the way to the worst slices."""

from __future__ import annotations

from dataclasses import replace

import bridge_nodes as nodes
import chests
import numpy as np
import pytest
import slicer

from SAMLungSegLib import evaluate
from SAMLungSegLib.errors import SettingsError, VolumeError
from SAMLungSegLib.evaluation import write_report
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs import EvaluateJob

TABLE = "vtkMRMLTableNode"


def addLungs(labelmap, volumeNode, name="lungs"):
    node = bridge.ensureSegmentation(volumeNode)
    node.SetName(name)
    bridge.writeLabelmap(node, labelmap, volumeNode)
    return node


def addReference(labelmap, volumeNode, name="reference"):
    """A labelmap volume on the grid of another volume, under its transform."""
    parent = volumeNode.GetParentTransformNode()
    matrix = chests.ijkToRas(volumeNode)
    return nodes.add_volume(labelmap, matrix, parent=parent, name=name, class_name="vtkMRMLLabelMapVolumeNode")


@pytest.fixture
def pair():
    """The oblique chest, its true lungs, and lungs with a block missing in one axial slice."""
    volumeNode = chests.obliqueChest()
    truth = chests.storedCoronally(chests.phantom().labelmap_kji)
    wrong = truth.copy()
    wrong[:, 3, :40] = 0
    return volumeNode, truth, wrong


def evaluated(prediction, reference, volumeNode=None, **options):
    job = EvaluateJob(prediction, reference, volumeNode, **options)
    return job.finish(job.run())


def tableOf(node):
    return slicer.util.dataframeFromTable(node)


def countOf(className: str) -> int:
    return slicer.mrmlScene.GetNumberOfNodesByClass(className)


def test_tables_hold_what_the_library_measures(pair):
    volumeNode, truth, wrong = pair
    image = chests.libraryVolume(volumeNode, chests.MOVED)
    expected = evaluate(replace(image, array_kji=wrong), replace(image, array_kji=truth), tolerance_mm=3.0)
    got = evaluated(addLungs(wrong, volumeNode), addReference(truth, volumeNode), volumeNode, toleranceMm=3.0)
    for table, library in ((got.sliceTable, expected.per_slice), (got.summaryTable, expected.per_volume)):
        shown = tableOf(table)
        assert list(shown["structure"]) == list(library["structure"])
        for name in ("dice", "jaccard", "surface_dice", "hausdorff_95_mm"):
            assert np.allclose(shown[name], library[name], equal_nan=True)
    assert got.sliceTable.GetName() == "lungs against reference, slices"
    assert set(tableOf(got.statisticsTable)["scope"]) == {"slices", "volume means", "whole volumes"}
    assert got.notes == expected.notes


def test_the_chart_shows_dice_of_each_lung_over_the_slices(pair):
    volumeNode, truth, wrong = pair
    got = evaluated(addLungs(wrong, volumeNode), addReference(truth, volumeNode))
    series = [got.plotChart.GetNthPlotSeriesNode(index) for index in range(got.plotChart.GetNumberOfPlotSeriesNodes())]
    assert [one.GetYColumnName() for one in series] == ["right lung", "left lung", "both lungs"]
    shown = tableOf(series[0].GetTableNode())
    right = tableOf(got.sliceTable).query("structure == 'right lung'")
    assert np.allclose(shown["right lung"], right["dice"], equal_nan=True)
    assert list(shown["slice"]) == list(range(8))


def test_the_worst_slice_can_be_jumped_to(pair):
    volumeNode, truth, wrong = pair
    got = evaluated(addLungs(wrong, volumeNode), addReference(truth, volumeNode), volumeNode)
    worst = got.worst[0]
    i, j, k = (np.linalg.inv(bridge.ijkToWorldMatrix(volumeNode)) @ [*worst.worldRas, 1])[:3]
    assert truth[round(k), round(j), round(i)] != wrong[round(k), round(j), round(i)]
    assert round(j) == 3
    assert worst.label == f"Slice 4: Dice {worst.dice:.3f}"
    assert [one.dice for one in got.worst] == sorted(one.dice for one in got.worst)
    red = chests.addSliceView(volumeNode)
    bridge.jumpTo(worst.worldRas)
    sliceToWorld = slicer.util.arrayFromVTKMatrix(red.GetSliceToRAS())
    assert (np.array(worst.worldRas) - sliceToWorld[:3, 3]) @ sliceToWorld[:3, 2] == pytest.approx(0)


def test_a_segmentation_may_be_the_reference_and_needs_no_volume(pair):
    volumeNode, truth, wrong = pair
    got = evaluated(addLungs(wrong, volumeNode, "mine"), addLungs(truth, volumeNode, "theirs"))
    again = evaluated(addLungs(wrong, volumeNode), addReference(truth, volumeNode), volumeNode)
    assert np.allclose(tableOf(got.summaryTable)["dice"], tableOf(again.summaryTable)["dice"])
    assert got.worst[0].worldRas == pytest.approx(again.worst[0].worldRas)


def test_equal_labelmaps_have_dice_one_and_still_slices_to_look_at(pair):
    volumeNode, truth, _ = pair
    got = evaluated(addLungs(truth, volumeNode), addReference(truth, volumeNode))
    assert (tableOf(got.summaryTable)["dice"] == 1).all()
    assert all(one.dice == 1 for one in got.worst)


def test_evaluating_the_same_nodes_again_fills_the_same_tables(pair):
    volumeNode, truth, wrong = pair
    prediction, reference = addLungs(wrong, volumeNode), addReference(truth, volumeNode)
    first = evaluated(prediction, reference)
    counts = countOf(TABLE), countOf("vtkMRMLPlotChartNode"), countOf("vtkMRMLPlotSeriesNode")
    bridge.writeLabelmap(prediction, truth, volumeNode)
    second = evaluated(prediction, reference)
    assert (countOf(TABLE), countOf("vtkMRMLPlotChartNode"), countOf("vtkMRMLPlotSeriesNode")) == counts
    assert second.sliceTable is first.sliceTable
    assert (tableOf(second.summaryTable)["dice"] == 1).all()
    other = evaluated(reference, prediction)
    assert other.sliceTable is not first.sliceTable


def test_the_csv_file_is_the_one_of_the_command_lines_report(pair, tmp_path):
    volumeNode, truth, wrong = pair
    image = chests.libraryVolume(volumeNode, chests.MOVED)
    reference = replace(image, array_kji=truth, name="reference")
    write_report([evaluate(replace(image, array_kji=wrong), reference)], tmp_path / "report")
    evaluated(addLungs(wrong, volumeNode), addReference(truth, volumeNode), csv=tmp_path / "new" / "slices.csv")
    written = (tmp_path / "new" / "slices.csv").read_text().splitlines()
    expected = (tmp_path / "report" / "per_slice.csv").read_text().splitlines()
    assert written[0] == expected[0]
    for ours, theirs in zip(written[1:], expected[1:], strict=True):
        for one, other in zip(ours.split(","), theirs.split(","), strict=True):
            assert one == other or float(one) == pytest.approx(float(other), rel=1e-4)


@pytest.mark.parametrize("which", [0, 1])
def test_tables_of_a_removed_node_are_not_shown(pair, which):
    volumeNode, truth, wrong = pair
    compared = addLungs(wrong, volumeNode), addReference(truth, volumeNode)
    job = EvaluateJob(*compared)
    result = job.run()
    slicer.mrmlScene.RemoveNode(compared[which])
    assert job.finish(result) is None
    assert countOf(TABLE) == 0


def test_what_is_missing_or_wrong_is_told(pair, tmp_path):
    volumeNode, truth, _ = pair
    lungs = addLungs(truth, volumeNode)
    with pytest.raises(VolumeError, match="No reference is given"):
        EvaluateJob(lungs, None)
    with pytest.raises(VolumeError, match="No labelmap is given"):
        EvaluateJob(None, lungs)
    with pytest.raises(VolumeError, match="looks like an image"):
        EvaluateJob(lungs, volumeNode).run()
    with pytest.raises(SettingsError, match="not a positive length"):
        EvaluateJob(lungs, lungs, toleranceMm=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(VolumeError, match="is a file"):
        EvaluateJob(lungs, lungs, csv=tmp_path / "file" / "slices.csv")
