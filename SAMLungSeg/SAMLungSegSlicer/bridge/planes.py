"""The plane that a slice view shows, as a slice of a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import slicer

from SAMLungSegSlicer.bridge.transforms import sizeKji, transformed, worldToIjkMatrix
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
