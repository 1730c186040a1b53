"""The job: a volume in, right and left lung out.

Slices are taken in radiological display orientation, so that every storage order gives the same lungs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from SAMLungSegLib.errors import PromptError, SAMLungSegError, VolumeError
from SAMLungSegLib.intensity import WINDOW_PRESETS, Modality, Window, guess_modality, parse_window, to_grey
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import Embedding, Prediction, PromptableModel
from SAMLungSegLib.postprocess import LEFT_LUNG, RIGHT_LUNG, clean_lungs, split_sides, without_airway
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet, automatic_prompts
from SAMLungSegLib.prompts.automatic import rough_lungs_ct
from SAMLungSegLib.volume import SlicePlane, Volume, axial_plane, read_volume, write_labelmap

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
LUNGS = {"both": (RIGHT_LUNG, LEFT_LUNG), "right": (RIGHT_LUNG,), "left": (LEFT_LUNG,)}


class CancelledError(SAMLungSegError):
    """The caller asked to stop; nothing was written."""


@dataclass(frozen=True)
class VolumePoint:
    """A click at voxel `ijk` of a volume's own grid; of an image with one slice (i, j) is enough."""

    ijk: tuple[float, ...]
    positive: bool = True

    def __post_init__(self) -> None:
        _check_voxel(self.ijk)


@dataclass(frozen=True)
class VolumeBox:
    """A box between two voxel corners of a volume's own grid; slices outside every box stay empty."""

    first_ijk: tuple[float, ...]
    last_ijk: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_voxel(self.first_ijk)
        _check_voxel(self.last_ijk)


def _check_voxel(ijk: tuple[float, ...]) -> None:
    if len(ijk) not in (2, 3) or not np.all(np.isfinite(ijk)):
        raise PromptError(f"Voxel {ijk} is not i,j,k; give two or three finite numbers.")


@dataclass(frozen=True)
class Options:
    """How a volume is segmented.

    Attributes:
        modality: 'CT' or 'XRAY', in any case; None to guess it.
        window: CT window or what `parse_window` reads; ignored for X-rays and for images that are windowed already.
        points, boxes: prompts in voxels of the volume; without any the model or classical means find the lungs.
        threshold: probability above which a pixel is lung, in (0, 1).
        lungs: 'both', 'right' or 'left'.
    """

    modality: Modality | None = None
    window: Window | str = WINDOW_PRESETS["lung"]
    points: tuple[VolumePoint, ...] = ()
    boxes: tuple[VolumeBox, ...] = ()
    threshold: float = 0.5
    lungs: str = "both"

    def __post_init__(self) -> None:
        if not isinstance(self.threshold, int | float) or not 0 < self.threshold < 1:
            raise PromptError(f"Threshold {self.threshold!r} is not a number between 0 and 1; 0.5 is usual.")
        if self.lungs not in LUNGS:
            raise PromptError(f"Lungs '{self.lungs}' is not one of {', '.join(LUNGS)}.")
        if self.modality is not None:
            object.__setattr__(self, "modality", self.modality.upper())
        if isinstance(self.window, str):
            object.__setattr__(self, "window", parse_window(self.window))


@dataclass(frozen=True)
class Segmentation:
    """Lungs of one volume.

    Attributes:
        volume: the input.
        labelmap_kji: uint8 on the input's grid, 1 = patient's right lung, 2 = left lung.
        grey_nhw: uint8 (N, H, W), what the model saw, in display orientation.
        scores: float32 (N,), predicted IoU per displayed slice; NaN where nothing was asked.
    """

    volume: Volume
    modality: Modality
    plane: SlicePlane
    labelmap_kji: np.ndarray
    grey_nhw: np.ndarray
    scores: np.ndarray

    @property
    def labelmap_nhw(self) -> np.ndarray:
        """The labelmap in display orientation."""
        return self.plane.to_display(self.labelmap_kji)

    def save(self, path: Path | str) -> Path:
        """Write the labelmap; the format follows the extension (see `volume.write_labelmap`)."""
        write_labelmap(self.labelmap_kji, self.volume, Path(path))
        return Path(path)


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
    options = options or Options()
    modality = options.modality or guess_modality(volume)
    plane = axial_plane(volume)
    grey = plane.to_display(to_grey(volume, modality, options.window))
    prompts = _PromptPlan(volume, plane, modality, model, options)
    labelmap = np.zeros(grey.shape, np.uint8)
    scores = np.full(len(grey), np.nan, np.float32)
    for index in range(len(grey)):
        if cancelled():
            raise CancelledError(f"Stopped after {index} of {len(grey)} slices of {volume.name}; nothing was written.")
        questions = prompts.of_slice(index)
        if questions:
            embedding = model.encode([grey[index]])[0]
            labelmap[index], scores[index] = _answer(model, embedding, questions, options.threshold)
        if progress:
            progress(index + 1, len(grey))
    if modality == "CT":
        labelmap = without_airway(labelmap, *_hu_and_spacing(volume, plane))
    labelmap = clean_lungs(labelmap)
    labelmap[~np.isin(labelmap, LUNGS[options.lungs])] = 0
    return Segmentation(volume, modality, plane, plane.from_display(labelmap), grey, scores)


