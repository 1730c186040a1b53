"""Which prompts a model learns from: simulated and corrected step by step, or those of a recipe for both lungs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.models.tuned import PROMPT_KINDS, PromptKind, PromptRecipe
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.prompts.reference import mean_image_points, outward_box
from SAMLungSegLib.prompts.simulated import corrective_click, jittered_box, random_point
from SAMLungSegLib.prompts.types import Click
from SAMLungSegLib.training.corrections import bent_ellipse, border_pixels, neutral_click
from SAMLungSegLib.training.data.examples import GRID, Example
from SAMLungSegLib.training.losses import Prediction, TrainingBatch

if TYPE_CHECKING:
    from SAMLungSegLib.models.compact.network import CompactNet
    from SAMLungSegLib.training.config import TrainingConfig

MOST_CORRECTIONS = 4
JITTER_PX = 20.0
NOT_A_POINT = -1
PIECE_RADII = 0.03, 0.13  # of the image's side
BOX_JITTER = 12 / 256  # of the image's side


@dataclass
class BatchPrompts:
    """One prompt set per image: points with labels, boxes and masks, each optional for the whole batch."""

    points: list[list[Click]]
    boxes: Tensor | None = None
    masks: Tensor | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no image has a prompt."""
        return self.boxes is None and self.masks is None and not any(self.points)

    def point_tensors(self) -> tuple[Tensor, Tensor] | None:
        """As `point_tensors`; None where no image has a point."""
        return point_tensors(self.points) if any(self.points) else None


def point_tensors(rows: Sequence[Sequence[Click]]) -> tuple[Tensor, Tensor]:
    """XY (B, N, 2) and labels (B, N) of the points of each image; short rows are padded with 'not a point'."""
    longest = max(map(len, rows))
    points_xy, labels = torch.zeros(len(rows), longest, 2), torch.full((len(rows), longest), NOT_A_POINT)
    for index, row in enumerate(rows):
        for place, (xy, positive) in enumerate(row):
            points_xy[index, place] = torch.tensor(xy)
            labels[index, place] = int(positive)
    return points_xy, labels


