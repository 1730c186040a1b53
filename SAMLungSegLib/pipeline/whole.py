"""A volume in, right and left lung out.

Slices are taken in radiological display orientation, so that every storage order gives the same lungs.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from SAMLungSegLib.intensity import Modality, grey_mapping, guess_modality, lung_window_hu, stored_levels
from SAMLungSegLib.interpolate import fill_between
from SAMLungSegLib.laterality import BODY_HU, BONE_HU, Tissue, with_one_side_each, xray_with_one_side
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.pipeline.notes import is_lateral_xray, notes_on_image, notes_without_lung
from SAMLungSegLib.pipeline.options import (
    LUNGS,
    CancelledError,
    Options,
    Progress,
    VolumeBox,
    VolumePoint,
    box_prompt,
    voxel_of,
)
from SAMLungSegLib.pipeline.square import SquarePixels
from SAMLungSegLib.postprocess import box_around, clean_lungs, steady_across_slices, without_airway
from SAMLungSegLib.predictor import Question, SliceAnswer, answer_slice, automatic_questions, prompted_questions
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt
from SAMLungSegLib.prompts.automatic import rough_lungs_ct
from SAMLungSegLib.volume import Image, SlicePlane, Volume, as_volume, axial_plane, write_labelmap
from SAMLungSegLib.volume.itk import image_of

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Segmentation:
    """Lungs of one volume.

    Attributes:
        volume: the input.
        labelmap_kji: uint8 on the input's grid, 1 = patient's right lung, 2 = left lung.
        grey_nhw: uint8 (N, H, W), what the model saw, in display orientation.
        scores: float32 (N,), predicted IoU per displayed slice; NaN where the model was not asked.
        notes: what was assumed about the image, and what is uncertain about the lungs, a sentence each.
    """

    volume: Volume
    modality: Modality
    plane: SlicePlane
    labelmap_kji: np.ndarray
    grey_nhw: np.ndarray
    scores: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def labelmap_nhw(self) -> np.ndarray:
        """The labelmap in display orientation."""
        return self.plane.to_display(self.labelmap_kji)

    def save(self, path: Path | str) -> Path:
        """Write the labelmap; the format follows the extension (see `volume.write_labelmap`)."""
        write_labelmap(self.labelmap_kji, self.volume, Path(path))
        return Path(path)

    def to_sitk(self) -> sitk.Image:
        """The labelmap as a SimpleITK image, uint8 in 3D on the input's grid."""
        return image_of(self.labelmap_kji, self.volume.ijk_to_ras)


