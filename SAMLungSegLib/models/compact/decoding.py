"""From an encoded slice and prompts to lungs by lung-compact, whichever engine computes its parts.

Without a prompt it predicts both lungs. Points and a box show it an object. Points with a mask correct that: the
corrector changes what they are about, and nothing else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from SAMLungSegLib.models.base import Embedding, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.models.compact.clicks import obeying, with_clicked_changes
from SAMLungSegLib.models.compact.frames import (
    LEFT,
    MAX_THREADS,
    PROMPTED,
    RIGHT,
    FramePrompts,
    from_frame,
    prompts_in_frame,
    usable_cores,
)
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.prompts.types import Click
from SAMLungSegLib.structures import EXTENTS, LUNGS, Extent

Decoded = tuple[np.ndarray, np.ndarray]


class CompactDecoding(PromptableModel):
    """What the engines of lung-compact have in common.

    Args:
        name: of the model.
        capabilities: of the family.
        frame_size: side of the network's frame, S.
        parts: names of the network's parts that the weights hold.
        on_cpu: whether it runs there, on one core for each thread.
    """

    def __init__(
        self, name: str, capabilities: Capabilities, frame_size: int, parts: Collection[str], *, on_cpu: bool
    ) -> None:
        self.name = name
        self.frame_size = frame_size
        self.has_corrector = "corrector" in parts
        extents = EXTENTS if "whole_branch" in parts else ("visible",)
        self.capabilities = replace(capabilities, extents=extents)
        self.max_threads = min(usable_cores(), MAX_THREADS) if on_cpu else 1

    @abstractmethod
    def _decoded(self, embedding: Embedding, prompts: FramePrompts) -> Decoded:
        """Logits (4, S/2, S/2) of what was prompted, right, left and both lungs, and their predicted IoU (4,)."""

    @abstractmethod
    def _whole(self, embedding: Embedding, visible: np.ndarray) -> Decoded:
        """The same of whole lungs, given the visible ones."""

    @abstractmethod
    def _corrected(
        self, embedding: Embedding, mask: np.ndarray, points_xy: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Logits (S/2, S/2) of a mask, corrected by points, XY in its pixels, and the predicted IoU."""

    def decode(self, embedding: Embedding, prompts: PromptSet) -> Prediction:
        """Predict what is prompted, both lungs without a prompt, and each lung.

        Given with a mask, points have the label that they say, whatever the network makes of them.

        Raises:
            PromptError: a prompt outside the slice, or whole lungs of weights without a branch for them.
        """
        self.check_prompts(prompts, embedding.size_hw)
        given = prompts_in_frame(prompts, embedding.size_hw, self.frame_size)
        if self.has_corrector and prompts.mask is not None and given.mask is not None:
            return self._correction(embedding, prompts, prompts.mask.logits(), given.mask, given)
        if prompts.is_empty:
            low_res, iou = self._unprompted(embedding, prompts.extent)
        else:
            low_res, iou = self._of_extent(embedding, given, prompts.extent)
        logits = from_frame(low_res[[PROMPTED, RIGHT, LEFT]], embedding.size_hw)
        return Prediction(
            logits=logits[0] if prompts.mask is None else obeying(logits[0], _clicks(prompts)),
            score=float(iou[PROMPTED]),
            low_res_logits=low_res[PROMPTED].copy(),
            structure_logits=dict(zip(LUNGS.keys, logits[1:], strict=True)),
        )

    def _of_extent(self, embedding: Embedding, given: FramePrompts, extent: Extent) -> Decoded:
        low_res, iou = self._decoded(embedding, given)
        if extent == "whole":
            low_res, iou = self._whole(embedding, low_res)
        return low_res, iou.clip(0, 1)

    def _unprompted(self, embedding: Embedding, extent: Extent) -> Decoded:
        nothing = FramePrompts(np.zeros((0, 2), np.float32), np.zeros(0, np.int32))
        return self._of_extent(embedding, nothing, extent)

    def _correction(
        self, embedding: Embedding, prompts: PromptSet, before: np.ndarray, mask: np.ndarray, given: FramePrompts
    ) -> Prediction:
        """Of a mask, logits on the slice and in the frame; a box beside it says nothing more."""
        size_hw = embedding.size_hw
        points_xy = (given.points_xy + 0.5) / 2 - 0.5
        low_res, score = self._corrected(embedding, mask, points_xy, given.labels)
        if prompts.points:
            clicks = [(tuple(xy), bool(label)) for xy, label in zip(points_xy.tolist(), given.labels, strict=True)]
            low_res = with_clicked_changes(mask, low_res, clicks)
            logits = before if low_res is mask else before + from_frame((low_res - mask)[None], size_hw)[0]
        else:
            logits = from_frame(low_res[None], size_hw)[0]
        logits = obeying(logits, _clicks(prompts))
        lungs = self._unprompted(embedding, prompts.extent)[0]
        towards_right = from_frame((lungs[RIGHT] - lungs[LEFT])[None], size_hw)[0]
        sides = (np.minimum(logits, towards_right), np.minimum(logits, -towards_right))
        return Prediction(logits, float(np.clip(score, 0, 1)), low_res, dict(zip(LUNGS.keys, sides, strict=True)))


def _clicks(prompts: PromptSet) -> Sequence[Click]:
    return [(point.xy, point.positive) for point in prompts.points]