@dataclass(frozen=True)
class _Question:
    """One prompt set, which lung it is about (None: tell from the answer), and whether it corrects the own answer."""

    prompts: PromptSet
    side: int | None = None
    corrects: bool = False


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
        self.points = _points_by_slice(options.points, plane, volume)
        self.boxes = _boxes_by_slice(options.boxes, plane, volume)
        self.rough = None
        if not model.answers_without_prompt and not self.boxes:
            self.rough = _rough_lungs(volume, plane, modality)
        for index in {*self.points, *self.boxes}:
            for question in self.of_slice(index):
                model.check_prompts(question.prompts, plane.size_nhw[1:])

    def of_slice(self, index: int) -> list[_Question]:
        points, boxes = self.points.get(index, []), self.boxes.get(index, [])
        if boxes:
            return [_Question(prompts) for prompts in _per_object(points, boxes)]
        if self.boxes and not points:
            return []
        if self.model.answers_without_prompt:
            return [_Question(PromptSet(tuple(points)), corrects=bool(points))]
        if points:
            return [_Question(PromptSet(tuple(points)))]
        return [_Question(self._accepted(p), side) for side, p in automatic_prompts(self.rough[index]).items()]

    def _accepted(self, prompts: PromptSet) -> PromptSet:
        return prompts if self.model.accepts_points else PromptSet(box=prompts.box)


def _rough_lungs(volume: Volume, plane: SlicePlane, modality: Modality) -> np.ndarray:
    """Where automatic prompts point: lung-compact's answer on X-rays, thresholds and components on CT."""
    if modality == "XRAY":
        return segment_volume(volume, load_model(), Options(modality="XRAY")).labelmap_nhw
    return rough_lungs_ct(*_hu_and_spacing(volume, plane))


