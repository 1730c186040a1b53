"""Automatic masks of one slice, by the method of segment_anything's `SamAutomaticMaskGenerator`.

Kirillov et al. 2023, arXiv:2304.02643, section 5 and appendix B. Masks with the same settings are the same; the parts
that need OpenCV there are done with scikit-image, masks of nearly the whole slice are dropped, and memory is bounded:
only masks that the model is sure of are ever drawn at full size, a few at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from segment_anything.utils.amg import (
    batch_iterator,
    batched_mask_to_box,
    build_point_grid,
    calculate_stability_score,
    generate_crop_boxes,
    is_box_near_crop_edge,
)
from torch import Tensor
from torchvision.ops import batched_nms

from SAMLungSegLib.automatic.masks import AutomaticMask, without_small_parts
from SAMLungSegLib.automatic.settings import AutomaticSettings, boxes_only, default_settings
from SAMLungSegLib.masks import STABILITY_OFFSET
from SAMLungSegLib.models.base import Embedding, PromptableModel, check_slice

POINTS_AT_ONCE = 64
CROP_OVERLAP = 512 / 1500
_FRAME_PIXELS = 1024 * 1024  # SAM's logits reach the slice by way of its frame
_PIXELS_AT_ONCE = 16 * _FRAME_PIXELS

CropBox = Sequence[int]


def automatic_masks(
    model: PromptableModel,
    grey_hw: np.ndarray,
    settings: AutomaticSettings | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[AutomaticMask]:
    """Masks of all objects that a model finds in a slice.

    Args:
        model: one that accepts points.
        grey_hw: uint8 (H, W), see `intensity.to_grey`; with square pixels, or nearly so.
        settings: those that suit the model where not given.
        progress: called with (points done, points in all).
    Returns:
        Masks, which may overlap; none where nothing passes the filters.
    Raises:
        PromptError: the model accepts boxes only.
        IntensityError: the slice is not uint8 (H, W).
    """
    check_slice(grey_hw)
    if not model.capabilities.accepts("points"):
        raise boxes_only(model.name)
    settings = settings or default_settings(model.name)
    crops, _ = generate_crop_boxes(grey_hw.shape, settings.crop_layers, CROP_OVERLAP)
    total = len(crops) * settings.points_per_side**2
    found: list[AutomaticMask] = []
    crop_areas: list[int] = []
    for index, (left, top, right, bottom) in enumerate(crops):
        done_before = index * settings.points_per_side**2
        of_crop: list[AutomaticMask] = []
        for done, masks in _masks_of_crop(model, grey_hw, (left, top, right, bottom), settings):
            of_crop += masks
            progress(done_before + done, total)
        found += _without_duplicates(of_crop, [mask.predicted_iou for mask in of_crop], settings.nms)
        crop_areas += [(right - left) * (bottom - top)] * (len(found) - len(crop_areas))
    if len(crops) > 1:  # masks from smaller crops are finer
        found = _without_duplicates(found, [1 / area for area in crop_areas], settings.nms)
    return _cleaned(found, grey_hw.shape, settings)


def _masks_of_crop(
    model: PromptableModel, grey_hw: np.ndarray, crop: CropBox, settings: AutomaticSettings
) -> Iterator[tuple[int, list[AutomaticMask]]]:
    """Batch by batch the number of points done so far and the masks that passed, in pixels of the slice."""
    left, top, right, bottom = crop
    [embedding] = model.encode([grey_hw[top:bottom, left:right]])
    size_xy = np.array([right - left, bottom - top])
    points_xy = np.minimum(build_point_grid(settings.points_per_side) * size_xy, size_xy - 0.5)
    done = 0
    for (batch_xy,) in batch_iterator(POINTS_AT_ONCE, points_xy):
        done += len(batch_xy)
        yield done, list(_masks_at(model, embedding, batch_xy, crop, grey_hw.shape, settings))


@torch.inference_mode()
def _masks_at(
    model: PromptableModel,
    embedding: Embedding,
    points_xy: np.ndarray,
    crop: CropBox,
    size_hw: tuple[int, int],
    settings: AutomaticSettings,
) -> Iterator[AutomaticMask]:
    low_res, scores = model.decode_points(embedding, points_xy)
    point_of = np.arange(len(points_xy)).repeat(scores.shape[1])
    low_res, scores = low_res.reshape(-1, 1, *low_res.shape[2:]), scores.ravel()
    sure = np.flatnonzero(scores > settings.iou if settings.iou > 0 else np.ones(len(scores), bool))
    at_once = max(1, _PIXELS_AT_ONCE // max(_FRAME_PIXELS, size_hw[0] * size_hw[1]))
    for start in range(0, len(sure), at_once):
        part = sure[start : start + at_once]
        logits = torch.from_numpy(model.to_slice(low_res[part], embedding.size_hw))[:, 0]
        stability = calculate_stability_score(logits, 0.0, STABILITY_OFFSET)
        masks = logits > 0
        kept = torch.nonzero(_passes(masks, stability, crop, size_hw, settings)).squeeze(1)
        for index, mask in zip(kept.tolist(), masks[kept].numpy(), strict=True):
            number = int(part[index])
            point_xy = points_xy[point_of[number]] + crop[:2]
            yield AutomaticMask.of(
                _uncropped(mask, crop, size_hw),
                float(scores[number]),
                float(stability[index]),
                (float(point_xy[0]), float(point_xy[1])),
            )


def _passes(
    masks: Tensor, stability: Tensor, crop: CropBox, size_hw: tuple[int, int], settings: AutomaticSettings
) -> Tensor:
    """Bool (N,): stable, neither empty nor nearly the whole slice, and not cut off by the border of the crop."""
    height, width = size_hw
    areas = masks.sum(dim=(1, 2))
    passes = areas > 0
    if settings.stability > 0:
        passes &= stability >= settings.stability
    if settings.max_share < 1:
        passes &= areas < settings.max_share * height * width
    boxes = batched_mask_to_box(masks)
    return passes & ~is_box_near_crop_edge(boxes, list(crop), [0, 0, width, height])


def _uncropped(mask: np.ndarray, crop: CropBox, size_hw: tuple[int, int]) -> np.ndarray:
    left, top, right, bottom = crop
    whole = np.zeros(size_hw, bool)
    whole[top:bottom, left:right] = mask
    return whole


def _without_duplicates(
    masks: Sequence[AutomaticMask], scores: Sequence[float], threshold: float
) -> list[AutomaticMask]:
    """Of masks whose boxes overlap by more than `threshold` the one with the highest score; best first."""
    if not masks:
        return []
    boxes = torch.tensor([mask.box_xyxy for mask in masks], dtype=torch.float32)
    kept = batched_nms(boxes, torch.tensor(scores), torch.zeros(len(masks)), threshold)
    return [masks[index] for index in kept.tolist()]


def _cleaned(
    masks: Sequence[AutomaticMask], size_hw: tuple[int, int], settings: AutomaticSettings
) -> list[AutomaticMask]:
    """Masks without small holes and parts; of those that became alike the ones that were clean before."""
    if settings.min_area_px == 0:
        return list(masks)
    cleaned: list[AutomaticMask] = []
    was_clean: list[float] = []
    for mask in masks:
        before = mask.on(size_hw)
        after = without_small_parts(before, settings.min_area_px)
        if after.any():
            cleaned.append(AutomaticMask.of(after, mask.predicted_iou, mask.stability, mask.point_xy))
            was_clean.append(float(np.array_equal(before, after)))
    return _without_duplicates(cleaned, was_clean, settings.nms)
