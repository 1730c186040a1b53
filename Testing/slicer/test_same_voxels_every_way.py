"""The same prompts write the same voxels by preview and Accept, by 'Segment slice', and from the console."""

from __future__ import annotations

import chests
import numpy as np
import pytest
import slicer
import widgettools as tools

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.models.base import Prediction
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.parameters import boxNodes, sliceNodeOf
from SAMLungSegSlicer.promptnodes import clearPrompts, ensurePoints, newBox

CASES = 4  # of each volume and view
BEYOND = 3  # pixels that the model reaches beyond a box


class LeakyModel(chests.DarknessModel):
    """Finds what is dark, and lung in a box and around it."""

    def decode(self, embedding, prompts):
        one = super().decode(embedding, prompts)
        if prompts.box is None:
            return one
        logits = one.logits.copy()
        left, top, right, bottom = (round(value) for value in prompts.box.xyxy)
        logits[max(0, top - BEYOND) : bottom + BEYOND, max(0, left - BEYOND) : right + BEYOND] = 5.0
        return Prediction(logits, one.score, logits, one.structure_logits)


@pytest.fixture(autouse=True)
def model(monkeypatch):
    return tools.answer_at_once(monkeypatch, LeakyModel())


def press(window, button):
    window.click(button)
    tools.idle(window)


def lungs(window):
    """As a labelmap: a voxel in both lungs, such as a painted one, is right."""
    node, volume = window.ui.outputSelector.currentNode(), window.ui.inputSelector.currentNode()
    return bridge.labelmapFromNode(node, volume).array_kji


def paint(window, reformat, random):
    """As the Segment Editor's Paint or Erase: a block of a slice in one lung."""
    node, volume = window.ui.outputSelector.currentNode(), window.ui.inputSelector.currentNode()
    y, x = (int(random.integers(max(1, size - 8))) for size in reformat.size_hw)
    block_hw = np.zeros(reformat.size_hw, bool)
    block_hw[y : y + 8, x : x + 8] = True
    segment_id = node.GetSegmentation().GetNthSegmentID(int(random.integers(2)))
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume).copy()
    reformat.put(np.full(reformat.size_hw, random.integers(2), np.uint8), mask, block_hw)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment_id, volume)


def place_prompts(window, reformat, kind, random):
    """Points, boxes or both where the slice has voxels; a box is one slice thick, or several."""
    parameters, volume = window.widget.logic.getParameterNode(), window.ui.inputSelector.currentNode()
    pixels_yx = np.argwhere(reformat.inside_hw)
    for _ in range(random.integers(1, 4) if kind != "boxes" else 0):
        y, x = pixels_yx[random.integers(len(pixels_yx))]
        node = ensurePoints(parameters, bool(random.integers(2)))
        node.AddControlPointWorld(*tools.world(volume, reformat.xy_to_ijk((x, y))))
    for _ in range(random.integers(1, 3) if kind != "points" else 0):
        corners_yx = np.sort(pixels_yx[random.integers(len(pixels_yx), size=2)], axis=0)
        first, last = (corners_yx[0] - 4)[::-1], (corners_yx[1] + 4)[::-1]
        ends = np.array(
            [reformat.xy_to_ijk(np.clip(xy, 0, np.array(reformat.size_hw[::-1]) - 1)) for xy in (first, last)]
        )
        ends[1, 2 - reformat.plane.axes[0]] += random.choice([0, 0.4, 2])
        world = np.array([tools.world(volume, ijk) for ijk in ends])
        box = newBox(parameters)
        box.SetCenterWorld(*world.mean(axis=0))
        box.SetSizeWorld(*np.maximum(np.abs(world[1] - world[0]), 4.0))


def by_console(window, parameters):
    window.widget.logic.segmentSlice(
        parameters.inputVolume,
        parameters.sliceView,
        parameters.outputSegmentation,
        points=parameters.positivePoints,
        negativePoints=parameters.negativePoints,
        boxes=boxNodes(parameters),
        keepEdits=parameters.keepEdits,
        lungs=parameters.lungs,
    )


@pytest.mark.parametrize("view", ["Red", "Green", "Yellow"])
@pytest.mark.parametrize("make", [chests.axialChest, chests.obliqueChest])
def test_random_prompts_write_the_same_voxels_by_every_way(module_window, make, view):
    chest = tools.show(make())
    window = module_window(size=(900, 600))
    ui, parameters = window.ui, window.widget.logic.getParameterNode()
    random = np.random.default_rng([ord(view[0]), make is chests.obliqueChest])
    parameters.sliceView = view
    press(window, ui.segmentVolumeButton)
    changed = refused = 0
    for case in range(CASES):
        size_ijk = np.array(chest.GetImageData().GetDimensions())
        window.jump(tools.world(chest, size_ijk * random.uniform(0.35, 0.65, 3)))
        tools.settled(window)
        reformat = bridge.cutFromSliceNode(sliceNodeOf(parameters), chest)
        parameters.lungs = str(random.choice(["both", "both", "right", "left"]))
        parameters.keepEdits = bool(random.integers(4))
        paint(window, reformat, random)
        before = lungs(window)
        place_prompts(window, reformat, ("points", "boxes", "both")[case % 3], random)
        tools.settled(window)
        shown = tools.preview_lungs(window, chest)
        if not ui.acceptButton.enabled:  # a point beside one of the other kind, which the model does not follow
            refused += 1
            assert not shown.any()
            press(window, ui.segmentSliceButton)
            assert "does not follow the points" in ui.statusLabel.text
            with pytest.raises(PromptError, match="does not follow the points"):
                by_console(window, parameters)
            np.testing.assert_array_equal(lungs(window), before)
            clearPrompts(parameters)
            continue
        written = []
        for write in (ui.acceptButton, ui.segmentSliceButton, None):
            if write is None:
                by_console(window, parameters)
            else:
                assert write.enabled
                press(window, write)
            written.append(lungs(window))
            if (written[-1] != before).any():
                press(window, ui.undoButton)
            tools.settled(window)
            np.testing.assert_array_equal(lungs(window), before)
        np.testing.assert_array_equal(written[1], written[0])
        np.testing.assert_array_equal(written[2], written[0])
        differs = written[0] != before
        np.testing.assert_array_equal(shown[differs], np.where(chosen(written[0], parameters), written[0], 0)[differs])
        np.testing.assert_array_equal(written[0][shown > 0], shown[shown > 0])
        changed += differs.any()
        clearPrompts(parameters)
    assert refused < CASES
    assert changed >= (CASES - refused) / 2


def chosen(labelmap, parameters):
    return np.isin(labelmap, bridge.lungLabels(parameters.lungs))
