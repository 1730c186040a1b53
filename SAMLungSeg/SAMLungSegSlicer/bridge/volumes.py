"""Volume nodes as the library's volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import slicer

from SAMLungSegSlicer.bridge.dicomsource import dicomModality, oneSliceSource, storedPath
from SAMLungSegSlicer.bridge.transforms import checkedImage, ijkToWorldMatrix

if TYPE_CHECKING:
    from SAMLungSegLib.volume import Volume

_DIRECTIONS_WITHOUT_ORIENTATION = np.diag([-1.0, -1.0, 1.0])  # of a DICOM image that does not say how it lies


def volumeFromNode(volumeNode: slicer.vtkMRMLVolumeNode) -> Volume:
    """A copy of a volume node with the voxels that the library's own reader gives for the same file.

    Its place is the world's, parent transforms included; see `ijkToPatientMatrix` for the one exception.

    Raises:
        VolumeError: no voxels, in colour, or several values in each voxel.
        GeometryError: a parent transform is not linear, or the directions are degenerate.
    """
    from SAMLungSegLib.volume import Volume

    checkedImage(volumeNode)
    return Volume(
        _withRightPolarity(_greyVoxels(volumeNode), volumeNode),
        ijkToPatientMatrix(volumeNode),
        volumeNode.GetName(),
        _modalityHint(volumeNode),
        _hasPhysicalSpacing(volumeNode),
        is_lateral=_isLateral(volumeNode),
    )


def ijkToPatientMatrix(volumeNode: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """Float64 (4, 4): voxel centre (i, j, k, 1) to the patient's RAS in mm, which decides what is right and left.

    This is `ijkToWorldMatrix` but for DICOM X-rays. Most have no place in the patient, only PatientOrientation, which
    Slicer ignores: it shows the columns as running to the patient's left, the rows to posterior. As long as nobody has
    turned or transformed such a node, and its file is still there, the directions are taken from the file.

    Raises:
        VolumeError: no volume, or one without voxels.
        GeometryError: a parent transform is not linear or degenerate.
    """
    toWorld = ijkToWorldMatrix(volumeNode)
    spacing = np.array(volumeNode.GetSpacing())
    isAsLoaded = volumeNode.GetParentTransformNode() is None and np.allclose(
        toWorld[:3, :3], _DIRECTIONS_WITHOUT_ORIENTATION * spacing
    )
    source = oneSliceSource(volumeNode) if isAsLoaded else None
    if source is None or source.modality_hint != "XRAY":
        return toWorld
    toPatient = source.ijk_to_ras.copy()
    toPatient[:3, :3] *= spacing / np.linalg.norm(toPatient[:3, :3], axis=0)
    return toPatient


def _greyVoxels(volumeNode: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    from SAMLungSegLib.volume.pixels import grey_voxels

    stored = slicer.util.arrayFromVolume(volumeNode)
    grey = grey_voxels(stored, f"Volume {volumeNode.GetName()}", has_channels=stored.ndim > 3)
    return grey.copy() if np.may_share_memory(grey, stored) else grey


def _withRightPolarity(voxels: np.ndarray, volumeNode: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """The voxels, or those of the DICOM file where the library reads them as the exact negative.

    ITK, and so Slicer, inverts MONOCHROME1 but not an inverse presentation LUT; of a CT it should not.
    """
    source = oneSliceSource(volumeNode)
    if source is None or source.size_kji != voxels.shape:
        return voxels
    total = source.array_kji.astype(np.float64) + voxels
    return source.array_kji.copy() if total.min() == total.max() else voxels


def _modalityHint(volumeNode: slicer.vtkMRMLVolumeNode) -> str | None:
    from SAMLungSegLib.volume.dicom import modality_of_code

    source = oneSliceSource(volumeNode)
    return modality_of_code(dicomModality(volumeNode)) or (source.modality_hint if source is not None else None)


def _isLateral(volumeNode: slicer.vtkMRMLVolumeNode) -> bool:
    source = oneSliceSource(volumeNode)
    return source is not None and source.is_lateral


def _hasPhysicalSpacing(volumeNode: slicer.vtkMRMLVolumeNode) -> bool:
    """False for pictures (PNG, JPEG, TIFF), whose pixels are 1 mm only because something has to be said."""
    from SAMLungSegLib.volume.formats import PICTURE_EXTENSIONS

    if not np.allclose(volumeNode.GetSpacing(), 1):
        return True
    source, path = oneSliceSource(volumeNode), storedPath(volumeNode)
    if source is not None:
        return source.has_physical_spacing
    return path is None or path.suffix.lower() not in PICTURE_EXTENSIONS
