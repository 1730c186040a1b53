"""A volume in, right and left lung out.

Slices are taken in radiological display orientation, so that every storage order gives the same lungs.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from SAMLungSegLib.errors import CancelledError
from SAMLungSegLib.intensity import Modality
from SAMLungSegLib.laterality import LATERAL, with_one_side_each, xray_with_one_side
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.models.choice import ModelChoice, ModelOrigin, origin_of
from SAMLungSegLib.options import LUNG_CHOICES, Options, OptionValues, Progress
from SAMLungSegLib.pipeline.predict import ObjectPrompt, SlicePrediction, object_prompts, predict_slice
from SAMLungSegLib.pipeline.view import VolumeView
from SAMLungSegLib.postprocess import (
    box_around,
    clean_lungs,
    interpolate_slices,
    majority_filter_slices,
    without_airway,
)
from SAMLungSegLib.prompts.automatic import coarse_lungs_ct
from SAMLungSegLib.prompts.volume import PlacedPrompts
from SAMLungSegLib.provenance import METADATA_NAME, Provenance, is_free, provenance_of, provenance_path, save
from SAMLungSegLib.volume import Image, SlicePlane, Volume, as_volume, write_labelmap
from SAMLungSegLib.volume.formats import pair_header
from SAMLungSegLib.volume.itk import image_of

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

_NOT_LOOKED_AT = np.empty((0, 0, 0), np.uint8)


@dataclass(frozen=True)
class Segmentation:
    """Lungs of one volume, and how they were found.

    Attributes:
        volume: the input.
        labelmap_kji: uint8 on the input's grid, 1 = patient's right lung, 2 = left lung.
        grey_nhw: uint8 (N, H, W), what the model saw, in display orientation.
        scores: float32 (N,), predicted IoU per displayed slice; NaN where the model was not used.
        notes: what was assumed about the image, and what is uncertain about the lungs, a sentence each.
        options: what was asked for, with the modality that was taken.
        origin: what the model was loaded from; None of a model of the user's own making.
        image: path of the image; None where it came from no file.
        series: which one of a DICOM folder.
    """

    volume: Volume
    modality: Modality
    plane: SlicePlane
    labelmap_kji: np.ndarray
    grey_nhw: np.ndarray
    scores: np.ndarray
    notes: tuple[str, ...] = ()
    options: Options = field(default_factory=Options)
    origin: ModelOrigin | None = None
    image: Path | None = None
    series: str | None = None

    @property
    def labelmap_nhw(self) -> np.ndarray:
        """The labelmap in display orientation."""
        return self.plane.to_display(self.labelmap_kji)

    def provenance(self) -> Provenance | None:
        """How the labelmap was made; None where `origin` is not known."""
        if self.origin is None:
            return None
        return provenance_of(
            self.volume,
            self.options,
            self.origin.choice,
            self.origin.device,
            image=self.image,
            series=self.series,
            weights_sha256=self.origin.weights_sha256,
        )

    def save(self, path: Path | str) -> Path:
        """Write the labelmap and how it was made, as `samlungseg segment` does; `--replay` makes it again.

        The format follows the extension (see `volume.write_labelmap`). The provenance lies beside the labelmap as
        <name>.json, and in it where the format has a place; a file of that name that is no provenance record stays as
        it is, with a warning. Of a model that neither `ModelChoice.load` nor `load_model` has loaded, the provenance is
        not known: the labelmap is written alone.

        Raises:
            VolumeError, GeometryError: as `write_labelmap`.
            OutputError: a file cannot be written.
        """
        path, made = Path(path), self.provenance()
        if made is None:
            write_labelmap(self.labelmap_kji, self.volume, path)
        elif is_free(beside := provenance_path(path)):
            save(self.labelmap_kji, self.volume, path, made)
        else:
            logger.warning(
                "%s is no provenance record and stays as it is: %s has none beside it; save under another name.",
                beside,
                path.name,
            )
            write_labelmap(self.labelmap_kji, self.volume, path, metadata={METADATA_NAME: made.to_json()})
        return path

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
    view = VolumeView.of(volume, options)
    plane, modality, grey = view.plane, view.modality, view.grey_nhw
    prompts = _PromptPlan(view, model, options)
    labelmap = np.zeros(grey.shape, np.uint8)
    scores = np.full(len(grey), np.nan, np.float32)
    seen = prompts.slices_to_see(options.every)

    def predict(index: int) -> SlicePrediction | None:
        objects = prompts.of_slice(index)
        if not objects:
            return None
        embedding = model.encode([view.slice(index)])[0]
        return predict_slice(model, embedding, view.resampling.apply_to_prompts(objects), options.threshold)

    for done, (index, one) in enumerate(zip(seen, _in_order(predict, seen, model.max_threads), strict=True)):
        if cancelled():
            raise CancelledError(f"Stopped after {done} of {len(seen)} slices of {volume.name}; nothing was written.")
        if one:
            labelmap[index], scores[index] = view.resampling.restore(one.labels_hw), one.score
        if progress:
            progress(done + 1, len(seen))
    labelmap = interpolate_slices(labelmap, seen)
    if modality == "CT":
        if not options.boxes:  # which say where lungs end
            labelmap = majority_filter_slices(labelmap, plane.slice_spacing_mm, fixed=prompts.with_points)
        box = box_around(labelmap)
        labelmap[box] = without_airway(labelmap[box], view.lung_hu(box), view.spacing_mm)
    labelmap, on_sides = _with_one_side_each(labelmap, view)
    labelmap = clean_lungs(labelmap)
    on_view = [LATERAL] if view.is_lateral_xray else []
    on_lungs = [view.why_no_lung()] if modality == "CT" and not labelmap.any() else []
    notes = (*on_view, *view.notes(options.modality), *filter(None, [on_sides]), *on_lungs)
    for note in notes:
        logger.warning("%s: %s", volume.name, note)
    labelmap[~np.isin(labelmap, LUNG_CHOICES[options.lungs])] = 0
    seconds = time.perf_counter() - start
    _say_how(view, options, seen, seconds)
    made_with = replace(options, modality=modality)
    found = plane.from_display(labelmap)
    return Segmentation(volume, modality, plane, found, grey, scores, notes, made_with, origin_of(model))


def _with_one_side_each(labelmap: np.ndarray, view: VolumeView) -> tuple[np.ndarray, str]:
    """The labelmap (N, H, W) with its sides told by the body around it, and a note, empty if nothing is to be said."""
    if view.modality == "CT" and view.plane.is_axial:
        return with_one_side_each(labelmap, view.spacing_mm, view.tissue)
    if view.modality == "XRAY" and len(view) == 1 and not view.is_lateral_xray:
        return xray_with_one_side(labelmap, view.grey_nhw)
    return labelmap, ""


def _say_how(view: VolumeView, options: Options, seen: Sequence[int], seconds: float) -> None:
    slices, height, width = view.plane.size_nhw
    kind = f"CT, window {options.ct_window.width:g}/{options.ct_window.level:g}" if view.modality == "CT" else "X-ray"
    count = f"{slices} slice{'s' if slices > 1 else ''}"
    said = f"{kind}, {count} of {width} x {height} pixels, {len(seen)} shown to the model"
    logger.info("%s: %s, %.1f s.", view.volume.name, said, seconds)


def _in_order(
    predict: Callable[[int], SlicePrediction | None], seen: Sequence[int], threads: int
) -> Iterator[SlicePrediction | None]:
    """What `predict` gives for each number, by several threads that run a few slices ahead."""
    if threads == 1:
        yield from map(predict, seen)
        return
    pool = ThreadPoolExecutor(threads, "slices")
    try:
        waiting: deque[Future[SlicePrediction | None]] = deque()
        for index in seen:
            waiting.append(pool.submit(predict, index))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


class _PromptPlan:
    """The prompts of each slice: the user's, or automatic ones where the user gave none."""

    def __init__(self, view: VolumeView, model: PromptableModel, options: Options) -> None:
        self.model = model
        self.slices = len(view)
        self.has_boxes = bool(options.boxes)
        self.placed = options.prompts.by_slice(view.plane, view.volume)
        needs_coarse = model.capabilities.needs_prompt and not options.boxes
        self.coarse = _coarse_lungs(view) if needs_coarse else _NOT_LOOKED_AT
        for index in self.placed:
            for one in self.of_slice(index):
                model.check_prompts(one.prompts, view.plane.size_nhw[1:])

    @property
    def with_points(self) -> list[int]:
        """Numbers of the slices that the user put points on."""
        return [index for index, placed in self.placed.items() if placed.points]

    def slices_to_see(self, every: int) -> list[int]:
        """Numbers of the slices that the model is shown: each `every`-th, the last one, and those with prompts."""
        return sorted({*range(0, self.slices, every), self.slices - 1, *self.placed})

    def of_slice(self, index: int) -> list[ObjectPrompt]:
        placed = self.placed.get(index, PlacedPrompts())
        if self.has_boxes and not placed:
            return []
        return object_prompts(self.model, placed.points, placed.boxes, lambda: self.coarse[index])


