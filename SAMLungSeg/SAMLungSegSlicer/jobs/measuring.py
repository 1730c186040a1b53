"""How large the lungs of a segmentation are, and how dense."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs.caches import imageOf

if TYPE_CHECKING:
    from SAMLungSegLib.modality import Modality
    from SAMLungSegLib.volumetry import LungSizes

_KIND, _SIZES = "SAMLungSeg.Table", "sizes"
_LUNGS_ROLE = "SAMLungSegPrediction"
_SIZE_COLUMNS = {"ml": "volume_ml", "cm2": "area_cm2", "px": "pixels"}


class MeasureJob:
    """Sizes and mean HU of the lungs, on the grid of the volume."""

    def __init__(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode | None,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        modality: Modality | None = None,
    ) -> None:
        """Copy the lungs' voxels, and the volume's unless they are as they were for the last job.

        Args:
            volumeNode: what was segmented.
            segmentationNode: with lungs.
            modality: 'CT' or 'XRAY'; None to ask the image.
        Raises:
            SAMLungSegError: the volume has no usable voxels, the segmentation cannot be turned into voxels, or one of
                them is under a non-linear transform.
        """
        self._image = imageOf(volumeNode)
        self._lungs = bridge.storedLungs(segmentationNode, volumeNode)
        self._modality = modality

    def run(
        self, progress: Callable[..., None] | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> LungSizes:
        """Measure, on any thread.

        Raises:
            CancelledError: `cancelled` said so.
        """
        from SAMLungSegLib.volumetry import lung_sizes

        return lung_sizes(self._lungs.labelmap_kji(), self._image.volume, self._modality, cancelled=cancelled)


def sizesTable(sizes: LungSizes, segmentationNode: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLTableNode:
    """The sizes as a table node; that of an earlier measurement of the same segmentation is filled anew."""
    rows = sizes.rows
    columns = {
        "structure": [row.name for row in rows],
        _SIZE_COLUMNS[sizes.unit]: [row.size for row in rows],
        "voxels": [row.voxels for row in rows],
    }
    if sizes.modality == "CT":
        columns["mean_hu"] = [row.mean_hu for row in rows]
    name = _("{segmentation}, sizes").format(segmentation=segmentationNode.GetName())
    table = bridge.tableFromColumns(columns, name, _earlierTable(segmentationNode))
    table.SetAttribute(_KIND, _SIZES)
    table.SetNodeReferenceID(_LUNGS_ROLE, segmentationNode.GetID())
    return table


def _earlierTable(segmentationNode: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLTableNode | None:
    for table in slicer.util.getNodesByClass("vtkMRMLTableNode"):
        if table.GetAttribute(_KIND) == _SIZES and table.GetNodeReference(_LUNGS_ROLE) is segmentationNode:
            return table
    return None
