"""The numbers of lungs as a plugin of Slicer's Segment Statistics; imported where that module is there."""

from __future__ import annotations

import logging

import slicer
from SegmentStatisticsPlugins import SegmentStatisticsPluginBase
from slicer.i18n import tr as _

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegSlicer.jobs.segmentnumbers import DEFAULT_KEYS, Code, measurements, numbersOfSegment
from SAMLungSegSlicer.runtime import dependencies

logger = logging.getLogger(__name__)


class LungSegmentStatisticsPlugin(SegmentStatisticsPluginBase):
    """Densities, mass, height and thirds of any segment, in a CT or X-ray that is chosen as scalar volume."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "Lung"
        self.title = _("Lung")
        self.keys = [*measurements()]
        self.defaultKeys = [*DEFAULT_KEYS]

    def computeStatistics(self, segmentID: str) -> dict[str, float]:
        """The numbers that are asked for and known; none where they cannot be measured, which the log explains."""
        parameters, requested = self.getParameterNode(), self.getRequestedKeys()
        volumeNode = slicer.mrmlScene.GetNodeByID(parameters.GetParameter("ScalarVolume"))
        if not requested or volumeNode is None:
            return {}
        absent = dependencies.missing("measure")
        if absent:
            logger.warning("Lung statistics need %s: open SAMLungSeg and segment once.", ", ".join(absent))
            return {}
        segmentationNode = slicer.mrmlScene.GetNodeByID(parameters.GetParameter("Segmentation"))
        try:
            numbers = numbersOfSegment(segmentationNode, segmentID, volumeNode)
        except SAMLungSegError as error:
            logger.warning("No lung statistics of segment %s: %s", segmentID, error)
            return {}
        return {key: numbers[key] for key in requested if key in numbers}

    def getMeasurementInfo(self, key: str) -> dict[str, object] | None:
        """Name, title, description, unit and DICOM codes of a number; None of a key that is not ours."""
        one = measurements().get(key)
        if one is None:
            return None
        return self.createMeasurementInfo(
            name=key,
            title=one.title,
            description=one.description,
            units=one.unit,
            quantityDicomCode=self._entry(one.quantity),
            unitsDicomCode=self._entry(one.unitCode),
            derivationDicomCode=self._entry(one.derivation),
        )

    def _entry(self, code: Code | None) -> str | None:
        return self.createCodedEntry(*code, True) if code is not None else None
