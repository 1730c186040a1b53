"""The numbers of one segment of any kind, for Slicer's Segment Statistics: on the main thread, as that module works."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import slicer
from slicer.i18n import tr as _

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs.caches import imageOf

Code = tuple[str, str, str]  # value, scheme, meaning

_ATTENUATION: Code = ("112031", "DCM", "Attenuation Coefficient")
_UNITS: dict[str, Code] = {
    "ml": ("ml", "UCUM", "milliliter"),
    "cm²": ("cm2", "UCUM", "square centimeter"),
    "mm": ("mm", "UCUM", "millimeter"),
    "HU": ("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "%": ("%", "UCUM", "percent"),
    "g": ("g", "UCUM", "gram"),
}
_PARTS = ("upper_third", "middle_third", "lower_third")
_WHOLE_ONLY = ("height_mm",)
DEFAULT_KEYS = ("height_mm", "perc15_hu", "laa950_percent", "laa910_percent", "haa_percent", "mass_g")


class Measurement(NamedTuple):
    """What a number is.

    Attributes:
        title: on the screen.
        unit: on the screen.
        description: one sentence.
        quantity: DICOM code of what is measured, where there is one.
        derivation: DICOM code of how it is derived, where there is one.
    """

    title: str
    unit: str
    description: str
    quantity: Code | None = None
    derivation: Code | None = None

    @property
    def unitCode(self) -> Code:
        """DICOM code of the unit."""
        return _UNITS[self.unit]


def measurements() -> dict[str, Measurement]:
    """All numbers by their key: those of the whole segment, named as in the library's tables, then those of thirds."""
    whole = _ofWhole()
    ofParts = {
        f"{part}_{name}": _ofPart(part, one)
        for part in _PARTS
        for name, one in whole.items()
        if name not in _WHOLE_ONLY
    }
    return {**whole, **ofParts}


def _ofWhole() -> dict[str, Measurement]:
    return {
        "volume_ml": Measurement(
            _("Volume"), "ml", _("Voxels times the volume of one."), ("118565006", "SCT", "Volume")
        ),
        "area_cm2": Measurement(_("Area"), "cm²", _("Of a volume of one slice: pixels times the area of one.")),
        "height_mm": Measurement(_("Height"), "mm", _("From the lowest to the highest point along the patient.")),
        "mean_hu": Measurement(
            _("Mean density"), "HU", _("Mean of the HU."), _ATTENUATION, ("373098007", "SCT", "Mean")
        ),
        "sd_hu": Measurement(
            _("SD of density"),
            "HU",
            _("Standard deviation of the HU."),
            _ATTENUATION,
            ("386136009", "SCT", "Standard Deviation"),
        ),
        "perc15_hu": Measurement(
            _("Perc15"), "HU", _("The lowest HU that at least 15 % of the voxels do not exceed."), _ATTENUATION
        ),
        "laa950_percent": Measurement(_("LAA-950"), "%", _("Low-attenuation area: voxels below -950 HU.")),
        "laa910_percent": Measurement(_("LAA-910"), "%", _("Low-attenuation area: voxels below -910 HU.")),
        "haa_percent": Measurement(_("HAA"), "%", _("High-attenuation area: voxels from -600 to -250 HU.")),
        "mass_g": Measurement(_("Mass"), "g", _("Volume times (mean HU + 1000) / 1000 g/ml.")),
    }


def _ofPart(part: str, one: Measurement) -> Measurement:
    titles = {"upper_third": _("upper third"), "middle_third": _("middle third"), "lower_third": _("lower third")}
    where = _("Thirds are of equal height along the patient.")
    return one._replace(title=f"{one.title}, {titles[part]}", description=f"{one.description} {where}")


def numbersOfSegment(
    segmentationNode: slicer.vtkMRMLSegmentationNode, segmentId: str, volumeNode: slicer.vtkMRMLVolumeNode
) -> dict[str, float]:
    """The numbers of a segment on the grid of a volume that are known, by the keys of `measurements`.

    Raises:
        SAMLungSegError: the volume has no usable voxels, the segment cannot be turned into voxels, or one of them is
            under a non-linear transform.
    """
    from SAMLungSegLib.volumetry import lung_sizes

    mask = bridge.segmentFromNode(segmentationNode, segmentId, volumeNode)
    sizes = lung_sizes(mask.astype(np.uint8), imageOf(volumeNode).volume)
    records = sizes.records()
    found: dict[str, float] = {}
    for record in (one for one in records if one["structure"] == records[0]["structure"]):  # what label 1 is called
        prefix = "" if record["part"] == "whole" else f"{record['part']}_"
        found |= {f"{prefix}{name}": value for name, value in record.items() if not isinstance(value, str)}
    return {key: found[key] for key in measurements() if found.get(key, np.nan) == found.get(key, np.nan)}