def segment_volume(
    volume: Volume,
    model: PromptableModel,
    options: Options | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Segmentation:
    """Right and left lung of a CT or X-ray.

    Args:
        volume: the image.
        model: any model of the registry.
        options: modality, window, prompts, threshold.
        progress: called with (slices done, slices in all).
        cancelled: polled between slices.
    Raises:
        PromptError: a prompt is outside the volume or not one that the model accepts.
        CancelledError: `cancelled` returned true.
    """
    start, options = time.perf_counter(), options or Options()
    modality = options.modality or guess_modality(volume)
    plane = axial_plane(volume)
    mapping = grey_mapping(volume, modality, options.window)
    grey = plane.to_display(mapping.apply(volume.array_kji))
    prompts = _PromptPlan(volume, plane, modality, model, options)
    square = SquarePixels.of(plane.size_nhw[1:], plane.spacing_hw_mm)
    labelmap = np.zeros(grey.shape, np.uint8)
    scores = np.full(len(grey), np.nan, np.float32)
    seen = prompts.slices_to_see(options.every)

    def ask(index: int) -> SliceAnswer | None:
        questions = prompts.of_slice(index)
        if not questions:
            return None
        embedding = model.encode([square.draw(grey[index])])[0]
        return answer_slice(model, embedding, square.draw_questions(questions), options.threshold)

    for done, (index, answer) in enumerate(zip(seen, _in_order(ask, seen, model.slices_at_once), strict=True)):
        if cancelled():
            raise CancelledError(f"Stopped after {done} of {len(seen)} slices of {volume.name}; nothing was written.")
        if answer:
            labelmap[index], scores[index] = square.undraw(answer.labels_hw), answer.score
        if progress:
            progress(done + 1, len(seen))
    labelmap = fill_between(labelmap, seen)
    if modality == "CT":
        if not options.boxes:  # which say where lungs end
            labelmap = steady_across_slices(labelmap, plane.slice_spacing_mm, fixed=prompts.points)
        box = box_around(labelmap)
        labelmap[box] = without_airway(labelmap[box], *_hu_and_spacing(volume, plane, box))
    labelmap, *on_sides = _with_one_side_each(labelmap, grey, volume, plane, modality)
    labelmap = clean_lungs(labelmap)
    notes = (
        *notes_on_image(volume, plane, modality, options.modality, mapping),
        *on_sides,
        *notes_without_lung(labelmap, volume, modality, mapping),
    )
    for note in notes:
        logger.warning("%s: %s", volume.name, note)
    labelmap[~np.isin(labelmap, LUNGS[options.lungs])] = 0
    seconds = time.perf_counter() - start
    _say_how(volume, modality, options, plane, seen, seconds)
    return Segmentation(volume, modality, plane, plane.from_display(labelmap), grey, scores, notes)


def _with_one_side_each(
    labelmap: np.ndarray, grey: np.ndarray, volume: Volume, plane: SlicePlane, modality: Modality
) -> tuple[np.ndarray, ...]:
    """The labelmap (N, H, W) with its sides told by the body around it, and a note where there is something to say."""

    def tissue() -> Tissue:
        shown = plane.to_display(volume.array_kji)
        return Tissue(*(shown > level for level in stored_levels(volume, (BODY_HU, BONE_HU))))

    if modality == "CT" and plane.is_axial:
        result, note = with_one_side_each(labelmap, (plane.slice_spacing_mm, *plane.spacing_hw_mm), tissue)
    elif modality == "XRAY" and len(grey) == 1 and not is_lateral_xray(volume, plane, modality):
        result, note = xray_with_one_side(labelmap, grey)
    else:
        return (labelmap,)
    return (result, note) if note else (result,)


def _say_how(
    volume: Volume, modality: Modality, options: Options, plane: SlicePlane, seen: Sequence[int], seconds: float
) -> None:
    slices, height, width = plane.size_nhw
    kind = f"CT, window {options.window.width:g}/{options.window.level:g}" if modality == "CT" else "X-ray"
    count = f"{slices} slice{'s' if slices > 1 else ''}"
    said = f"{kind}, {count} of {width} x {height} pixels, {len(seen)} shown to the model"
    logger.info("%s: %s, %.1f s.", volume.name, said, seconds)


def _in_order(ask: Callable[[int], SliceAnswer | None], seen: Sequence[int], threads: int) -> Iterator:
    """What `ask` says about each number, by several threads that run a few slices ahead."""
    if threads == 1:
        yield from map(ask, seen)
        return
    pool = ThreadPoolExecutor(threads, "slices")
    try:
        waiting: deque[Future] = deque()
        for index in seen:
            waiting.append(pool.submit(ask, index))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


class _PromptPlan:
    """Which questions each slice is asked: the user's, or automatic ones where the user gave none."""

    def __init__(
        self,
        volume: Volume,
        plane: SlicePlane,
        modality: Modality,
        model: PromptableModel,
        options: Options,
    ) -> None:
        self.model = model
        self.slices = plane.size_nhw[0]
        self.points = _points_by_slice(options.points, plane, volume)
        self.boxes = _boxes_by_slice(options.boxes, plane, volume)
        self.rough = None
        if not model.answers_without_prompt and not self.boxes:
            self.rough = _rough_lungs(volume, plane, modality)
        for index in {*self.points, *self.boxes}:
            for question in self.of_slice(index):
                model.check_prompts(question.prompts, plane.size_nhw[1:])

    def slices_to_see(self, every: int) -> list[int]:
        """Numbers of the slices that the model is shown: each `every`-th, the last one, and those with prompts."""
        return sorted({*range(0, self.slices, every), self.slices - 1, *self.points, *self.boxes})

    def of_slice(self, index: int) -> list[Question]:
        points, boxes = self.points.get(index, []), self.boxes.get(index, [])
        if self.boxes and not (points or boxes):
            return []
        prompted = prompted_questions(self.model, points, boxes)
        return prompted or automatic_questions(self.model, self.rough[index])


def _rough_lungs(volume: Volume, plane: SlicePlane, modality: Modality) -> np.ndarray:
    """Where automatic prompts point: lung-compact's answer on X-rays, thresholds and components on CT."""
    if modality == "XRAY":
        return segment_volume(volume, load_model(), Options(modality="XRAY")).labelmap_nhw
    return rough_lungs_ct(*_hu_and_spacing(volume, plane))


def _hu_and_spacing(
    volume: Volume, plane: SlicePlane, box: tuple[slice, ...] = np.s_[:, :, :]
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Hounsfield units (N, H, W) in a box of a CT within the lung window, however it is stored; the spacing in mm."""
    grey = grey_mapping(volume, "CT").apply(plane.to_display(volume.array_kji)[box])
    return lung_window_hu(grey), (plane.slice_spacing_mm, *plane.spacing_hw_mm)


def prompts_by_slice(options: Options, plane: SlicePlane, volume: Volume) -> dict[int, list[PointPrompt | BoxPrompt]]:
    """Points and boxes on each displayed slice, in its pixels; a box is one object on all slices that it spans.

    Raises:
        PromptError: a prompt is outside the volume.
    """
    placed: dict[int, list[PointPrompt | BoxPrompt]] = {}
    for kind in (_points_by_slice(options.points, plane, volume), _boxes_by_slice(options.boxes, plane, volume)):
        for index, prompts in kind.items():
            placed.setdefault(index, []).extend(prompts)
    return placed


def _points_by_slice(points: Sequence[VolumePoint], plane: SlicePlane, volume: Volume) -> dict[int, list[PointPrompt]]:
    by_slice: dict[int, list[PointPrompt]] = {}
    for point in points:
        index, x, y = plane.ijk_to_nxy(voxel_of(point.ijk, volume))
        by_slice.setdefault(round(index), []).append(PointPrompt((float(x), float(y)), point.positive))
    return by_slice


def _boxes_by_slice(boxes: Sequence[VolumeBox], plane: SlicePlane, volume: Volume) -> dict[int, list[BoxPrompt]]:
    by_slice: dict[int, list[BoxPrompt]] = {}
    for box in boxes:
        corners = plane.ijk_to_nxy([voxel_of(corner, volume) for corner in (box.first_ijk, box.last_ijk)])
        low, high = corners.min(axis=0), corners.max(axis=0)
        flat = box_prompt((*low[1:].tolist(), *high[1:].tolist()), box)
        for index in range(round(low[0]), round(high[0]) + 1):
            by_slice.setdefault(index, []).append(flat)
    return by_slice


def segment(
    image: Image,
    *,
    ijk_to_ras: ArrayLike | None = None,
    model: str | PromptableModel = "lung-compact",
    weights: Path | str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    **options: object,
) -> Segmentation:
    """Lungs of one image, the one-line way.

    Example:
        >>> from SAMLungSegLib import segment
        >>> segment("chest.nii.gz").save("chest_lungs.seg.nrrd")

    Args:
        image: the path of a file or DICOM folder, a volume, a SimpleITK image, or an array (K, J, I).
        ijk_to_ras: (4, 4), of an array: voxel centre (i, j, k, 1) to patient RAS in mm.
        model: a name of the registry or a loaded model.
        weights: a checkpoint of the user's for that model.
        device: 'auto', 'cpu', 'cuda', 'mps'.
        progress: called with (slices done, slices in all).
        cancelled: polled between slices.
        **options: fields of `Options`.
    Raises:
        SAMLungSegError: its kinds say what was wrong with the image, the prompts or the model.
    """
    volume = as_volume(image, ijk_to_ras)
    loaded = model if isinstance(model, PromptableModel) else load_model(model, weights=weights, device=device)
    return segment_volume(volume, loaded, Options(**options), progress=progress, cancelled=cancelled)
