"""A generated chest as nodes, small enough to be segmented in a second."""

from __future__ import annotations

from functools import cache

import bridge_nodes as nodes
import numpy as np
import slicer
import vtk

from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.phantom import Phantom, chest_ct, chest_xray
from SAMLungSegLib.structures import LUNGS
from SAMLungSegLib.volume import Volume
from SAMLungSegSlicer import bridge

TILTED = nodes.affine([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]], [12, -7, 30])
MOVED = nodes.affine([[1, 0, 0], [0, 0.96, -0.28], [0, 0.28, 0.96]], [-40, 15, 8])


@cache
def phantom() -> Phantom:
    """Eight thick slices."""
    return chest_ct(seed=0, size_kji=(8, 96, 96), spacing_mm=(36.0, 4.0, 4.0))


def axialChest(name="chest"):
    """The CT as it was generated."""
    return nodes.add_volume(phantom().hu_kji.copy(), phantom().ijk_to_ras, name=name)


def obliqueChest(name="oblique"):
    """The same CT stored coronally, flipped and tilted, under a parent transform that turns and moves it."""
    array, matrix = storedCoronally(phantom().hu_kji), phantom().ijk_to_ras
    size_k, _, size_i = phantom().hu_kji.shape
    stored = np.eye(4)  # I runs as -I did, J as -K, K as J
    stored[:3, 0], stored[:3, 1], stored[:3, 2] = -matrix[:3, 0], -matrix[:3, 2], matrix[:3, 1]
    stored[:3, 3] = matrix[:3, 3] + matrix[:3, 0] * (size_i - 1) + matrix[:3, 2] * (size_k - 1)
    return nodes.add_volume(array, TILTED @ stored, parent=nodes.add_transform(MOVED), name=name)


def storedCoronally(array_kji: np.ndarray) -> np.ndarray:
    """An array of the axial chest in the order of `obliqueChest`."""
    return np.ascontiguousarray(array_kji.transpose(1, 0, 2)[:, ::-1, ::-1])


def ijkToRas(volumeNode) -> np.ndarray:
    """Of the node by itself, without its transforms."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def libraryVolume(volumeNode, parent=None) -> Volume:
    """What the library would have of a node; `parent` is the matrix (4, 4) of its transforms."""
    toWorld = ijkToRas(volumeNode) if parent is None else parent @ ijkToRas(volumeNode)
    return Volume(slicer.util.arrayFromVolume(volumeNode).copy(), toWorld, volumeNode.GetName())


@cache
def xray() -> np.ndarray:
    """The chest's radiograph, uint8 (H, W)."""
    return chest_xray(chest_ct(seed=0, size_kji=(48, 128, 128), spacing_mm=(7.0, 3.0, 3.0)))[0][::2, ::2].copy()


def addSliceView(volumeNode, orientation="Axial", name="Red", offset_mm=0.0):
    """A slice view through the middle of a volume, seen as Slicer's presets do, moved along its normal."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", name)
    node.SetLayoutName(name)
    node.SetOrientation(orientation)
    bounds = [0.0] * 6
    volumeNode.GetRASBounds(bounds)
    centre = np.reshape(bounds, (3, 2)).mean(axis=1)
    sliceToWorld = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
    node.JumpSliceByCentering(*(centre + offset_mm * sliceToWorld[:3, 2]).tolist())
    return node


def lungsOf(segmentationNode, volumeNode) -> np.ndarray:
    """The lungs as Slicer itself reads them on the volume's grid: 1 right, 2 left."""
    segmentation = segmentationNode.GetSegmentation()
    labelmap = np.zeros(volumeNode.GetImageData().GetDimensions()[::-1], np.uint8)
    for label, name in ((1, "right lung"), (2, "left lung")):
        segmentId = segmentation.GetSegmentIdBySegmentName(name)
        if not segmentId:
            continue
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segmentId, volumeNode)
        labelmap[mask > 0] = label
    return labelmap


def withBlock(volumeNode, name="right lung", value=slice(2, 4)):
    """A segmentation somebody has made: one block in one segment, and a nodule in another."""
    node = bridge.ensureSegmentation(volumeNode)
    matrix = ijkToRas(volumeNode)
    for segmentName, part in ((name, np.s_[value, 3:9, 3:9]), ("nodule", np.s_[1:7, 40:60, 40:60])):
        mask = np.zeros(volumeNode.GetImageData().GetDimensions()[::-1], np.uint8)
        mask[part] = 1
        nodes.add_segment(node, mask, matrix, segmentName)
    return node


def stateOf(segmentationNode) -> dict:
    """Every voxel of every segment by name."""
    segmentation = segmentationNode.GetSegmentation()
    return {
        segmentation.GetSegment(one).GetName(): nodes.voxels_in_world(segmentationNode, one).tobytes()
        for one in segmentation.GetSegmentIDs()
    }


class DarknessModel(PromptableModel):
    """A model at once: what is dark but not black is lung, and a point's surroundings are or are not lung."""

    name, device = "darkness", "cpu"
    capabilities = Capabilities(needs_prompt=False, structures=LUNGS)

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, views):
        slices = [ModelView.of(view).grey_hw for view in views]
        self.encoded += len(slices)
        return [Embedding((image,), image.shape) for image in slices]

    def decode(self, embedding, prompts):
        self.check_prompts(prompts, embedding.size_hw)
        (grey,) = embedding.features
        logits = np.where((grey > 20) & (grey < 130), 5.0, -5.0).astype(np.float32)
        for point in prompts.points:
            x, y = (round(value) for value in point.xy)
            logits[max(0, y - 5) : y + 6, max(0, x - 5) : x + 6] = 5.0 if point.positive else -5.0
        right = np.broadcast_to(np.arange(grey.shape[1]) < grey.shape[1] / 2, grey.shape)
        sides = {"right_lung": right.astype(np.float32), "left_lung": (~right).astype(np.float32)}
        return Prediction(logits, 0.9, logits, sides)
