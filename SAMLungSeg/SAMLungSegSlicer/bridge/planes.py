"""The plane that a slice view shows, as a slice of a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import slicer

from SAMLungSegSlicer.bridge.transforms import ijkToWorldMatrix, sizeKji, transformed, worldToIjkMatrix
from SAMLungSegSlicer.bridge.volumes import ijkToPatientMatrix

if TYPE_CHECKING:
    from SAMLungSegLib.volume.reformat import ReformattedSlice


def cutFromSliceNode(sliceNode: slicer.vtkMRMLSliceNode, volumeNode: slicer.vtkMRMLVolumeNode) -> ReformattedSlice:
    """The voxels of a volume that a slice view shows, whatever the view's and the volume's directions.

    Raises:
        VolumeError: the volume has no voxels.
        GeometryError: the view does not meet the volume, or the volume is under a non-linear transform.
    """
    from SAMLungSegLib.volume.reformat import reformat_volume

    sliceToWorld = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())
    ijkToPatient = ijkToPatientMatrix(volumeNode)
    worldToPatient = ijkToPatient @ worldToIjkMatrix(volumeNode)
    normal = np.linalg.solve(worldToPatient[:3, :3].T, sliceToWorld[:3, 2])  # normals go by the inverse transpose
    point = transformed(worldToPatient, sliceToWorld[:3, 3])
    return reformat_volume(sizeKji(volumeNode), ijkToPatient, normal, point)


def pixelsFromWorld(points: np.ndarray, cut: ReformattedSlice, volumeNode: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """Float64 (N, 2): pixels of a slice that show positions (N, 3) of the world in mm; outside of the slice too.

    Raises:
        VolumeError, GeometryError: as `worldToIjkMatrix`.
    """
    return cut.ijk_to_xy(transformed(worldToIjkMatrix(volumeNode), points))


def worldFromPixels(points: np.ndarray, cut: ReformattedSlice, volumeNode: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """Float64 (N, 3): positions of the world in mm that pixels (N, 2) of a slice show: the inverse of it.

    Raises:
        VolumeError, GeometryError: as `ijkToWorldMatrix`.
    """
    return transformed(ijkToWorldMatrix(volumeNode), cut.xy_to_ijk(points))
