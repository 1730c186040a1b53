"""Which segments are the lungs, and of which extent on an X-ray: by terminology, tags and names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import slicer
import vtk

from SAMLungSegLib.errors import SettingsError
from SAMLungSegSlicer.bridge.layers import checkedSegmentation

if TYPE_CHECKING:
    from SAMLungSegLib.structures import ExtentChoice

_RIGHT, _LEFT = 1, 2
HIDDEN = 2  # from the label of a lung to that of what is hidden of it on an X-ray
_LABELS_OF = {
    "right": (_RIGHT, _RIGHT + HIDDEN),
    "left": (_LEFT, _LEFT + HIDDEN),
    "both": (_RIGHT, _LEFT, _RIGHT + HIDDEN, _LEFT + HIDDEN),
}

_LUNG_CODES = {("SCT", "39607008"), ("SRT", "T-28000")}
_SIDE_CODES = {
    _RIGHT: {("SCT", "24028007"), ("SRT", "G-A100")},
    _LEFT: {("SCT", "7771000"), ("SRT", "G-A101")},
}
_ONE_LUNG_CODES = {_RIGHT: {("SCT", "3341006"), ("SRT", "T-28100")}, _LEFT: {("SCT", "44029006"), ("SRT", "T-28500")}}
_CODE_OF_HIDDEN = ("99SAMLUNGSEG", "HIDDEN_LUNG")
_LUNG_WORDS = {"lung", "lungs"}
_EXTENT_WORDS = {"whole", "hidden"}
_SIDE_WORDS = {_RIGHT: {"right", "r", "rt"}, _LEFT: {"left", "l", "lt"}}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def ensureLungSegments(segmentationNode: slicer.vtkMRMLSegmentationNode, *, withHidden: bool = False) -> dict[int, str]:
    """Segment IDs by label (1 right, 2 left; 3 and 4 of their parts that are hidden on an X-ray).

    Lungs that are there already are found by terminology, else by name, and stay as they look. Missing ones are added,
    empty, with the standard names, colours and terminology; hidden parts only where they are wanted.

    Raises:
        VolumeError: the segmentation is kept as surfaces or contours.
    """
    from SAMLungSegLib.structures import LUNGS, LUNGS_WITH_HIDDEN

    segmentation = checkedSegmentation(segmentationNode)
    ids = findLungSegments(segmentationNode)
    for label, lung in LUNGS_WITH_HIDDEN if withHidden else LUNGS:
        if label not in ids:
            colour = [value / 255 for value in lung.colour]
            ids[label] = segmentation.AddEmptySegment(lung.key, lung.name, colour)
            segment = segmentation.GetSegment(ids[label])
            segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), lung.terminology)
    return {label: ids[label] for label in sorted(ids)}


def findLungSegments(segmentationNode: slicer.vtkMRMLSegmentationNode) -> dict[int, str]:
    """Segment IDs by label of the lungs that are there, found by terminology, else by name.

    Names are 'lung' with a side, in any case, order and spelling: 'Right lung', 'lung_left', 'LungR', 'L lung'; 'whole'
    may be in them, and 'hidden' makes it the hidden part of that lung.
    """
    segmentation = segmentationNode.GetSegmentation()
    found: dict[int, str] = {}
    for sideOf in (_sideByTerminology, _sideByName):
        for segmentId in segmentation.GetSegmentIDs():
            label = sideOf(segmentation.GetSegment(segmentId))
            if label is not None and segmentId not in found.values():
                found.setdefault(label, segmentId)
    return found


def noteExtent(segmentationNode: slicer.vtkMRMLSegmentationNode, lungs: str, extent: ExtentChoice | None) -> None:
    """Have lungs that are about to be written say of which extent they are, by a tag of each segment and by its name.

    Names that a person gave stay.

    Args:
        segmentationNode: as it is before the writing; with both extents it gets segments for what is hidden.
        lungs: as of `writeLabelmap`.
        extent: 'visible', 'whole' or 'both' on X-rays; None on CT.
    """
    from SAMLungSegLib.structures import LUNGS, WHOLE_LUNGS, lungs_of_extent
    from SAMLungSegLib.volume.extents import EXTENT_NAME

    ids = ensureLungSegments(segmentationNode, withHidden=extent == "both")
    standard = {lung.name for _label, lung in (*LUNGS, *WHOLE_LUNGS)}
    names = {label: lung.name for label, lung in lungs_of_extent(extent)}
    for label in lungLabels(lungs):
        if label not in ids:
            continue
        segment = segmentationNode.GetSegmentation().GetSegment(ids[label])
        if segment.GetName() in standard:
            segment.SetName(names.get(label, segment.GetName()))
        if extent is None:
            segment.RemoveTag(EXTENT_NAME)
        else:
            segment.SetTag(EXTENT_NAME, extent)


def lungLabels(lungs: str) -> tuple[int, ...]:
    """Label values of 'both', 'right' or 'left' lung, and of what is hidden of them on an X-ray.

    Raises:
        SettingsError: it is something else.
    """
    if lungs not in _LABELS_OF:
        raise SettingsError(f"Lungs '{lungs}' is not one of {', '.join(_LABELS_OF)}.")
    return _LABELS_OF[lungs]


def lungsWord(labels: tuple[int, ...]) -> str:
    """The lungs that hold all of these labels, as `lungLabels` takes them."""
    return next(word for word, one in _LABELS_OF.items() if set(labels) <= set(one))


def extentOf(segmentation: slicer.vtkSegmentation, ids: Iterable[str]) -> ExtentChoice | None:
    """Of which extent lungs without hidden parts are, where their tags say the same; the IDs are of their segments."""
    from SAMLungSegLib.volume.extents import EXTENT_NAME, known_extent

    said = set()
    for segmentId in ids:
        text = vtk.reference("")
        if segmentation.GetSegment(segmentId).GetTag(EXTENT_NAME, text):
            said.add(str(text))
    extent = known_extent(said.pop()) if len(said) == 1 else None
    return "visible" if extent == "both" else extent  # whose hidden parts are not there


def terminologyCodes(segment: slicer.vtkSegment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Scheme and code of a segment's type and of its modifier; empty ones where it has no terminology.

    An entry is 'context~category~type~modifier~...', whose parts are 'scheme^code^meaning'.
    """
    name, entry = slicer.vtkSegment.GetTerminologyEntryTagName(), vtk.reference("")
    segment.GetTag(name, entry)
    kind, modifier = (_code(part) for part in [*str(entry).split("~"), "", "", "", ""][2:4])
    return kind, modifier


def _sideByTerminology(segment: slicer.vtkSegment) -> int | None:
    kind, modifier = terminologyCodes(segment)
    for label in (_RIGHT, _LEFT):
        if kind in _ONE_LUNG_CODES[label] or (kind in _LUNG_CODES and modifier in _SIDE_CODES[label]):
            return label
        if kind == _CODE_OF_HIDDEN and modifier in _SIDE_CODES[label]:
            return label + HIDDEN
    return None


def _code(part: str) -> tuple[str, ...]:
    return tuple(part.split("^")[:2])


def _sideByName(segment: slicer.vtkSegment) -> int | None:
    words = [word.lower() for word in _WORD.findall(segment.GetName() or "")]
    extents = [word for word in words if word in _EXTENT_WORDS]
    if len(words) - len(extents) != 2 or len(extents) > 1 or not _LUNG_WORDS.intersection(words):
        return None
    label = next((label for label, sides in _SIDE_WORDS.items() if sides.intersection(words)), None)
    return label + HIDDEN if label and extents == ["hidden"] else label
