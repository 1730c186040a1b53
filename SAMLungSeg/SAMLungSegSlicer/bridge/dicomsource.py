"""What the DICOM files of a volume say that Slicer does not take from them."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import slicer

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegSlicer.bridge.transforms import sizeKji

if TYPE_CHECKING:
    from SAMLungSegLib.volume import Volume

logger = logging.getLogger(__name__)

_INSTANCES_ATTRIBUTE = "DICOM.instanceUIDs"
_MODALITY_TAG = "0008,0060"


def dicomModality(volumeNode: slicer.vtkMRMLVolumeNode) -> str | None:
    """The modality code, such as CT or DX, of the series in the subject hierarchy or in the DICOM database."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy is not None else 0
    if item:
        name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
        code = hierarchy.GetItemAttribute(item, name)
        if code:
            return code
    database, instance = _database(), _firstInstance(volumeNode)
    return (database.instanceValue(instance, _MODALITY_TAG) or None) if database and instance else None


def oneSliceSource(volumeNode: slicer.vtkMRMLVolumeNode) -> Volume | None:
    """A volume of one slice as the library reads its DICOM file; None where there is no such file any more.

    Raises:
        VolumeError: the volume has no voxels.
    """
    path = _dicomPath(volumeNode) if 1 in sizeKji(volumeNode) else None
    return None if path is None else _read(path, path.stat().st_mtime_ns)


def storedPath(volumeNode: slicer.vtkMRMLVolumeNode) -> Path | None:
    """The file that a volume was loaded from or saved to, where it exists."""
    storage = volumeNode.GetStorageNode()
    path = Path(storage.GetFullNameFromFileName() or "") if storage is not None else None
    return path if path is not None and path.is_file() else None


def _database() -> object | None:
    return getattr(slicer, "dicomDatabase", None)


def _firstInstance(volumeNode: slicer.vtkMRMLVolumeNode) -> str | None:
    return next(iter((volumeNode.GetAttribute(_INSTANCES_ATTRIBUTE) or "").split()), None)


def _dicomPath(volumeNode: slicer.vtkMRMLVolumeNode) -> Path | None:
    from SAMLungSegLib.volume.formats import is_marked_as_dicom

    database, instance = _database(), _firstInstance(volumeNode)
    indexed = database.fileForInstance(instance) if database and instance else ""
    path = Path(indexed) if indexed else storedPath(volumeNode)
    return path if path is not None and is_marked_as_dicom(path) else None


@lru_cache(maxsize=4)
def _read(path: Path, modified: int) -> Volume | None:
    """`modified` makes a file that changed be read again."""
    from SAMLungSegLib.volume import read_volume

    try:
        return read_volume(path)
    except SAMLungSegError as error:
        logger.info("The DICOM source of a volume is not used: %s", error)
        return None
