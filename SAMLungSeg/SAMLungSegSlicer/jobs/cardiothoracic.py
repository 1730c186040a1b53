"""The cardiothoracic ratio of an X-ray: lines in the views, and a table."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import slicer
from slicer.i18n import tr as _

from SAMLungSegLib.errors import VolumeError
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs.caches import imageOf
from SAMLungSegSlicer.jobs.targets import isInScene

if TYPE_CHECKING:
    from SAMLungSegLib.cardiothoracic import CardiothoracicRatio

logger = logging.getLogger(__name__)

_TABLE_ROLE = "SAMLungSeg.cardiothoracicRatio"


class CardiothoracicNodes(NamedTuple):
    """What a measurement left in the scene.

    Attributes:
        table: one row: image, ratio, both widths, what the heart was found by, and notes.
        heartLine, chestLine: both widths, at their places.
    """

    table: slicer.vtkMRMLTableNode
    heartLine: slicer.vtkMRMLMarkupsLineNode
    chestLine: slicer.vtkMRMLMarkupsLineNode


class CardiothoracicJob:
    """Measures heart and chest by the lungs of a segmentation, and by its heart where it has one."""

    def __init__(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        *,
        modality: str | None = None,
    ) -> None:
        """Read image, lungs and heart.

        Args:
            volumeNode: the X-ray.
            segmentationNode: with its lungs, and perhaps the heart.
            modality: 'CT' or 'XRAY'; None to ask the image.
        Raises:
            VolumeError: a node is missing, or has no lungs.
            GeometryError: a non-linear transform.
        """
        self._image = imageOf(volumeNode).volume
        labelmap = bridge.labelmapFromNode(segmentationNode, volumeNode)
        self._lungs = replace(self._image, array_kji=labelmap.array_kji, extent=labelmap.extent)
        self._heart_kji = bridge.heartFromNode(segmentationNode, volumeNode)
        self._volumeNode, self._modality = volumeNode, modality

    def run(
        self, progress: Callable[..., None] | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> CardiothoracicRatio:
        """Measure, on any thread.

        Raises:
            VolumeError: it is a CT, or the lungs cannot be measured; see `cardiothoracic_ratio`.
        """
        from SAMLungSegLib.cardiothoracic import cardiothoracic_ratio
        from SAMLungSegLib.modality import recognise_modality

        if (self._modality or recognise_modality(self._image).modality) == "CT":
            raise VolumeError(
                f"{self._image.name} is a CT; the cardiothoracic ratio is that of an X-ray. If it is one, choose X-ray "
                "as its modality."
            )
        return cardiothoracic_ratio(self._lungs, self._heart_kji)

    def finish(self, result: CardiothoracicRatio) -> CardiothoracicNodes | None:
        """Show both widths as lines and the ratio as a table; those of an earlier measurement are used again.

        Returns:
            None, with nothing changed, when the X-ray was removed meanwhile.
        """
        if not isInScene(self._volumeNode):
            logger.info("The X-ray has been removed meanwhile: its cardiothoracic ratio is not shown.")
            return None
        lines = bridge.showWidths(self._volumeNode, result.heart, result.chest, inMm=result.in_mm)
        return CardiothoracicNodes(self._table(result), *lines)

    def _table(self, result: CardiothoracicRatio) -> slicer.vtkMRMLTableNode:
        import pandas as pd

        unit = "mm" if result.in_mm else _("pixels")
        foundBy = {"heart": _("heart segment"), "lungs": _("lungs")}
        row = {
            _("Image"): self._volumeNode.GetName(),
            _("Cardiothoracic ratio"): round(result.ratio, 3),
            _("Heart width ({unit})").format(unit=unit): round(result.heart.mm, 1),
            _("Chest width ({unit})").format(unit=unit): round(result.chest.mm, 1),
            _("Heart found by"): foundBy[result.found_by],
            _("Notes"): " ".join(result.notes),
        }
        name = _("{name} cardiothoracic ratio").format(name=self._volumeNode.GetName())
        table = bridge.tableFromDataFrame(pd.DataFrame([row]), name, cardiothoracicTable(self._volumeNode))
        self._volumeNode.SetNodeReferenceID(_TABLE_ROLE, table.GetID())
        return table


def cardiothoracicTable(volumeNode: slicer.vtkMRMLVolumeNode) -> slicer.vtkMRMLTableNode | None:
    """The table of a volume that was measured; None where it was not, or the table was removed."""
    return volumeNode.GetNodeReference(_TABLE_ROLE)
