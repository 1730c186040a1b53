"""An object that is prompted in one slice, carried through its volume, by a model of three slices or of one.

Slide-SAM's way: Quan et al. 2023, arXiv:2311.10121, see docs/adaptation.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Protocol

import numpy as np
from scipy import ndimage

from SAMLungSegLib.errors import CancelledError, ModelError, PromptError
from SAMLungSegLib.masks import stability
from SAMLungSegLib.models.base import Embedding, ModelView, PromptableModel
from SAMLungSegLib.options import Options, Progress
from SAMLungSegLib.pipeline.view import VolumeView
from SAMLungSegLib.prompts import BoxPrompt, PromptSet
from SAMLungSegLib.prompts.reference import tight_box
from SAMLungSegLib.prompts.types import ObjectPrompt
from SAMLungSegLib.prompts.volume import VolumePrompts
from SAMLungSegLib.volume import Volume, axial_plane

LEAST_IOU, LEAST_STABILITY = 0.5, 0.6
GROWTH = 0.05  # of the box's width and height, on each side
SMALLEST_PX = 50
OPENED_SHARE, LARGEST_KERNEL = 20, 8
MOST_OBJECTS = 255
_KEPT_EMBEDDINGS = 512

logger = logging.getLogger(__name__)


class Hypothesis(Protocol):
    """One of a model's predictions of an object, in three slices as `models.sam.slide.TriplePrediction`, or in one."""

    @property
    def logits_nhw(self) -> np.ndarray:
        """Float32 (3, H, W), the slice below first, or (1, H, W); the object is above 0."""

    @property
    def score(self) -> float:
        """Predicted intersection over union."""

    @property
    def stability(self) -> float:
        """How little the mask depends on the threshold, 0 to 1."""


Hypotheses = Callable[[Embedding, PromptSet], Sequence[Hypothesis]]


@dataclass(frozen=True, eq=False)
class OneSlice:
    """What a model of one slice predicts of an object. Its predicted IoU is not used: tuning leaves it as it was."""

    logits_nhw: np.ndarray
    score: float = 1.0

    @property
    def stability(self) -> float:
        """See `masks.stability`."""
        return stability(self.logits_nhw)


def hypotheses_of(model: PromptableModel) -> Hypotheses:
    """What a model says of an object that is prompted in a slice, the likeliest first.

    Raises:
        ModelError: it takes no boxes, by which an object is carried on.
    """
    if hasattr(model, "predict_triple"):
        return model.predict_triple
    if not model.capabilities.accepts("box"):
        raise ModelError(
            f"{model.name} takes no boxes, by which an object goes from slice to slice; use another model."
        )
    return partial(_of_one_slice, model)


def _of_one_slice(model: PromptableModel, embedding: Embedding, prompts: PromptSet) -> list[OneSlice]:
    return [OneSlice(model.decode(embedding, prompts).logits[np.newaxis])]


