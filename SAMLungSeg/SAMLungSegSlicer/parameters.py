"""What the user chose: typed, kept in a node of the scene, so that saving and reopening a scene brings it back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Union

import slicer
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from SAMLungSegLib.models.registry import MODELS as _REGISTRY
from SAMLungSegSlicer.jobs.settings import Settings

MODALITIES = ("auto", "CT", "XRAY")
WINDOWS = ("lung", "lung-zero-shot", "mediastinum", "bone", "custom")
LUNGS = ("both", "right", "left")
EXTENTS = ("visible", "whole", "both")
VIEWS = ("Red", "Green", "Yellow")  # what Slicer always has; `viewNames` has the others, too
DEVICES = ("auto", "cpu", "cuda", "mps")
MODELS = tuple(_REGISTRY)  # the bundled one is the first

BOXES_ROLE = "boxes"


@parameterNodeWrapper
class SAMLungSegParameterNode:
    """The parameters of the module.

    Attributes:
        inputVolume: CT or X-ray.
        outputSegmentation: where the lungs go; None makes a new one.
        model: a name of the registry.
        lungs: which lungs are written.
        extent: of lungs on X-rays; see `offersExtents`.
        keepEdits: whether slices that were painted or accepted stay when the volume is segmented again.
        positivePoints, negativePoints: the user's points; None until the first one is placed.
        sliceView: layout name of the view whose slice is segmented and previewed.
        livePreview: whether a changed prompt is predicted from at once.
        brushRadiusMm: of the brush that draws in slice views.
        reference: what the lungs are compared with.
        toleranceMm: distance within which a surface counts as the same.
        modality: 'auto' asks the image.
        window: preset of the CT window, or 'custom' for windowWidth and windowLevel (HU).
        threshold: probability above which a pixel is lung.
        customWeights: path of a checkpoint of the user's; empty for the model's own.
        device: 'auto' takes the fastest there is.
    """

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    outputSegmentation: slicer.vtkMRMLSegmentationNode
    model: Annotated[str, Choice(MODELS)] = MODELS[0]
    lungs: Annotated[str, Choice(LUNGS)] = LUNGS[0]
    extent: Annotated[str, Choice(EXTENTS)] = EXTENTS[0]
    keepEdits: bool = True
    positivePoints: slicer.vtkMRMLMarkupsFiducialNode
    negativePoints: slicer.vtkMRMLMarkupsFiducialNode
    sliceView: str = VIEWS[0]
    livePreview: bool = True
    brushRadiusMm: Annotated[float, WithinRange(0.5, 50)] = 5.0
    reference: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    toleranceMm: Annotated[float, WithinRange(0.1, 20)] = 2.0
    modality: Annotated[str, Choice(MODALITIES)] = MODALITIES[0]
    window: Annotated[str, Choice(WINDOWS)] = WINDOWS[0]
    windowWidth: Annotated[float, WithinRange(1, 10_000)] = 1500.0
    windowLevel: Annotated[float, WithinRange(-5_000, 5_000)] = -600.0
    threshold: Annotated[float, WithinRange(0.05, 0.95)] = 0.5
    customWeights: str = ""
    device: Annotated[str, Choice(DEVICES)] = DEVICES[0]


_CHOICES = {
    "model": MODELS,
    "lungs": LUNGS,
    "extent": EXTENTS,
    "modality": MODALITIES,
    "window": WINDOWS,
    "device": DEVICES,
}


def forgetUnknownChoices(parameters: SAMLungSegParameterNode) -> None:
    """Put defaults where a scene holds a choice of another version of the module, or a slice view that it lacks."""
    for name, choices in {**_CHOICES, "sliceView": viewNames()}.items():
        if getattr(parameters, name) not in choices:
            setattr(parameters, name, choices[0])


def settingsOf(parameters: SAMLungSegParameterNode) -> Settings:
    """The choices as jobs take them."""
    window = parameters.window
    if window == "custom":
        window = f"{parameters.windowWidth:g}/{parameters.windowLevel:g}"
    return Settings(
        modality=None if parameters.modality == "auto" else parameters.modality,
        window=window,
        model=parameters.model,
        weights=Path(parameters.customWeights) if parameters.customWeights else None,
        device=None if parameters.device == "auto" else parameters.device,
        lungs=parameters.lungs,
        threshold=parameters.threshold,
        extent=parameters.extent if offersExtents(parameters) else EXTENTS[0],
    )


def offersExtents(parameters: SAMLungSegParameterNode) -> bool:
    """Whether there is a choice of extent: the input may be an X-ray, and the model predicts whole lungs."""
    return "whole" in _REGISTRY[parameters.model].capabilities.extents and mayBeXray(parameters)


def mayBeXray(parameters: SAMLungSegParameterNode) -> bool:
    """Whether the input is an X-ray by what the user says, or is a single slice and the user says nothing."""
    volumeNode = parameters.inputVolume
    if volumeNode is None:
        return False
    if parameters.modality != "auto":
        return parameters.modality == "XRAY"
    image = volumeNode.GetImageData()
    return image is not None and 1 in image.GetDimensions()


def viewNames() -> tuple[str, ...]:
    """Layout names of the slice views: the three that Slicer always has, then what its layouts have added."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    return tuple(dict.fromkeys([*VIEWS, *filter(None, (node.GetLayoutName() for node in nodes))]))


def sliceNodeOf(parameters: SAMLungSegParameterNode) -> slicer.vtkMRMLSliceNode | None:
    """The slice view that is segmented and previewed; None where the layout has never had it."""
    return slicer.mrmlScene.GetSingletonNode(parameters.sliceView, "vtkMRMLSliceNode")


def boxNodes(parameters: SAMLungSegParameterNode) -> list[slicer.vtkMRMLMarkupsROINode]:
    """The box prompts that are in the scene."""
    raw = parameters.parameterNode
    count = raw.GetNumberOfNodeReferences(BOXES_ROLE)
    nodes = [raw.GetNthNodeReference(BOXES_ROLE, index) for index in range(count)]
    return [node for node in nodes if node is not None]


def addBoxNode(parameters: SAMLungSegParameterNode, node: slicer.vtkMRMLMarkupsROINode) -> None:
    """Take `node` as one more box prompt."""
    parameters.parameterNode.AddNodeReferenceID(BOXES_ROLE, node.GetID())


def setBoxNodes(parameters: SAMLungSegParameterNode, nodes: list[slicer.vtkMRMLMarkupsROINode]) -> None:
    """Take these nodes as the box prompts, and no others; all stay in the scene."""
    parameters.parameterNode.RemoveNodeReferenceIDs(BOXES_ROLE)
    for node in nodes:
        addBoxNode(parameters, node)
