"""What learns on the finished network of lung-compact, which stays as it is: whole lungs, and correcting masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models.compact.clicks import with_clicked_changes
from SAMLungSegLib.models.compact.frames import BOTH
from SAMLungSegLib.models.compact.network import INPUT_SIZE, CompactNet
from SAMLungSegLib.prompts.simulated import corrective_click
from SAMLungSegLib.training.config import TrainingConfig
from SAMLungSegLib.training.corrections import Correction
from SAMLungSegLib.training.data.drawing import Drawing, unchanged
from SAMLungSegLib.training.data.packs import is_trained_on
from SAMLungSegLib.training.losses import IOU_WEIGHT, TrainingBatch, iou_loss, segmentation_loss
from SAMLungSegLib.training.prompt_policies import point_tensors
from SAMLungSegLib.training.trainer import Row, set_training

Features = tuple[Tensor, ...]

LEARNING_RATE, WEIGHT_DECAY = 2e-3, 0.02
STRENGTH = "mixed"
MOST_CLICKS, CORRECTED_AGAIN, OF_ONE_LUNG, OF_OTHER_EXTENT = 4, 0.3, 0.15, 0.3
HINGE_LOGIT, HINGE_WEIGHT, DICE_SMOOTHING = 2.0, 0.2, 10.0
HIDDEN_SHARE = 0.05  # of a mask, from which on it holds the lung behind the heart: at 2 % a third are errors
BOTH_EXTENTS = ("cxr_montgomery", "cxr_shenzhen")  # sets most masks of which are of visible fields
WHOLE_WEIGHTS = {"cxr_v7_covid": 0.45, "cxr_kermany_paediatric": 0.32, "cxr_shenzhen": 0.15, "phantom_xray": 0.08}
PART_OF_WHOLE_SETS = 0.3  # of what the corrector learns from


@dataclass(frozen=True, eq=False)
class FinishedNetwork:
    """What branches learn on, and what it makes of the pack.

    Attributes:
        net: the network.
        data: the columns of the pack.
        config: the recipe.
        device: of the network.
    """

    net: CompactNet
    data: Mapping[str, np.ndarray]
    config: TrainingConfig
    device: torch.device

    def trained_on(self) -> np.ndarray:
        """Int (N,), the examples that the recipe learns from; of every set, for weights of its sets are others here."""
        sets, splits = self.data["sets"], self.data["splits"]
        return np.flatnonzero(is_trained_on(sets, splits, self.config, of_all_sets=True))

    @cached_property
    def whole_kind(self) -> np.ndarray:
        """Bool (N,): the examples whose mask holds whole lungs, as their set says, or as the mask shows.

        The latter is more than 5 % of the mask between the centroids of the lungs, below its median row and outside
        what the network takes for visible lung.
        """
        whole = self.data["extents"] == "whole"
        for index in self.trained_on():
            if self.data["sets"][index] in BOTH_EXTENTS:
                whole[index] = self._holds_hidden_lung(index)
        return whole

    def _holds_hidden_lung(self, index: int) -> bool:
        right, left = self.data["labels"][index][:2] > 127
        if not (right.any() and left.any()):
            return False
        mask, (_, visible) = right | left, self.seen(index)
        rows, columns = np.indices(mask.shape)
        edges = sorted(np.argwhere(side)[:, 1].mean() for side in (right, left))
        low = rows > np.median(np.argwhere(mask)[:, 0])
        hidden = mask & ~full_size(visible[:, BOTH])[0] & low & (columns > edges[0]) & (columns < edges[1])
        return bool(hidden.sum() > HIDDEN_SHARE * mask.sum())

    @torch.no_grad()
    def seen(self, index: int) -> tuple[Features, Tensor]:
        """Features of an example as it is, and the logits (1, 4, S/2, S/2) without a prompt."""
        self.net.eval()
        features = self.net.image_encoder((unchanged(self.data, index) * 2 - 1).to(self.device))
        return features, self.net.decode(features)[0]

    def validated(self, extent: str) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
        """Set, index, reference and known pixels, bool (S, S), of the validation examples of an extent."""
        for index in np.flatnonzero((self.data["splits"] == "validation") & (self.data["extents"] == extent)):
            shares = self.data["labels"][index]
            yield str(self.data["sets"][index]), int(index), shares[:2].sum(0) > 127, shares[2] <= 127


class Branch(ABC):
    """A part of the network that learns while all else is frozen.

    Attributes:
        finished: all else.
        has_frozen_norm: whether batch normalisation keeps its statistics for now.
    """

    has_frozen_norm = False

    def __init__(self, finished: FinishedNetwork) -> None:
        self.finished = finished
        self.net, self.config, self.device = finished.net, finished.config, finished.device

    @property
    @abstractmethod
    def epochs(self) -> int:
        """How many the recipe gives it."""

    @property
    @abstractmethod
    def part(self) -> nn.Module:
        """What learns."""

    @cached_property
    @abstractmethod
    def drawing(self) -> Drawing:
        """What it learns from."""

    @abstractmethod
    def predict(self, features: Features, batch: TrainingBatch, rng: np.random.Generator) -> Any:
        """With gradients of the part."""

    @abstractmethod
    def loss(self, predictions: Any, batch: TrainingBatch) -> Tensor:
        """How wrong that is."""

    @abstractmethod
    def scores(self) -> Row:
        """On the validation part."""

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW on the part; the rest is frozen."""
        self.net.requires_grad_(False)
        self.part.requires_grad_(True)
        return torch.optim.AdamW(self.part.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def batches(self, epoch: int, seed: int) -> Iterator[tuple[Features, TrainingBatch, np.random.Generator]]:
        """Encoded batches; batch normalisation keeps its statistics in the second half of the epochs."""
        self.net.eval()
        self.has_frozen_norm = epoch >= self.epochs / 2
        self.train_part()
        config, rng = self.config, np.random.default_rng(seed)
        for drawn in self.drawing.batches(config.epoch_images, config.batch, STRENGTH, seed, config.workers):
            batch = TrainingBatch(drawn, INPUT_SIZE, self.device)
            with torch.no_grad():
                features = self.net.image_encoder(batch.image)
            yield features, batch, rng

    def train_part(self) -> None:
        """Set the part to training."""
        set_training(self.part, frozen_norm=self.has_frozen_norm)


class WholeTraining(Branch):
    """Of the branch for whole lungs."""

    @property
    def epochs(self) -> int:
        return self.config.whole_epochs

    @property
    def part(self) -> nn.Module:
        return self.net.whole_branch

    @cached_property
    def drawing(self) -> Drawing:
        data, chosen = self.finished.data, self.finished.trained_on()
        chosen = chosen[self.finished.whole_kind[chosen]]
        return Drawing.by_group(data, chosen, data["sets"][chosen], WHOLE_WEIGHTS, as_visible=False)

    def predict(self, features: Features, batch: TrainingBatch, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            visible = self.net.decode(features)[0][:, 1:]
        found, deep = self.part.found(features, visible)
        return found, self.part.iou(torch.maximum(found, visible), deep)

    def loss(self, predictions: tuple[Tensor, Tensor], batch: TrainingBatch) -> Tensor:
        """Of the branch's own masks, so that it learns whole lungs and not only what it adds; and of their IoU."""
        logits = F.interpolate(predictions[0].float(), batch.both.shape[-2:], mode="bilinear", align_corners=False)
        target = torch.cat([batch.soft_labels, batch.both], 1)
        valid = batch.known.expand_as(target).clone()
        valid[:, :2] *= batch.sides_known[:, None, None, None]
        return segmentation_loss(logits, target, valid) + IOU_WEIGHT * iou_loss(logits, target, valid, predictions[1])

    def scores(self) -> Row:
        """Mean Dice of both whole lungs, for each set."""
        scores: dict[str, list[float]] = {}
        for name, index, reference, known in self.finished.validated("whole"):
            features, visible = self.finished.seen(index)
            whole = full_size(self.net.whole(features, visible)[0][:, BOTH])[0]
            scores.setdefault(name, []).append(dice(reference & known, whole & known))
        return {name: float(np.mean(values)) for name, values in scores.items()}


@dataclass(frozen=True, eq=False)
class Corrected:
    """What the corrector makes of a batch: logits (B, H, W), predicted IoU (B,), and what was meant."""

    logits: Tensor
    iou: Tensor
    corrections: list[Correction]


class CorrectorTraining(Branch):
    """Of the corrector, on masks that are wrong in part and simulated clicks."""

    @property
    def epochs(self) -> int:
        return self.config.corrector_epochs

    @property
    def part(self) -> nn.Module:
        return self.net.corrector

    @cached_property
    def drawing(self) -> Drawing:
        """The recipe's sets, but more of those with whole lungs, which are errors of the visible field."""
        chosen = self.finished.trained_on()
        whole = self.finished.whole_kind[chosen]
        sets = np.where(whole, "whole", self.finished.data["sets"][chosen])
        others = self.config.sampling_weights or dict.fromkeys(map(str, np.unique(sets[~whole])), 1.0)
        total = sum(others.values())
        weight_of = {name: (1 - PART_OF_WHOLE_SETS) * weight / total for name, weight in others.items()}
        weight_of["whole"] = PART_OF_WHOLE_SETS
        return Drawing.by_group(self.finished.data, chosen, sets, weight_of, as_visible=False)

    def predict(self, features: Features, batch: TrainingBatch, rng: np.random.Generator) -> Corrected:
        """After one to four clicks, of which the last prediction has gradients."""
        corrections = self._drawn(features, batch, rng)
        is_corrected_again = rng.uniform() < CORRECTED_AGAIN
        present = [one.mask > 0 for one in corrections]
        masks = [one.mask for one in corrections]
        for number in range(int(rng.integers(1, MOST_CLICKS + 1))):
            if number > 0:
                self.part.eval()
                with torch.no_grad():
                    logits = self._corrected(features, masks, corrections)[0][:, 0].float().cpu().numpy()
                present = [one > 0 for one in logits]
                if is_corrected_again:
                    masks = [
                        one.mask if one.is_mask_alone else new for one, new in zip(corrections, logits, strict=True)
                    ]
            for one, mask in zip(corrections, present, strict=True):
                one.click(mask, rng)
        self.train_part()
        logits, iou = self._corrected(features, masks, corrections)
        return Corrected(logits[:, 0], iou[:, 0], corrections)

    @torch.no_grad()
    def _drawn(self, features: Features, batch: TrainingBatch, rng: np.random.Generator) -> list[Correction]:
        visible = self.net.decode(features)[0]
        whole = self.net.whole(features, visible)[0]
        own = torch.stack([visible, whole], 1).float().cpu().numpy()  # (B, 2, 4, h, w)
        labels = F.avg_pool2d(torch.cat([batch.soft_labels, batch.known], 1), 2).cpu().numpy()
        corrections = []
        for masks, label, sides_known, is_whole in zip(own, labels, batch.sides_known, batch.is_whole, strict=True):
            token = int(rng.integers(1, 3)) if sides_known and rng.uniform() < OF_ONE_LUNG else BOTH
            is_other = rng.uniform() < OF_OTHER_EXTENT
            share = label[:2].sum(0) if token == BOTH else label[token - 1]
            mask = masks[int(bool(is_whole) ^ is_other), token]
            corrections.append(Correction.draw(mask, share > 0.5, label[2] > 0.5, rng))
        return corrections

    def _corrected(
        self, features: Features, masks: list[np.ndarray], corrections: list[Correction]
    ) -> tuple[Tensor, Tensor]:
        given = torch.from_numpy(np.stack(masks)[:, None].astype(np.float32)).to(self.device)
        xy, labels = point_tensors([one.clicks for one in corrections])
        return self.part(features, given, xy.to(self.device), labels.to(self.device))

    def loss(self, predictions: Corrected, batch: TrainingBatch) -> Tensor:
        """Cross entropy, more of it near what is to change; Dice there; clicks that are not obeyed; the IoU."""
        logits = predictions.logits.float()
        pairs = [one.wanted() for one in predictions.corrections]
        wanted, weight = (torch.from_numpy(np.stack(part)).to(logits.device) for part in zip(*pairs, strict=True))
        entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        alone = torch.tensor([one.is_mask_alone for one in predictions.corrections], device=logits.device)
        near = ((weight > 1) | alone[:, None, None]).float()
        inside, overlap = logits.sigmoid() * near, wanted * near
        both = (inside + overlap).sum((1, 2)) + DICE_SMOOTHING
        miss = 1 - (2 * (inside * overlap).sum((1, 2)) + DICE_SMOOTHING) / both
        target, known = (
            torch.from_numpy(np.stack([getattr(one, name) for one in predictions.corrections])).to(logits)[:, None]
            for name in ("target", "known")
        )
        overlap_loss = iou_loss(logits.detach()[:, None], target, known, predictions.iou[:, None].float())
        hinge = _disobeyed(logits, predictions.corrections)
        return (entropy * weight).sum() / weight.sum() + miss.mean() + HINGE_WEIGHT * hinge + IOU_WEIGHT * overlap_loss

    def scores(self) -> Row:
        """How many first clicks are obeyed, and what they gain in Dice, over all validation examples."""
        obeyed, gained = [], []
        for extent in ("visible", "whole", "any"):
            for _, index, reference, known in self.finished.validated(extent):
                features, visible = self.finished.seen(index)
                reference, known = (_half_size(one) for one in (reference, known))
                mask = visible[:, [BOTH]]
                before = mask[0, 0].cpu().numpy()
                click = corrective_click((before > 0) & known, reference & known)
                if click is None:
                    continue
                xy, labels = point_tensors([[click]])
                raw = self.part.eval()(features, mask, xy.to(self.device), labels.to(self.device))[0]
                after = with_clicked_changes(before, raw[0, 0].cpu().numpy(), [click])
                (x, y), positive = click
                obeyed.append((after[int(y), int(x)] > 0) == positive)
                gained.append(_gain(before > 0, after > 0, reference, known))
        return {"clicks_obeyed": float(np.mean(obeyed)), "click_gain": float(np.mean(gained))} if obeyed else {}


def _disobeyed(logits: Tensor, corrections: list[Correction]) -> Tensor:
    """By how much logits at clicks are short of what was clicked, on average."""
    at = [(index, int(y), int(x), p) for index, one in enumerate(corrections) for (x, y), p in one.clicks]
    if not at:
        return logits.new_zeros(())
    index, rows, columns, positive = zip(*at, strict=True)
    sign = 2 * torch.tensor(positive, device=logits.device, dtype=logits.dtype) - 1
    return F.relu(HINGE_LOGIT - sign * logits[list(index), list(rows), list(columns)]).mean()


def full_size(low_res: Tensor) -> np.ndarray:
    """Logits (B, S/2, S/2) as masks at the frame's size, bool (B, S, S)."""
    size = (2 * low_res.shape[-2], 2 * low_res.shape[-1])
    return F.interpolate(low_res[:, None], size, mode="bilinear", align_corners=False)[:, 0].cpu().numpy() > 0


def _half_size(mask: np.ndarray) -> np.ndarray:
    return F.avg_pool2d(torch.from_numpy(mask[None].astype(np.float32)), 2)[0].numpy() > 0.5


def _gain(before: np.ndarray, after: np.ndarray, reference: np.ndarray, known: np.ndarray) -> float:
    return dice(reference & known, after & known) - dice(reference & known, before & known)