class PromptSampler:
    """Draws targets and prompts about them, reproducibly."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def targets(self, soft_labels: Tensor, sides_known: Tensor) -> tuple[Tensor, Tensor]:
        """What each image is prompted for: its right lung, left lung or both.

        Args:
            soft_labels: (B, 2, H, W) right and left lung; sides_known: bool (B,).
        Returns:
            Soft target (B, 1, H, W) and the sides included, bool (B, 2).
        """
        wanted = torch.ones(len(soft_labels), 2, dtype=torch.bool)
        for index, present in enumerate((soft_labels > 0.5).flatten(2).any(2)):
            if sides_known[index] and present.all() and self.rng.uniform() < 0.7:
                wanted[index, self.rng.integers(2)] = False
        return (soft_labels * wanted[:, :, None, None]).sum(1, keepdim=True).clamp(max=1), wanted

    def prompts(self, soft_labels: Tensor, wanted: Tensor) -> BatchPrompts:
        """Boxes, points or both for every image; images without lung get negative points only."""
        use_boxes = self.rng.uniform() < 0.4
        use_points = not use_boxes or self.rng.uniform() < 0.5
        boxes = torch.zeros(len(soft_labels), 4)
        rows = []
        for index, masks in enumerate(soft_labels.cpu().numpy() > 0.5):
            parts = [part for part, is_wanted in zip(masks, wanted[index], strict=True) if is_wanted and part.any()]
            target = np.any(parts, axis=0) if parts else np.zeros(masks.shape[1:], bool)
            boxes[index] = torch.tensor(self._box(target))
            rows.append(self._points(parts, target) if use_points else [])
        return BatchPrompts(rows, boxes if use_boxes else None)

    def _box(self, target: np.ndarray) -> tuple[float, float, float, float]:
        side = target.shape[0]
        if not target.any():
            first, second = np.sort(self.rng.uniform(0, side, (2, 2)), axis=0)
            return float(first[0]), float(first[1]), float(second[0]) + 1, float(second[1]) + 1
        return jittered_box(target, self.rng, jitter_px=BOX_JITTER * side)

    def _points(self, parts: list[np.ndarray], target: np.ndarray) -> list[Click]:
        """Mostly one positive point per part, and mostly no negative one, as people begin."""
        counts = self.rng.choice([1, 2, 3], len(parts), p=[0.6, 0.2, 0.2])
        points = [
            (random_point(part, self.rng), True)
            for part, count in zip(parts, counts, strict=True)
            for _ in range(count)
        ]
        negatives = self.rng.choice([0, 1, 2], p=[0.6, 0.2, 0.2]) if points else 1
        return points + [(random_point(~target, self.rng), False) for _ in range(negatives)]

    def corrected(self, prompts: BatchPrompts, low_res_logits: Tensor, target: Tensor, known: Tensor) -> BatchPrompts:
        """The same prompts with a click in each image's largest error, and often the previous prediction as mask.

        With the mask come up to three clicks more, mostly on what it shows rightly: these must not change the object.
        Where there was no prompt before, the mask is always given, for a click alone would mean one lung. Once given,
        it is given again.

        Args:
            low_res_logits: (B, 1, h, w) of the previous prediction.
            target: (B, 1, H, W), soft.
            known: bool like target.
        """
        step = target.shape[-1] // low_res_logits.shape[-1]
        predictions = low_res_logits[:, 0].float().cpu().numpy() > 0
        references, certain = (item[:, 0, ::step, ::step].cpu().numpy() for item in (target > 0.5, known))
        use_masks = prompts.is_empty or prompts.masks is not None or self.rng.uniform() < 0.7
        rows = []
        for row, mask, reference, sure in zip(prompts.points, predictions, references, certain, strict=True):
            clicks = [corrective_click(mask & sure, reference & sure)]
            if use_masks:
                clicks += [neutral_click(reference, reference, sure, self.rng) for _ in range(self.rng.integers(0, 4))]
            rows.append(row + [in_frame(click, step) for click in clicks if click is not None])
        return BatchPrompts(rows, prompts.boxes, low_res_logits if use_masks else None)

    def other_outlines(self, target: Tensor) -> Tensor:
        """Half of the targets with a piece at the border added or taken away, as a person may want it.

        Only a click can tell that the piece is wanted: so the network learns to do what clicks say, even where the
        image says otherwise.

        Args:
            target: (B, 1, H, W), soft.
        """
        changed = target.clone()
        for index, soft in enumerate(target[:, 0].cpu().numpy()):
            if self.rng.uniform() < 0.5 and (piece := self._piece_at_border(soft > 0.5)) is not None:
                is_added = bool(self.rng.uniform() < 0.5)
                changed[index, 0][torch.from_numpy(piece).to(target.device)] = float(is_added)
        return changed

    def _piece_at_border(self, mask: np.ndarray) -> np.ndarray | None:
        """A bent ellipse, bool (H, W), around a pixel of the mask's border; None where there is no border."""
        edge, side = border_pixels(mask), mask.shape[0]
        if not len(edge):
            return None
        at = edge[self.rng.integers(len(edge))]
        return bent_ellipse(mask.shape, at, self.rng.uniform(*PIECE_RADII, 2) * side, self.rng)


def in_frame(click: Click, step: int) -> Click:
    """A click on a grid `step` times coarser than the images, in their pixels."""
    (x, y), positive = click
    return ((x + 0.5) * step - 0.5, (y + 0.5) * step - 0.5), positive


