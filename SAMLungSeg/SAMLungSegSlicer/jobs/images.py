"""The voxels of the volume that is worked on, copied once for many jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import slicer

from SAMLungSegSlicer import bridge

if TYPE_CHECKING:
    from SAMLungSegLib import Volume


class Image(NamedTuple):
    """A copy of a volume node's voxels, safe to read on any thread.

    Attributes:
        key: what changes when the node's voxels or its place in the world change.
        volume: the copy.
    """

    key: tuple
    volume: Volume


_latest: Image | None = None


def imageOf(volumeNode: slicer.vtkMRMLVolumeNode | None) -> Image:
    """The voxels of a volume node; copied again only when another node is asked for or it has changed.

    Raises:
        VolumeError: no volume, or one without usable voxels.
        GeometryError: it is under a non-linear transform, or its directions are degenerate.
    """
    global _latest
    matrix = bridge.ijkToWorldMatrix(volumeNode)
    image = volumeNode.GetImageData()
    key = (volumeNode.GetID(), image and image.GetMTime(), matrix.tobytes())
    if _latest is None or _latest.key != key:
        _latest = Image(key, bridge.volumeFromNode(volumeNode))
    return _latest


def forgetImage() -> None:
    """Let go of the copy."""
    global _latest
    _latest = None
