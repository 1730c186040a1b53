"""The numbers of any segment, as Slicer's Segment Statistics gets them, and as that module itself shows them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import bridge_nodes as nodes
import numpy as np
import pytest
import slicer

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs.segmentnumbers import DEFAULT_KEYS, measurements, numbersOfSegment

SPACING_MM = np.diag([-0.5, -0.5, 4, 1])  # a voxel of 1 mm3
HU = np.array([-1000, -960, -940, -910, -600, -200], np.int16)


@pytest.fixture
def column():
    """A CT of six slices of the HU above, and a segment 'nodule' of one voxel in each."""
    volume = nodes.add_volume(np.broadcast_to(HU[:, None, None], (6, 4, 5)).copy(), SPACING_MM)
    mask = np.zeros((6, 4, 5), np.uint8)
    mask[:, 1, 2] = 1
    return volume, *segmented(mask, volume)


def segmented(mask, volume):
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segmentation.CreateDefaultDisplayNodes()
    segmentId = segmentation.GetSegmentation().AddEmptySegment("nodule", "nodule")
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segmentId, volume)
    return segmentation, segmentId


def by_hand():
    return {
        "volume_ml": 0.006,
        "height_mm": 24,
        "mean_hu": HU.mean(),
        "sd_hu": HU.std(ddof=1),
        "perc15_hu": -1000,
        "laa950_percent": 100 / 3,
        "laa910_percent": 50,
        "haa_percent": 100 / 6,
        "mass_g": (0 + 40 + 60 + 90 + 400 + 800) / 1e6,
    }


def test_a_segment_has_the_numbers_counted_by_hand(column):
    volume, segmentation, segmentId = column
    found = numbersOfSegment(segmentation, segmentId, volume)
    assert {key: found[key] for key in by_hand()} == pytest.approx(by_hand())
    assert (found["upper_third_mean_hu"], found["lower_third_mean_hu"]) == (-400, -980)
    assert "area_cm2" not in found and set(found) <= set(measurements())


def test_of_a_turned_patient_height_and_thirds_are_those_of_the_world(column):
    volume, segmentation, segmentId = column
    upside_down = nodes.add_transform(np.diag([1, -1, -1, 1]))
    for node in (volume, segmentation):
        node.SetAndObserveTransformNodeID(upside_down.GetID())
    found = numbersOfSegment(segmentation, segmentId, volume)
    assert {key: found[key] for key in by_hand()} == pytest.approx(by_hand())
    assert (found["upper_third_mean_hu"], found["lower_third_mean_hu"]) == (-980, -400)


def test_a_segment_on_another_grid_is_measured_on_that_of_the_volume(column):
    _, segmentation, segmentId = column
    matrix = SPACING_MM.copy()
    matrix[2] = 0, 0, 2, -1  # two slices in the place of one
    finer = nodes.add_volume(np.repeat(np.repeat(HU, 2)[:, None, None], 4, 1).repeat(5, 2), matrix)
    found = numbersOfSegment(segmentation, segmentId, finer)
    assert {key: found[key] for key in ("volume_ml", "mean_hu", "height_mm")} == pytest.approx(
        {"volume_ml": 0.006, "mean_hu": HU.mean(), "height_mm": 24}
    )


def test_an_empty_segment_has_a_volume_of_nothing_and_no_densities(column):
    volume, segmentation, _ = column
    empty = segmentation.GetSegmentation().AddEmptySegment("none", "none")
    found = numbersOfSegment(segmentation, empty, volume)
    assert found["volume_ml"] == 0 and not {"mean_hu", "mass_g", "height_mm"} & set(found)


def test_they_are_those_of_the_results_section(segmented_chest):
    volume, segmentation = segmented_chest
    from SAMLungSegSlicer.jobs import MeasureJob

    expected = MeasureJob(volume, segmentation).run().rows
    for label, segmentId in bridge.findLungSegments(segmentation).items():
        found = numbersOfSegment(segmentation, segmentId, volume)
        row = expected[label - 1]
        assert (found["volume_ml"], found["mean_hu"], found["mass_g"]) == (row.size, row.mean_hu, row.mass_g)


@pytest.fixture
def segmented_chest(chest):
    segmentation = bridge.ensureSegmentation(chest, None)
    hu = slicer.util.arrayFromVolume(chest)
    labels = np.where(hu < -500, 1 + (np.arange(hu.shape[2]) >= hu.shape[2] // 2), 0).astype(np.uint8)
    bridge.writeLabelmap(segmentation, labels, chest)
    return chest, segmentation


def test_where_slicer_lacks_segment_statistics_nothing_is_registered_and_the_log_says_so(monkeypatch, caplog):
    import SAMLungSeg

    monkeypatch.setitem(sys.modules, "SegmentStatistics", None)
    with caplog.at_level("INFO"):
        SAMLungSeg.registerSegmentStatistics()
    assert "Segment Statistics is not there" in caplog.text


@pytest.fixture
def statistics_module(monkeypatch):
    """Slicer's own Segment Statistics, from its sources; slicer-core lacks vtkITK, of its labelmap plugin."""
    folder = os.environ.get("SLICER_SEGMENT_STATISTICS_DIR")
    if not folder:
        pytest.skip("set SLICER_SEGMENT_STATISTICS_DIR to Modules/Scripted/SegmentStatistics of Slicer's sources")
    monkeypatch.syspath_prepend(str(Path(folder)))
    monkeypatch.setitem(sys.modules, "vtkITK", ModuleType("vtkITK"))
    monkeypatch.setitem(sys.modules, "vtkSegmentationCorePython", slicer)  # where slicer-core has its classes
    import SegmentStatistics

    ofVoxels = [SegmentStatistics.ScalarVolumeSegmentStatisticsPlugin]  # which needs nothing that is not here
    monkeypatch.setattr(SegmentStatistics.SegmentStatisticsLogic, "registeredPlugins", ofVoxels)
    return SegmentStatistics


def test_segment_statistics_itself_shows_them(column, statistics_module):
    import SAMLungSeg

    volume, segmentation, segmentId = column
    SAMLungSeg.registerSegmentStatistics()
    logic = statistics_module.SegmentStatisticsLogic()
    logic.getParameterNode().SetParameter("Segmentation", segmentation.GetID())
    logic.getParameterNode().SetParameter("ScalarVolume", volume.GetID())
    logic.computeStatistics()
    found, name = logic.getStatistics(), "LungSegmentStatisticsPlugin"
    for key in DEFAULT_KEYS:
        assert found[segmentId, f"{name}.{key}"] == pytest.approx(by_hand()[key]), key
    assert (segmentId, f"{name}.mean_hu") not in found
    assert found["MeasurementInfo"][f"{name}.perc15_hu"]["units"] == "HU"
    for ours, its in (("mean_hu", "mean"), ("sd_hu", "stdev"), ("volume_ml", "volume_cm3")):
        assert found[segmentId, f"ScalarVolumeSegmentStatisticsPlugin.{its}"] == pytest.approx(by_hand()[ours])
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    logic.exportToTable(table)
    columns = [table.GetColumnName(column) for column in range(table.GetNumberOfColumns())]
    assert set(DEFAULT_KEYS) <= set(columns)