def interaction_steps(
    net: CompactNet, batch: TrainingBatch, sampler: PromptSampler, config: TrainingConfig
) -> Iterator[tuple[Prediction, Tensor]]:
    """Predictions without a prompt, then mostly with prompts, then corrected some times: each with its target."""
    features = net.image_encoder(batch.image)
    target = batch.both
    prediction = net.decode(features)
    yield prediction, target
    prompts = BatchPrompts([[] for _ in batch.soft_labels])
    certain = batch.known > 0.5
    if sampler.rng.uniform() < config.prompt_prob:
        target, wanted = sampler.targets(batch.soft_labels, batch.sides_known)
        prompts = sampler.prompts(batch.soft_labels, wanted)
        prediction = _decode(net, features, prompts)
        yield prediction, target
    for correction in range(MOST_CORRECTIONS):
        if sampler.rng.uniform() >= config.correction_prob:
            break
        if correction == 0:
            target = sampler.other_outlines(target)
        prompts = sampler.corrected(prompts, prediction[0][:, :1].detach(), target, certain)
        prediction = _decode(net, features, prompts)
        yield prediction, target


def _decode(net: CompactNet, features: tuple[Tensor, ...], prompts: BatchPrompts) -> Prediction:
    device = features[0].device
    points = prompts.point_tensors()
    return net.decode(
        features,
        points and tuple(part.to(device) for part in points),
        None if prompts.boxes is None else prompts.boxes.to(device),
        prompts.masks,
    )


# ---- of the tuning of decoders


@dataclass(frozen=True)
class PromptPolicy:
    """Prompts for both lungs together as a recipe says.

    Attributes:
        recipe: kind of prompts, and the mean points.
        jitter_px: each side of the reference's box is moved outwards by up to so many pixels, drawn uniformly, where
            the slice's longest side has 256.
    Source: Carvalho and Almeida (2024).
    """

    recipe: PromptRecipe
    jitter_px: float = JITTER_PX

    def __post_init__(self) -> None:
        check_jitter(self.jitter_px)

    def draw(self, example: Example, rng: np.random.Generator) -> PromptSet:
        """Prompts for one example."""
        size_hw = example.labels_hw.shape
        if not self.recipe.needs_box:
            return self.recipe.prompts(size_hw)
        return self.recipe.prompts(size_hw, outward_box(example.lung_hw, rng, self.jitter_px * max(size_hw) / GRID))

    def fixed(self, example: Example) -> PromptSet:
        """The same prompts for an example every time, drawn by its name: for measuring."""
        seed = hashlib.sha256(f"{example.name} {example.number}".encode()).digest()
        return self.draw(example, np.random.default_rng([*seed[:8]]))


def check_jitter(jitter_px: float) -> None:
    """Refuse a jitter that is no length.

    Raises:
        SettingsError: it is negative or not finite.
    """
    if not 0 <= jitter_px < inf:
        raise SettingsError(f"A jitter of {jitter_px:g} pixels is not possible; give 0 or more, 20 is usual.")


def check_kind(model: PromptableModel, kind: str) -> None:
    """Refuse a kind of prompts that there is not or that a model does not accept.

    Raises:
        SettingsError: with the kinds that are possible.
    """
    possible = PROMPT_KINDS if model.capabilities.accepts("points") else ("box",)
    if kind not in possible:
        raise SettingsError(f"Model {model.name} cannot be tuned to prompts '{kind}'; choose {', '.join(possible)}.")


def recipe_of_training(kind: PromptKind, training: Sequence[Example], per_lung: int = 1) -> PromptRecipe:
    """The recipe of a kind; its mean points come from the masks of the training images and from no others.

    Args:
        kind: of the prompts.
        training: examples that are trained on.
        per_lung: mean points in each lung.
    Raises:
        PromptError: the masks have no two lungs in common.
    """
    if kind not in ("points", "both"):
        return PromptRecipe(kind)
    masks = np.stack([_on_grid(example.lung_hw) for example in training])
    points = [point.xy for point in mean_image_points(masks, per_lung)]
    return PromptRecipe(kind, tuple(((x + 0.5) / GRID, (y + 0.5) / GRID) for x, y in points))


def _on_grid(mask: np.ndarray) -> np.ndarray:
    """A mask stretched to 256 x 256 pixels, the nearest ones."""
    rows, columns = (((np.arange(GRID) + 0.5) * length / GRID).astype(int) for length in mask.shape)
    return mask[np.ix_(rows, columns)]
