"""One image of a cohort."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from SAMLungSegLib.pipeline import VolumeBox, VolumePoint


@dataclass(frozen=True)
class Case:
    """One image to segment.

    Attributes:
        id: name of its results, unique in the cohort and safe as a file name; made of its path in the cohort.
        path: image file or DICOM folder.
        series: which one of a DICOM folder with several.
        parts: DICOM files of a series that lies in several folders below `path`, or beside files that cannot be read.
        reference: labelmap to measure the result by.
        points, boxes: prompts in voxels.
        modality: 'CT' or 'XRAY' where a list says so.
        stamp: changes when the files of the image do.
        slices: how many there are, where finding the case has told.
        problem: why it cannot be used, where that is known before it is read.
        given_id: what a list calls it, where it does.
    """

    id: str
    path: Path
    series: str | None = None
    parts: tuple[Path, ...] = ()
    reference: Path | None = None
    points: tuple[VolumePoint, ...] = ()
    boxes: tuple[VolumeBox, ...] = ()
    modality: str | None = None
    stamp: str = ""
    slices: int | None = None
    problem: str | None = None
    given_id: str | None = None
