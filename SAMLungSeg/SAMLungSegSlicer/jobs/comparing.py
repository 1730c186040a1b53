"""The module's lungs beside those of methods without a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs.caches import imageOf
from SAMLungSegSlicer.jobs.settings import Settings
from SAMLungSegSlicer.jobs.targets import isInScene

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from SAMLungSegLib.evaluation.methods import Method

_KIND, _COMPARISON, _VOLUME_ROLE = "SAMLungSeg.Table", "methods", "SAMLungSegVolume"
_DECIMALS = {"dice_right": 4, "dice_left": 4, "seconds": 1}


class CompareMethodsJob:
    """Runs the model without prompts, a threshold, and growing from seeds, on one CT."""

    def __init__(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode | None,
        settings: Settings,
        referenceNode: slicer.vtkMRMLNode | None = None,
    ) -> None:
        """Read the volume and what the methods are compared with.

        Args:
            volumeNode: a CT.
            settings: of the model.
            referenceNode: segmentation with lungs or labelmap volume; None for what the model finds.
        Raises:
            SAMLungSegError: no volume, or the reference is no labelmap of lungs.
        """
        self._node, self._image, self._settings = volumeNode, imageOf(volumeNode), settings
        self._reference = referenceNode and bridge.labelmapFromNode(referenceNode, volumeNode)

    def run(
        self, progress: Callable[[int, int], None] | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> pd.DataFrame:
        """Find the lungs by each method, on any thread; progress is in methods.

        Returns:
            As `SAMLungSegLib.evaluation.methods.compare_methods`; the time to load the model is left out.
        Raises:
            CancelledError: `cancelled` said so.
            SAMLungSegError: it is no CT, or the model cannot be loaded.
        """
        from SAMLungSegLib.errors import SettingsError
        from SAMLungSegLib.evaluation.methods import compare_methods
        from SAMLungSegLib.modality import recognise_modality

        volume = self._image.volume
        if (self._settings.modality or recognise_modality(volume).modality) != "CT":
            raise SettingsError(f"{volume.name} is an X-ray, where thresholds find no lungs; choose a CT.")
        methods = self._methods()
        return compare_methods(volume, methods, self._reference, progress=progress, cancelled=cancelled)

    def finish(self, result: pd.DataFrame) -> slicer.vtkMRMLTableNode | None:
        """The rows as a table in the scene; that of an earlier comparison on the volume is filled anew.

        Returns:
            None where the volume was removed meanwhile.
        """
        if not isInScene(self._node):
            return None
        name = _("{volume}, methods").format(volume=self._node.GetName())
        table = bridge.tableFromDataFrame(result.round(_DECIMALS), name, self._earlierTable())
        table.SetAttribute(_KIND, _COMPARISON)
        table.SetNodeReferenceID(_VOLUME_ROLE, self._node.GetID())
        return table

    def _methods(self) -> list[Method]:
        from SAMLungSegLib import segment_volume
        from SAMLungSegLib.classical import grown_lungs, threshold_lungs
        from SAMLungSegLib.evaluation.methods import Method

        volume, model, options = self._image.volume, self._settings.loadedModel(), self._settings.options()

        def predicted(cancelled: Callable[[], bool]) -> np.ndarray:
            return segment_volume(volume, model, options, cancelled=cancelled).labelmap_kji

        return [
            Method(self._settings.model, predicted),
            Method(_("Threshold"), lambda cancelled: threshold_lungs(volume, cancelled=cancelled)),
            Method(_("Grow from seeds"), lambda cancelled: grown_lungs(volume, cancelled=cancelled)),
        ]

    def _earlierTable(self) -> slicer.vtkMRMLTableNode | None:
        for table in slicer.util.getNodesByClass("vtkMRMLTableNode"):
            if table.GetAttribute(_KIND) == _COMPARISON and table.GetNodeReference(_VOLUME_ROLE) is self._node:
                return table
        return None