def _coarse_lungs(view: VolumeView) -> np.ndarray:
    """Where automatic prompts point: lung-compact's prediction on X-rays, thresholds and components on CT."""
    if view.modality == "XRAY":
        return segment_volume(view.volume, load_model(), Options(modality="XRAY")).labelmap_nhw
    return coarse_lungs_ct(view.lung_hu(), view.spacing_mm)


def segment(
    image: Image,
    *,
    ijk_to_ras: ArrayLike | None = None,
    model: str | ModelChoice | PromptableModel = "lung-compact",
    weights: Path | str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    **options: Unpack[OptionValues],
) -> Segmentation:
    """Lungs of one image, the one-line way.

    Example:
        >>> from SAMLungSegLib import segment
        >>> segment("chest.nii.gz").save("chest_lungs.seg.nrrd")

    Args:
        image: the path of a file or DICOM folder, a volume, a SimpleITK image, or an array (K, J, I).
        ijk_to_ras: (4, 4), of an array: voxel centre (i, j, k, 1) to patient RAS in mm.
        model: a name of the registry, a choice or a loaded model. Without a choice, embeddings of a model that encodes
            slowly are kept on disk, as by the command; a model that is not loaded yet is kept for the next image.
        weights: a checkpoint of the user's for that model.
        device: 'auto', 'cpu', 'cuda', 'mps'.
        progress: called with (slices done, slices in all).
        cancelled: polled between slices.
        **options: fields of `Options`.
    Raises:
        SAMLungSegError: its kinds say what was wrong with the image, the prompts or the model.
    """
    volume = as_volume(image, ijk_to_ras)
    if not isinstance(model, PromptableModel):
        choice = model if isinstance(model, ModelChoice) else ModelChoice(model)
        model = (choice if weights is None else replace(choice, weights=Path(weights))).load(device)
    result = segment_volume(volume, model, Options(**options), progress=progress, cancelled=cancelled)
    path = pair_header(Path(image)).absolute() if isinstance(image, str | os.PathLike) else None
    return replace(result, image=path)
