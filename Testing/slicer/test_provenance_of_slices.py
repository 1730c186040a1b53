"""Lungs that were written slice by slice say so: the record of each action, with the prompts that made it."""

from __future__ import annotations

import json

import chests
import numpy as np
import pytest
import slicer
import vtk
import widgettools as tools

from SAMLungSegLib import VolumeBox, VolumePoint
from SAMLungSegLib.cli import main
from SAMLungSegLib.models.registry import MODELS
from SAMLungSegLib.provenance import METADATA_NAME
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.bridge.history import historyOf
from SAMLungSegSlicer.jobs import SegmentSliceJob, SegmentVolumeJob, Settings
from SAMLungSegSlicer.promptnodes import ensurePoints

pytestmark = pytest.mark.usefixtures("nothing_kept")

SLICE = 4
POINT = VolumePoint((30.0, 50.0, float(SLICE)))


def at(chest, k=SLICE, orientation="Axial"):
    node = chests.addSliceView(chest, orientation, f"{orientation}{k}")
    node.JumpSliceByCentering(*tools.world(chest, (48, 48, k)))
    return node


def sliced(chest, sliceNode, segmentationNode=None, points=(), boxes=(), **settings):
    settings = Settings(**settings)
    job = SegmentSliceJob(chest, sliceNode, segmentationNode, settings, points=points, boxes=boxes)
    return job.finish(job.run())


def segmented(chest, segmentationNode=None, keepEdits=True, **settings):
    job = SegmentVolumeJob(chest, segmentationNode, Settings(**settings), keepEdits=keepEdits)
    return job.finish(job.run())


def recordOf(segmentationNode, label=1) -> dict | None:
    segmentId, text = bridge.findLungSegments(segmentationNode)[label], vtk.reference("")
    found = segmentationNode.GetSegmentation().GetSegment(segmentId).GetTag(METADATA_NAME, text)
    return json.loads(str(text)) if found else None


def test_a_slice_says_where_it_is_and_which_prompts_made_it(chest):
    node = sliced(chest, at(chest), points=(POINT,), window="1400/-500", device="cpu")
    assert recordOf(node, 1) == recordOf(node, 2)
    assert recordOf(node)["is_complete"] is True
    (action,) = recordOf(node)["actions"]
    assert action["options"]["points"] == [{"ijk": [30.0, 50.0, 4.0], "positive": True}]
    assert action["options"]["window"] == {"level": -500.0, "width": 1400.0}
    assert action["options"]["modality"] == "CT" and action["device"] == "cpu"
    assert action["weights_sha256"] == {"lung-compact": MODELS["lung-compact"].sha256}
    assert action["slice"]["orientation"] == "axial" and action["slice"]["size_hw"] == [96, 96]
    first_ijk = np.array(action["slice"]["xy_to_ijk"]) @ [0, 0, 1]
    assert first_ijk[2] == SLICE and set(first_ijk[:2]) <= {0, 95}
    assert (action["is_whole"], action["kept"]) == (True, 0)


def test_a_volume_and_slices_after_it_are_listed_in_their_order_and_undone(chest):
    node = segmented(chest)
    whole = recordOf(node)
    sliced(chest, at(chest), node, points=(POINT,))
    sliced(chest, at(chest, orientation="Coronal"), node, lungs="right")
    right, left = recordOf(node, 1)["actions"], recordOf(node, 2)["actions"]
    assert [one.get("slice", {}).get("orientation") for one in right] == [None, "axial", "coronal"]
    assert left == right[:2] and {key: right[0][key] for key in whole if key != "schema"}.items() <= whole.items()
    historyOf(node).undo()
    assert recordOf(node, 1)["actions"] == left
    historyOf(node).undo()
    assert recordOf(node) == whole
    historyOf(node).redo()
    assert recordOf(node, 2)["actions"] == left


def test_a_slice_that_is_written_anew_as_a_whole_replaces_its_record_and_one_of_a_box_does_not(chest):
    node = sliced(chest, at(chest))
    sliced(chest, at(chest), node, points=(POINT,))
    (action,) = recordOf(node)["actions"]
    assert len(action["options"]["points"]) == 1
    sliced(chest, at(chest), node, boxes=(VolumeBox((12, 25, 3.5), (40, 75, 4.5)),))
    first, second = recordOf(node)["actions"]
    assert first == action and second["is_whole"] is False
    assert second["options"]["boxes"] == [{"first_ijk": [12, 25, 4.0], "last_ijk": [40, 75, 4.0]}]


def test_what_was_there_before_and_is_not_known_is_said(chest):
    node = chests.withBlock(chest)
    sliced(chest, at(chest), node)
    assert recordOf(node, 1)["is_complete"] is False
    assert recordOf(node, 2)["is_complete"] is True  # which was empty


def test_a_volume_that_keeps_slices_says_so_and_one_that_replaces_them_has_its_record_alone(chest):
    node = segmented(chest)
    sliced(chest, at(chest), node, points=(VolumePoint((25.0, 60.0, 4.0), positive=False),))
    segmented(chest, node, threshold=0.6)
    actions = recordOf(node)["actions"]
    assert [("slice" in one, one["kept"]) for one in actions] == [(False, 0), (True, 0), (False, 1)]
    segmented(chest, node, keepEdits=False)
    assert recordOf(node)["options"]["threshold"] == 0.5 and "actions" not in recordOf(node)


def test_accept_leaves_the_record_of_the_prompts_that_were_previewed(chest, module_window):
    window = module_window(size=(1100, 800))
    window.jump(tools.world(chest, (48, 48, SLICE)))
    ensurePoints(window.widget.logic.getParameterNode(), False).AddControlPointWorld(
        *tools.world(chest, (25, 60, SLICE))
    )
    tools.settled(window)
    window.click(window.ui.acceptButton)
    tools.idle(window)
    (action,) = recordOf(window.ui.outputSelector.currentNode())["actions"]
    (point,) = action["options"]["points"]
    assert point["positive"] is False and point["ijk"] == pytest.approx([25, 60, SLICE], abs=1e-3)
    assert action["image_sha256"] and np.array(action["slice"]["xy_to_ijk"])[2].tolist() == [0, 0, SLICE]


def test_what_several_actions_made_is_not_made_again_and_that_is_said(chest, tmp_path, capsys):
    node = segmented(chest)
    sliced(chest, at(chest), node, points=(POINT,))
    slicer.util.saveNode(node, str(tmp_path / "Lungs.seg.nrrd"))
    assert main(["segment", "--replay", str(tmp_path / "Lungs.seg.nrrd"), "-o", str(tmp_path / "again")]) == 2
    assert "was made by several actions or slice by slice" in capsys.readouterr().err
