"""The numbers of the lungs of a segmentation: how large, how high, how dense."""

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
    """All numbers that are known as a table node, a row for each lung, then for each third.

    That of an earlier measurement of the same segmentation is filled anew.
    """
    records = sizes.records()
    names = {row.key: row.name for row in sizes.rows}
    parts = {"whole": _("whole"), "upper_third": _("upper third")}
    parts |= {"middle_third": _("middle third"), "lower_third": _("lower third")}
    columns = {column: [record[column] for record in records] for column in records[0]}
    columns["structure"] = [names[key] for key in columns["structure"]]
    columns["part"] = [parts[part] for part in columns["part"]]
    columns = {column: values for column, values in columns.items() if any(value == value for value in values)}
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