def _hu_and_spacing(volume: Volume, plane: SlicePlane) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Hounsfield units (N, H, W) of a CT within the lung window, however it is stored, and the spacing in mm."""
    window = WINDOW_PRESETS["lung"]
    grey = plane.to_display(to_grey(volume, "CT", window))
    hu = (window.low + grey * np.float32(window.width / 255)).astype(np.int16)
    return hu, (plane.slice_spacing_mm, *plane.spacing_hw_mm)


def _points_by_slice(points: Sequence[VolumePoint], plane: SlicePlane, volume: Volume) -> dict[int, list[PointPrompt]]:
    by_slice: dict[int, list[PointPrompt]] = {}
    for point in points:
        index, x, y = plane.ijk_to_nxy(_voxel_of(point.ijk, volume))
        by_slice.setdefault(round(index), []).append(PointPrompt((float(x), float(y)), point.positive))
    return by_slice


def _boxes_by_slice(boxes: Sequence[VolumeBox], plane: SlicePlane, volume: Volume) -> dict[int, list[BoxPrompt]]:
    by_slice: dict[int, list[BoxPrompt]] = {}
    for box in boxes:
        corners = plane.ijk_to_nxy([_voxel_of(corner, volume) for corner in (box.first_ijk, box.last_ijk)])
        low, high = corners.min(axis=0), corners.max(axis=0)
        if (high <= low)[1:].any():
            raise PromptError(f"The box from voxel {box.first_ijk} to {box.last_ijk} is flat in the slice; widen it.")
        flat = BoxPrompt((float(low[1]), float(low[2]), float(high[1]), float(high[2])))
        for index in range(round(low[0]), round(high[0]) + 1):
            by_slice.setdefault(index, []).append(flat)
    return by_slice


def _voxel_of(ijk: tuple[float, ...], volume: Volume) -> tuple[float, ...]:
    """The three indices of a voxel of the volume."""
    size_ijk = volume.size_kji[::-1]
    if len(ijk) == 2:
        if size_ijk[2] > 1:
            raise PromptError(f"Voxel {ijk} has no k, and {volume.name} has {size_ijk[2]} slices; give i,j,k.")
        ijk = (*ijk, 0.0)
    if not all(-0.5 <= value <= size - 0.5 for value, size in zip(ijk, size_ijk, strict=True)):
        given = ",".join(f"{value:g}" for value in ijk)
        raise PromptError(f"Voxel {given} is outside {volume.name}, which has {size_ijk} voxels along i, j, k.")
    return ijk


def _per_object(points: Sequence[PointPrompt], boxes: Sequence[BoxPrompt]) -> list[PromptSet]:
    """One prompt set per box with the points in it; positive points outside every box make one more object."""
    sets = [PromptSet(tuple(p for p in points if _is_inside(p, box)), box) for box in boxes]
    outside = [p for p in points if not any(_is_inside(p, box) for box in boxes)]
    if any(p.positive for p in outside):
        sets.append(PromptSet(tuple(outside)))
    return sets


def _is_inside(point: PointPrompt, box: BoxPrompt) -> bool:
    (x, y), (left, top, right, bottom) = point.xy, box.xyxy
    return left <= x <= right and top <= y <= bottom


def _answer(
    model: PromptableModel, embedding: Embedding, questions: Sequence[_Question], threshold: float
) -> tuple[np.ndarray, float]:
    """Labelmap of one slice and the lowest predicted IoU of its answers."""
    cut = float(np.log(threshold / (1 - threshold)))
    labelmap = np.zeros(embedding.size_hw, np.uint8)
    scores = []
    for question in questions:
        prompts = _with_own_mask(model, embedding, question.prompts) if question.corrects else question.prompts
        prediction = model.decode(embedding, prompts)
        labels = _labels(prediction, cut, question.side)
        labelmap = np.where(labelmap == 0, labels, labelmap)
        scores.append(prediction.score)
    return labelmap, min(scores)


def _with_own_mask(model: PromptableModel, embedding: Embedding, prompts: PromptSet) -> PromptSet:
    """Points as corrections: the unprompted answer says which object, the points mend it."""
    return PromptSet(prompts.points, mask=MaskPrompt(model.decode(embedding, PromptSet()).logits))


def _labels(prediction: Prediction, cut: float, side: int | None) -> np.ndarray:
    mask = prediction.logits > cut
    if side is not None:
        return np.where(mask, side, 0).astype(np.uint8)
    if prediction.side_logits is None:
        return split_sides(mask)
    right, left = prediction.side_logits
    return np.where(mask, np.where(right >= left, RIGHT_LUNG, LEFT_LUNG), 0).astype(np.uint8)


def segment(
    image: Volume | Path | str,
    *,
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
        image: a volume, or the path of a file or DICOM folder.
        model: a name of the registry or a loaded model.
        weights: a checkpoint of the user's for that model.
        device: 'auto', 'cpu', 'cuda', 'mps'.
        progress: called with (slices done, slices in all).
        cancelled: polled between slices.
        **options: fields of `Options`.
    Raises:
        SAMLungSegError: its kinds say what was wrong with the image, the prompts or the model.
    """
    if not isinstance(image, Volume | Path | str):
        raise VolumeError(f"An image of type {type(image).__name__} cannot be segmented; give a Volume or a path.")
    volume = image if isinstance(image, Volume) else read_volume(image)
    loaded = model if isinstance(model, PromptableModel) else load_model(model, weights=weights, device=device)
    return segment_volume(volume, loaded, Options(**options), progress=progress, cancelled=cancelled)
