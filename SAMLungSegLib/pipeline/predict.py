"""Prompts and slices in, labels out: of one encoded slice, or of all slices of a volume.

Everything here is in pixels of the slice as displayed, the patient's right at the left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from SAMLungSegLib.errors import CancelledError, ModelError
from SAMLungSegLib.masks import split_sides
from SAMLungSegLib.models.base import Embedding, Prediction, PromptableModel
from SAMLungSegLib.options import Progress
from SAMLungSegLib.pipeline.view import VolumeView
from SAMLungSegLib.prompts import MaskPrompt, PromptSet
from SAMLungSegLib.prompts.types import ObjectPrompt
from SAMLungSegLib.structures import Extent


@dataclass(frozen=True, eq=False)
class SlicePrediction:
    """Lungs of one slice.

    Attributes:
        labels_hw: uint8 (H, W), 1 = patient's right lung, 2 = left lung.
        score: predicted IoU, the lowest of all objects; NaN where there was none.
    """

    labels_hw: np.ndarray
    score: float


def predict_slice(
    model: PromptableModel,
    embedding: Embedding,
    objects: Sequence[ObjectPrompt],
    threshold: float,
    extent: Extent = "visible",
) -> SlicePrediction:
    """Labels of an encoded slice.

    Args:
        model: the one that encoded the slice.
        embedding: of the slice.
        objects: where two masks overlap, the earlier one wins.
        threshold: probability above which a pixel is lung, in (0, 1).
        extent: of lungs on an X-ray.
    Raises:
        PromptError: a prompt or extent that the model does not accept, or a prompt outside the slice.
        ModelError: a logit is no number.
    """
    cut = float(np.log(threshold / (1 - threshold)))
    labels_hw = np.zeros(embedding.size_hw, np.uint8)
    scores = []
    for one in objects:
        one = replace(one, prompts=replace(one.prompts, extent=extent))
        prompts = one.prompts
        if one.corrects:
            first = MaskPrompt(model.decode(embedding, one.first).logits)
            prompts = PromptSet(prompts.points, mask=first, extent=extent)
        prediction = model.decode(embedding, prompts)
        if np.isnan(prediction.logits).any():
            raise ModelError(f"{model.name} predicts what are no numbers; its weights are damaged, give others.")
        labels_hw = np.where(labels_hw == 0, _labels(model, prediction, cut, one.label), labels_hw)
        scores.append(prediction.score)
    return SlicePrediction(labels_hw, min(scores, default=float("nan")))


def predict_slices(
    model: PromptableModel,
    view: VolumeView,
    objects_of: Callable[[int], Sequence[ObjectPrompt]],
    seen: Sequence[int],
    threshold: float,
    extents: Sequence[Extent] = ("visible",),
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Labels of some slices of a volume, by several threads where the model gains by them.

    Args:
        model: any model of the registry.
        view: what it sees of the volume.
        objects_of: number of a slice to its objects; without any, the slice stays empty and is not encoded.
        seen: numbers of the slices.
        threshold: as of `predict_slice`.
        extents: of lungs on X-rays, each predicted from the same encoding.
        progress: called with (slices done, slices in all).
        cancelled: polled between slices.
    Returns:
        Labels of each extent, uint8 (N, H, W), and scores, float32 (N,), the lowest of all extents: 0 and NaN where
        nothing was predicted.
    Raises:
        PromptError, ModelError: as `predict_slice`.
        CancelledError: `cancelled` returned true.
    """
    labels = [np.zeros(view.plane.size_nhw, np.uint8) for _ in extents]
    scores = np.full(len(view), np.nan, np.float32)

    def predict(index: int) -> list[SlicePrediction]:
        objects = view.resampling.apply_to_prompts(objects_of(index))
        if not objects:
            return []
        embedding = model.encode([view.slice(index)])[0]
        return [predict_slice(model, embedding, objects, threshold, extent) for extent in extents]

    for done, (index, predicted) in enumerate(zip(seen, _in_order(predict, seen, model.max_threads), strict=True)):
        if cancelled():
            name = view.volume.name
            raise CancelledError(f"Stopped after {done} of {len(seen)} slices of {name}; nothing was written.")
        for labels_nhw, one in zip(labels, predicted, strict=False):
            labels_nhw[index] = view.resampling.restore(one.labels_hw)
            scores[index] = np.fmin(scores[index], one.score)
        if progress:
            progress(done + 1, len(seen))
    return labels, scores


def _in_order(
    predict: Callable[[int], list[SlicePrediction]], seen: Sequence[int], threads: int
) -> Iterator[list[SlicePrediction]]:
    """What `predict` gives for each number, by several threads that run a few slices ahead."""
    if threads == 1:
        yield from map(predict, seen)
        return
    pool = ThreadPoolExecutor(threads, "slices")
    try:
        waiting: deque[Future[list[SlicePrediction]]] = deque()
        for index in seen:
            waiting.append(pool.submit(predict, index))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _labels(model: PromptableModel, prediction: Prediction, cut: float, label: int | None) -> np.ndarray:
    mask = prediction.logits > cut
    if label is not None:
        return np.where(mask, label, 0).astype(np.uint8)
    structures = model.capabilities.structures
    if structures is None or not prediction.structure_logits:
        return split_sides(mask)
    logits = np.stack([prediction.structure_logits[key] for key in structures.keys])
    return np.where(mask, logits.argmax(axis=0) + 1, 0).astype(np.uint8)  # the first of equals
