"""Which objects a model is to predict in a slice: the user's prompts, or automatic ones where the user gave none.

Everything here is in pixels of the slice as displayed, the patient's right at the left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt, PromptSet, automatic_prompts
from SAMLungSegLib.prompts.types import ObjectPrompt
from SAMLungSegLib.prompts.volume import PlacedPrompts


class PromptPlan:
    """The objects of each slice of a volume."""

    def __init__(
        self,
        model: PromptableModel,
        placed: Mapping[int, PlacedPrompts],
        size_nhw: tuple[int, int, int],
        coarse_nhw: np.ndarray | None = None,
    ) -> None:
        """Refuse at once what the model will not accept.

        Args:
            model: that will predict.
            placed: the user's prompts by the number of the slice; where there are boxes, slices outside them stay
                empty.
            size_nhw: of the volume as displayed.
            coarse_nhw: labelmap (N, H, W) that automatic prompts come from; None where the model needs no prompt, or
                there are boxes.
        Raises:
            PromptError: a prompt is not one that the model accepts.
        """
        self._model = model
        self._count, height, width = size_nhw
        self._coarse_nhw = coarse_nhw
        self._has_boxes = any(shown.boxes for shown in placed.values())
        self._placed = {index: prompted_objects(model, shown.points, shown.boxes) for index, shown in placed.items()}
        for objects in self._placed.values():
            for one in objects:
                model.check_prompts(one.prompts, (height, width))

    def slices_to_see(self, every: int) -> list[int]:
        """Numbers of the slices that the model is shown: each `every`-th, the last one, and those with prompts."""
        return sorted({*range(0, self._count, every), self._count - 1, *self._placed})

    def of_slice(self, index: int) -> list[ObjectPrompt]:
        """The objects of one slice; none where it stays empty."""
        if self._has_boxes or index in self._placed:
            return self._placed.get(index, [])
        if self._coarse_nhw is None:
            return prompted_objects(self._model)
        return automatic_objects(self._model, self._coarse_nhw[index])


def prompted_objects(
    model: PromptableModel, points: Sequence[PointPrompt] = (), boxes: Sequence[BoxPrompt] = ()
) -> list[ObjectPrompt]:
    """A user's prompts on one slice, object by object.

    Each box shows the object that it surrounds, with the points in it. A model that needs no prompt predicts both lungs
    first, or what a box or a point shows; then the points correct that. Any other is given all prompts at once.

    Returns:
        The objects; none without prompts, unless the model needs none.
    """
    is_corrected = not model.capabilities.needs_prompt and model.capabilities.accepts("mask")
    if boxes:
        sets = _per_object(points, boxes)
        return [ObjectPrompt(one, corrects="shown" if one.points and is_corrected else None) for one in sets]
    together = PromptSet(tuple(points))
    if not model.capabilities.needs_prompt:
        return [ObjectPrompt(together, corrects="unprompted" if points and is_corrected else None)]
    return [ObjectPrompt(together)] if points else []


def automatic_objects(model: PromptableModel, coarse_hw: np.ndarray) -> list[ObjectPrompt]:
    """Prompts of each lung that a coarse labelmap (H, W) of the slice shows, or of both together.

    The latter is for models that were tuned with such prompts.
    """
    together = model.template_prompts(coarse_hw)
    if together is not None:
        return [ObjectPrompt(together)]
    prompts = automatic_prompts(coarse_hw)
    if not model.capabilities.accepts("points"):
        prompts = {side: PromptSet(box=one.box) for side, one in prompts.items()}
    return [ObjectPrompt(one, side) for side, one in prompts.items()]


def _per_object(points: Sequence[PointPrompt], boxes: Sequence[BoxPrompt]) -> list[PromptSet]:
    """One prompt set per box with the points in it; positive points outside every box make one more object."""
    sets = [PromptSet(tuple(p for p in points if box.contains(p)), box) for box in boxes]
    outside = [p for p in points if not any(box.contains(p) for box in boxes)]
    if any(p.positive for p in outside):
        sets.append(PromptSet(tuple(outside)))
    return sets
