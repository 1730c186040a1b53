"""Some held-out objects before and after an adaptation, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from SAMLungSegLib.adaptation.slices import AdaptationData, ObjectExample, all_examples
from SAMLungSegLib.evaluation.figures import comparison_legend, draw_overlay, panel_grid, save_figure, shortened
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt, PromptSet

MOST_OBJECTS = 6
_PANEL_INCHES = 3.2


@dataclass(eq=False)
class HeldOutPictures:
    """Remembers the masks of the objects that will be drawn, by the first kind of prompts that is measured.

    Attributes:
        objects: names of those, evenly spread over the held-out part.
    """

    objects: tuple[str, ...]
    _before: dict[str, tuple[ObjectExample, str, PromptSet, np.ndarray]] = field(default_factory=dict)
    _after: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, data: AdaptationData) -> HeldOutPictures:
        """For the held-out part of some data."""
        names = [one.name for one in all_examples(data.held_out)]
        places = np.linspace(0, len(names) - 1, min(MOST_OBJECTS, len(names))).round().astype(int)
        return cls(tuple(names[place] for place in places))

    def note_before(self, example: ObjectExample, kind: str, prompts: PromptSet, mask_hw: np.ndarray) -> None:
        """The mask of an object before the training."""
        if example.name in self.objects:
            self._before.setdefault(example.name, (example, kind, prompts, mask_hw))

    def note_after(self, example: ObjectExample, kind: str, prompts: PromptSet, mask_hw: np.ndarray) -> None:
        """And after it, with the same prompts."""
        if example.name in self._before and self._before[example.name][1] == kind:
            self._after[example.name] = mask_hw

    def draw(self, path: Path, organs: tuple[str, ...]) -> Path:
        """Write the picture: a row an object, before at the left, after at the right."""
        names = [name for name in self.objects if name in self._after]
        figure, panels = panel_grid(2 * len(names), 2, comparison_legend(), panel_inches=_PANEL_INCHES)
        for number, name in enumerate(names):
            example, kind, prompts, before = self._before[name]
            boxes = () if prompts.box is None else (prompts.box,)
            shown: list[PointPrompt | BoxPrompt] = [*prompts.points, *boxes]
            what = f"{shortened(example.slice.image, 18)}, {organs[example.organ - 1]}, {kind}"
            for axes, mask, when in zip(
                panels[2 * number :], (before, self._after[name]), ("before", "after"), strict=False
            ):
                title = f"{what}\n{when}: Dice {dice(example.mask_hw, mask):.3f}"
                reference = example.mask_hw.astype(np.uint8)
                draw_overlay(axes, example.slice.grey_hw, mask.astype(np.uint8), reference, title=title, prompts=shown)
        save_figure(figure, path)
        return path
