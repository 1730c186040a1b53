"""Which slices of a segmentation are worth a picture, and how they lie in the patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from SAMLungSegLib.evaluation.figures import Prompts
from SAMLungSegLib.overlays.sampling import CoarseLungs, box_around, sampled
from SAMLungSegLib.pipeline import Segmentation
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt
from SAMLungSegLib.structures import LUNGS

_AXIAL_SLICES, _MOST_PROMPTED = 8, 60
_LETTERS = (("R", "L"), ("A", "P"), ("H", "F"))  # towards and away from R, A, S


class Marks(NamedTuple):
    """Letters at the edges of a picture: what of the patient lies there, '' where that is not known."""

    left: str
    right: str
    top: str
    bottom: str


@dataclass(frozen=True, eq=False)
class View:
    """A slice with its labels.

    Attributes:
        title: which one it is; '' of an image that has one only.
        grey_hw: uint8 (H, W).
        labels_hw: uint8 (H, W).
        spacing_hw_mm: from row to row, from column to column.
        marks: which side is where.
        prompts: that were given in it, in its pixels.
    """

    title: str
    grey_hw: np.ndarray
    labels_hw: np.ndarray
    spacing_hw_mm: tuple[float, float]
    marks: Marks
    prompts: Prompts = ()


def prompts_by_slice(segmentation: Segmentation) -> dict[int, Prompts]:
    """The prompts that were given, by the number of the displayed slice, in its pixels."""
    placed = segmentation.options.prompts.by_slice(segmentation.plane, segmentation.volume)
    return {number: tuple(prompts) for number, prompts in placed.items()}


def own_slices(segmentation: Segmentation) -> list[View]:
    """The only slice of an image, or axial ones as the model saw them: eight and those with prompts, feet first."""
    grey, labels, plane = segmentation.grey_nhw, segmentation.labelmap_nhw, segmentation.plane
    prompts = prompts_by_slice(segmentation)
    numbers = shown_slices(labels, _AXIAL_SLICES, prompts)
    titles = [f"axial {number}{', prompted' if number in prompts else ''}" for number in numbers]
    return [
        View(
            title if len(grey) > 1 else "",
            grey[number],
            labels[number],
            plane.spacing_hw_mm,
            _marks(segmentation),
            prompts.get(number, ()),
        )
        for number, title in zip(numbers, titles, strict=True)
    ]


def reformats(segmentation: Segmentation, lungs: CoarseLungs | None, step_mm: float) -> Iterator[View]:
    """The coronal plane through the middle of the lungs, and the sagittal one through that of each lung.

    They lie along the patient's axes, however the volume does: an oblique one shows black corners.

    Args:
        segmentation: of a volume.
        lungs: that were found in it; without any, the planes go through its middle.
        step_mm: size of a pixel.
    """
    box = box_around(segmentation.plane)
    middle = (box.low_ras + box.high_ras) / 2 if lungs is None else lungs.middle_ras
    right, anterior, head = (box.places(axis, step_mm)[::-1] for axis in range(3))
    grid = (right, middle[1], head[:, None])
    yield _reformat(segmentation, "coronal", grid, Marks("R", "L", "H", "F"), step_mm)
    cuts = {"sagittal": middle}
    if lungs is not None:
        cuts = {f"sagittal, {LUNGS.structure_of(label).name}": place for label, place in lungs.middles_ras.items()}
    for title, place in cuts.items():
        grid = (place[0], anterior, head[:, None])
        yield _reformat(segmentation, title, grid, Marks("A", "P", "H", "F"), step_mm)


def _reformat(
    segmentation: Segmentation, title: str, grid: tuple[np.ndarray, ...], marks: Marks, step_mm: float
) -> View:
    grey = sampled(segmentation.grey_nhw, segmentation.plane, grid, order=1)
    labels = sampled(segmentation.labelmap_nhw, segmentation.plane, grid, order=0)
    return View(title, grey, labels, (step_mm, step_mm), marks)


def _marks(segmentation: Segmentation) -> Marks:
    """Of the displayed slices; X-rays hang with the head on top, whatever plane a picture without geometry got."""
    columns, rows = segmentation.plane.nxy_to_ras_matrix[:3, 1:3].T
    (left, right), (top, bottom) = _ends(-columns), _ends(-rows)
    if segmentation.modality == "XRAY":
        top, bottom = "H", "F"
        if segmentation.volume.is_lateral and not segmentation.plane.is_sagittal:
            left = right = ""
    return Marks(left, right, top, bottom)


def _ends(direction_ras: np.ndarray) -> tuple[str, str]:
    """Where a direction leads, and where it comes from."""
    axis = int(np.abs(direction_ras).argmax())
    towards, away = _LETTERS[axis]
    return (towards, away) if direction_ras[axis] > 0 else (away, towards)


def shown_slices(
    labelmap_nhw: np.ndarray, count: int, prompts: Mapping[int, Prompts], *, most: int = _MOST_PROMPTED
) -> list[int]:
    """Numbers of slices to show: `count` evenly spread ones, of which prompted ones take the nearest's place.

    Where more have points, these are shown, up to `most`.
    """
    with_lung = np.flatnonzero(labelmap_nhw.any(axis=(1, 2)))
    first, last = (with_lung[0], with_lung[-1]) if with_lung.size else (0, len(labelmap_nhw) - 1)
    shown = set(np.linspace(first, last, count + 2).round().astype(int)[1:-1].tolist())
    wanted = _slices_with_points(prompts, most)
    for slices in _slices_of_boxes(prompts):
        if not slices & wanted:
            reachable = sorted(slices & shown or slices)
            wanted.add(reachable[len(reachable) // 2])
    for number in sorted(wanted - shown):
        free = shown - wanted
        shown -= {min(free, key=lambda other: abs(other - number))} if free else set()
        shown.add(number)
    return sorted(shown)


def _slices_of_boxes(prompts: Mapping[int, Prompts]) -> list[set[int]]:
    """The slices that each box spans."""
    found: dict[int, set[int]] = {}
    for number, some in prompts.items():
        for box in (one for one in some if isinstance(one, BoxPrompt)):
            found.setdefault(id(box), set()).add(number)
    return list(found.values())


def _slices_with_points(prompts: Mapping[int, Prompts], most: int) -> set[int]:
    """All of them, or as many, evenly spread, as a picture can show."""
    found = sorted(number for number, some in prompts.items() if any(isinstance(one, PointPrompt) for one in some))
    places = np.linspace(0, len(found) - 1, min(len(found), most)).round().astype(int)
    return {found[place] for place in places}
