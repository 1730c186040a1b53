"""Which extent of the lungs on an X-ray a labelmap is of, as its file says it: visible fields, whole lungs, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from SAMLungSegLib.structures import EXTENT_CHOICES, HIDDEN_LUNGS, LUNGS, LUNGS_WITH_HIDDEN, ExtentChoice
from SAMLungSegLib.volume.segmentations import StoredSegment, StructureLabels
from SAMLungSegLib.volume.types import Volume

EXTENT_NAME = "SAMLungSeg_Extent"  # of the text in a file, and of the tag of a segment


def extent_of_segments(
    segments: Sequence[StoredSegment], fields: Mapping[str, str] | None = None
) -> ExtentChoice | None:
    """What a file of segments says: by its header, by the segments' tags, or by their names, as DICOM keeps them.

    Args:
        segments: of the file; none of a mere labelmap.
        fields: keys and values of its header.
    """
    fields = fields or {}
    tags = (one for key, value in fields.items() if key.endswith("_Tags") for one in value.split("|"))
    said = {text for name, _, text in (tag.partition(":") for tag in tags) if name == EXTENT_NAME}
    stated = said.pop() if len(said) == 1 else fields.get(EXTENT_NAME)
    return known_extent(stated) or _extent_of_names(segments)


def known_extent(text: str | None) -> ExtentChoice | None:
    """The extent that a text names; None where it names none."""
    return next((one for one in EXTENT_CHOICES if one == text), None)


def with_extent(labelmap: Volume, extent: ExtentChoice | None) -> Volume:
    """A labelmap of lungs that says its extent, and, where that is both, which labels are of what."""
    is_unnamed = extent == "both" and labelmap.structure_labels is None
    return replace(
        labelmap, extent=extent, structure_labels=_labels_of_both() if is_unnamed else labelmap.structure_labels
    )


def _labels_of_both() -> StructureLabels:
    """As of a file that names its segments: what is hidden is of its lung as well."""
    labels: StructureLabels = {structure.key: (label,) for label, structure in LUNGS_WITH_HIDDEN}
    for label, structure in LUNGS_WITH_HIDDEN:
        if structure.part_of:
            labels[structure.part_of] += (label,)
    return labels


def _extent_of_names(segments: Sequence[StoredSegment]) -> ExtentChoice | None:
    if any(HIDDEN_LUNGS.name in one.structures for one in segments):
        return "both"
    lungs = [one.name.lower() for one in segments if LUNGS.name in one.structures]
    return "whole" if any("(whole)" in name for name in lungs) else None
