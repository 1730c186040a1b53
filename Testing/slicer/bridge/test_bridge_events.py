"""What Slicer learns of a slice that was written: events, surfaces, saving, undo."""

from __future__ import annotations

import bridge_nodes as nodes
import numpy as np
import slicer
import vtk
from test_bridge_cuts import GRID, SIZE_KJI, ct, lungs_of, middle_cut, random_labels, segmented

from SAMLungSegSlicer import bridge

EVENTS = ("SourceRepresentationModified", "RepresentationModified")


def observed(node, names=EVENTS):
    seen = []
    for name in names:

        @vtk.calldata_type(vtk.VTK_STRING)
        def note(caller, event, segment_id, name=name):
            seen.append((name, segment_id))

        node.GetSegmentation().AddObserver(getattr(slicer.vtkSegmentation, name), note)
    return seen


def test_only_the_segments_that_changed_are_announced_and_marked_for_saving(tmp_path):
    volume, reformat = ct(), middle_cut()
    before = random_labels(np.random.default_rng(11))
    node = segmented(volume, before)
    right = bridge.ensureLungSegments(node)[1]
    assert slicer.util.saveNode(node, str(tmp_path / "x.seg.nrrd"))
    assert not node.GetModifiedSinceRead()
    seen = observed(node)
    bridge.writeCut(node, reformat.take(before), reformat, volume)
    assert seen == []
    assert not node.GetModifiedSinceRead()
    labels = reformat.take(before)
    labels[labels == 0] = 1
    bridge.writeCut(node, labels, reformat, volume)
    assert seen == [(name, right) for name in EVENTS]
    assert node.GetModifiedSinceRead()


def test_surfaces_follow_the_lung_that_changed_and_no_other_segment_loses_its_own():
    volume, reformat = ct(), middle_cut()
    codes = np.zeros(SIZE_KJI, np.uint8)
    codes[1:6, 1:8, 1:4], codes[1:6, 1:8, 4:7], codes[1:6, 1:8, 7:10] = 1, 2, 3
    node = nodes.add_segmentation(volume)
    ids = nodes.import_labelmap(node, codes, GRID, ["right lung", "left lung", "heart"])
    node.CreateClosedSurfaceRepresentation()
    before = [node.GetClosedSurfaceInternalRepresentation(one).GetNumberOfPoints() for one in ids]
    heart = node.GetClosedSurfaceInternalRepresentation(ids[2])
    labels = reformat.take(np.where(codes == 3, 0, codes))
    labels[:, 1] = 0
    bridge.writeCut(node, labels, reformat, volume)
    after = [node.GetClosedSurfaceInternalRepresentation(one).GetNumberOfPoints() for one in ids]
    assert after[0] != before[0]
    assert after[1:] == before[1:]
    assert node.GetClosedSurfaceInternalRepresentation(ids[2]) is heart


def test_undo_of_the_segment_editor_brings_the_voxels_back():
    volume, reformat = ct(), middle_cut()
    before = random_labels(np.random.default_rng(12))
    node = segmented(volume, before)
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(node.GetSegmentation())
    history.SaveState()
    labels = random_labels(np.random.default_rng(13), reformat.size_hw)
    bridge.writeCut(node, labels, reformat, volume)
    after = lungs_of(node, volume)
    assert history.RestorePreviousState()
    assert np.array_equal(lungs_of(node, volume), before)
    assert history.RestoreNextState()
    assert np.array_equal(lungs_of(node, volume), after)


def test_undo_of_the_scene_brings_the_voxels_back():
    volume, reformat = ct(), middle_cut()
    before = random_labels(np.random.default_rng(14))
    node = segmented(volume, before)
    slicer.mrmlScene.SetUndoOn()
    node.UndoEnabledOn()
    slicer.mrmlScene.SaveStateForUndo()
    bridge.writeCut(node, 2 - reformat.take(before), reformat, volume)
    assert not np.array_equal(lungs_of(node, volume), before)
    slicer.mrmlScene.Undo()
    assert np.array_equal(lungs_of(node, volume), before)


def test_a_lung_that_becomes_empty_loses_its_surface_without_complaint(capfd):
    volume = ct()
    codes = np.zeros(SIZE_KJI, np.uint8)
    codes[1:6, 1:8, 1:4], codes[1:6, 1:8, 7:10] = 1, 2
    node = segmented(volume, codes)
    node.CreateClosedSurfaceRepresentation()
    bridge.writeLabelmap(node, np.where(codes == 2, 2, 0), volume)
    right, left = bridge.ensureLungSegments(node).values()
    assert node.GetClosedSurfaceInternalRepresentation(right).GetNumberOfPoints() == 0
    assert node.GetClosedSurfaceInternalRepresentation(left).GetNumberOfPoints() > 0
    assert "ERR" not in capfd.readouterr().err
