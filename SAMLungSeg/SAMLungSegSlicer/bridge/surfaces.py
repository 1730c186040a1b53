"""Segments in 3D: their closed surfaces, made and removed."""

from __future__ import annotations

import slicer

from SAMLungSegLib.errors import VolumeError

_SURFACE = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()


def hasSurfaces(segmentationNode: slicer.vtkMRMLSegmentationNode) -> bool:
    """Whether its segments can be seen in 3D: their surfaces are there and shown."""
    display = segmentationNode.GetDisplayNode()
    isShown = display is not None and display.GetVisibility() and display.GetVisibility3D()
    return bool(isShown) and segmentationNode.GetSegmentation().ContainsRepresentation(_SURFACE)


def showSurfaces(segmentationNode: slicer.vtkMRMLSegmentationNode) -> None:
    """Make the surfaces of all segments and show them; takes seconds for large volumes.

    Raises:
        VolumeError: Slicer could not make them.
    """
    if not segmentationNode.CreateClosedSurfaceRepresentation():
        raise VolumeError(f"The segments of {segmentationNode.GetName()} could not be turned into surfaces.")
    segmentationNode.CreateDefaultDisplayNodes()
    display = segmentationNode.GetDisplayNode()
    display.SetPreferredDisplayRepresentationName3D(_SURFACE)
    display.SetVisibility3D(True)
    display.SetVisibility(True)


def hideSurfaces(segmentationNode: slicer.vtkMRMLSegmentationNode) -> None:
    """Remove the surfaces, which would be made anew at each edit; those that the segments are kept as are hidden."""
    segmentation = segmentationNode.GetSegmentation()
    if segmentation.GetSourceRepresentationName() != _SURFACE:
        segmentation.RemoveRepresentation(_SURFACE)
    elif segmentationNode.GetDisplayNode() is not None:
        segmentationNode.GetDisplayNode().SetVisibility3D(False)