def propagate_objects(
    model: PromptableModel,
    volume: Volume,
    objects: Sequence[VolumePrompts],
    options: Options | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> np.ndarray:
    """`propagate_volume` of objects that are prompted in voxels of the volume, each in a slice of its own.

    Args:
        objects: prompts of each: points, or a box, that lie in one displayed slice.
    Returns:
        Uint8 (K, J, I) on the volume's grid, as of `propagate_volume`.
    Raises:
        PromptError: a prompt is outside the volume, or an object has none, several boxes, or prompts in several slices.
        ModelError, CancelledError: as `propagate_volume`.
    """
    plane, shown = axial_plane(volume), []
    for number, one in enumerate(objects, 1):
        placed = one.by_slice(plane, volume)
        if len(placed) != 1:
            slices = ", ".join(map(str, sorted(placed))) or "no slice"
            raise PromptError(f"Object {number} is prompted in {slices}; show it in one slice, to be carried on from.")
        ((index, prompts),) = placed.items()
        if len(prompts.boxes) > 1:
            raise PromptError(f"Object {number} has {len(prompts.boxes)} boxes; give one, or several objects.")
        shown.append((index, PromptSet(tuple(prompts.points), prompts.boxes[0] if prompts.boxes else None)))
    slices, sets = [index for index, _ in shown], [prompts for _, prompts in shown]
    return propagate_volume(model, volume, slices, sets, options, progress=progress, cancelled=cancelled)


def propagate_volume(
    model: PromptableModel,
    volume: Volume,
    slice: int | Sequence[int],
    prompts: PromptSet | Sequence[PromptSet],
    options: Options | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> np.ndarray:
    """Objects of a volume that are prompted in one slice.

    Args:
        model: any that takes boxes; with weights of slide-sam three slices are predicted at a time.
        volume: the image.
        slice: number of the prompted slice as displayed, 0 at the inferior end of an axial volume; or of each object.
        prompts: of one object, or of each of several, in pixels of the displayed slice.
        options: modality and window.
        progress: called with (slices found, slices of the volume), for each object anew.
        cancelled: polled before each prediction.
    Returns:
        Uint8 (K, J, I) on the volume's grid: 1 for the first object, 2 for the second and so on; where two overlap, the
        earlier one wins.
    Raises:
        PromptError: the slice is outside the volume, or a prompt outside the slice.
        ModelError: the model takes no boxes.
        CancelledError: `cancelled` returned true.
    """
    predict = hypotheses_of(model)
    objects = [prompts] if isinstance(prompts, PromptSet) else list(prompts)
    options = options or Options()
    view = VolumeView.of(volume, options)
    slices = [slice] * len(objects) if isinstance(slice, int) else list(slice)
    outside = next((one for one in slices if not 0 <= one < len(view)), None)
    if outside is not None or len(slices) != len(objects) or not 0 < len(objects) <= MOST_OBJECTS:
        raise PromptError(
            f"{len(objects)} objects in slice {slice if outside is None else outside} of {volume.name}: expected 1 to "
            f"{MOST_OBJECTS} in a slice from 0 to {len(view) - 1}."
        )
    for note in filter(None, (*view.notes, view.why_another_window(model, options.ct_window))):
        logger.warning("%s: %s", volume.name, note)
    carrier = Carrier(model.encode, predict, view.slice, len(view), progress, cancelled)
    labels = np.zeros(view.plane.size_nhw, np.uint8)
    seen = view.resampling.apply_to_prompts([ObjectPrompt(one) for one in objects])
    for label, (start, one) in enumerate(zip(slices, seen, strict=True), 1):
        found = carrier.carried(start, one.prompts)
        if not found:
            logger.warning(
                "%s: nothing of object %d was found in slice %d that is likely and stable enough (of three slices a "
                "predicted IoU above %g, a stability of %g); prompt it otherwise, or in another slice.",
                volume.name, label, start, LEAST_IOU, LEAST_STABILITY,
            )  # fmt: skip
        for index, mask_hw in found.items():
            labels[index][(labels[index] == 0) & view.resampling.restore(mask_hw)] = label
    return view.plane.from_display(labels)


@dataclass(frozen=True, eq=False)
class Carrier:
    """Carries objects through a stack of slices.

    Attributes:
        encode: of a model.
        predict: of that model, see `hypotheses_of`.
        view: number of a slice to what the model sees of it.
        count: of slices.
        progress: called with (slices found, slices of the stack).
        cancelled: polled before each prediction.
    """

    encode: Callable[[Sequence[ModelView]], list[Embedding]]
    predict: Hypotheses
    view: Callable[[int], ModelView]
    count: int
    progress: Progress | None = None
    cancelled: Callable[[], bool] = lambda: False

    @cached_property
    def _encoded(self) -> Callable[[int], Embedding]:
        return lru_cache(_KEPT_EMBEDDINGS)(lambda index: self.encode([self.view(index)])[0])

    def carried(self, start: int, prompts: PromptSet) -> dict[int, np.ndarray]:
        """Masks, bool (H, W), by the number of the slice; none where nothing is found in the prompted one.

        From the prompted slice both ways: the box round the mask of the outer slice, enlarged, prompts the next three,
        of which that slice is the middle, or, by a model of one slice, the next one. It ends where no hypothesis is
        likely and stable, where the outer mask has few pixels, which are dropped, and at the volume's end. Masks of the
        same slice unite.

        Args:
            start: number of the slice.
            prompts: in pixels of what the model sees.
        """
        found: dict[int, np.ndarray] = {}
        first = self._predicted(start, prompts, found)
        for step in (-1, 1) if first is not None else ():
            centre, masks = start, first
            while masks is not None and self._goes_on(centre + step, outer := masks[-1 if step > 0 else 0]):
                centre += step
                masks = self._predicted(centre, PromptSet(box=grown_box(outer)), found)
        return found

    def _goes_on(self, index: int, mask_hw: np.ndarray) -> bool:
        return 0 <= index < self.count and np.count_nonzero(mask_hw) > SMALLEST_PX

    def _predicted(self, centre: int, prompts: PromptSet, found: dict[int, np.ndarray]) -> np.ndarray | None:
        """Masks, bool (3 or 1, H, W), of the slices round one, which join what was found; None where none is kept.

        Raises:
            CancelledError: `cancelled` returned true.
        """
        if self.cancelled():
            raise CancelledError(f"Stopped after {len(found)} of {self.count} slices; nothing was written.")
        logits = next(
            (
                one.logits_nhw
                for one in self.predict(self._encoded(centre), prompts)
                if one.score > LEAST_IOU and one.stability >= LEAST_STABILITY
            ),
            None,
        )
        if logits is None:
            return None
        masks = np.stack([opened(one > 0) for one in logits])
        reach, is_prompted = len(masks) // 2, not found
        for offset, mask_hw in zip(range(-reach, reach + 1), masks, strict=True):
            index = centre + offset
            is_checked = offset == 0 and (reach > 0 or is_prompted)  # the middle of three, as the outer one before
            if is_checked or self._goes_on(index, mask_hw):
                found[index] = found.get(index, False) | mask_hw
        if self.progress:
            self.progress(len(found), self.count)
        return masks


def opened(mask_hw: np.ndarray) -> np.ndarray:
    """Without what a square does not fit into whose side is a twentieth of the mask's pixels, at most 8."""
    side = min(np.count_nonzero(mask_hw) // OPENED_SHARE, LARGEST_KERNEL)
    return mask_hw if side < 2 else ndimage.binary_opening(mask_hw, np.ones((side, side), bool))


def grown_box(mask_hw: np.ndarray) -> BoxPrompt:
    """The box round a mask with 5 % of its width at the left and right, and of its height above and below.

    Where the slice ends, so does the box.
    """
    left, top, right, bottom = tight_box(mask_hw).xyxy
    (height, width), x, y = mask_hw.shape, GROWTH * (right - left), GROWTH * (bottom - top)
    return BoxPrompt((max(0, left - x), max(0, top - y), min(width, right + x), min(height, bottom + y)))
