"""Slide-SAM's training: a slice and its neighbours in, the object in all three out.

Quan et al. 2023, arXiv:2311.10121. The network is `models.sam.slide`; how an object is carried through a volume,
`pipeline.propagation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.adaptation.method import Group, Method, register_method
from SAMLungSegLib.adaptation.slices import ObjectExample
from SAMLungSegLib.adapters.base import adapter_in, adapter_state, remove_adapter
from SAMLungSegLib.adapters.lora import Lora
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.extensions import extend, extension_from
from SAMLungSegLib.models.sam.slide import SLICES, SlideSamModel
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.models.tuned import read_card
from SAMLungSegLib.prompts import BoxPrompt, PromptSet
from SAMLungSegLib.prompts.reference import random_points, tight_box

EXTENSION = "slide-sam"
FOCAL_WEIGHT, FOCAL_FACTOR, FOCAL_GAMMA = 20.0, 0.2, 2
BOX_NOISE, LARGEST_NOISE_PX = 0.01, 20.0
ADDED_RANK = 1


@register_method
@dataclass(frozen=True, kw_only=True)
class SlideSam(Method):
    """Three slices in, three masks out: LoRA in the encoder; patch embedding and decoder learn, all else is frozen.

    Attributes:
        rank: of the LoRA on queries and values.
        finetune: weights of an earlier adaptation by this method; then one more LoRA of rank 1 learns, and no more.
        finetune_rate: learning rate in that case.
    """

    name = "slide-sam"
    title = "three slices at a time"
    source = "Quan et al., Slide-SAM, arXiv:2311.10121"
    smallest_share = 0.0014

    learning_rate: float = 5e-6
    weight_decay: float = 1e-4
    prompts: tuple[str, ...] = ("box", "point")
    rank: int = 8
    finetune: str = ""
    finetune_rate: float = 2e-5

    def __post_init__(self) -> None:
        Lora(rank=self.rank)  # refuses a rank that is not possible

    @property
    def parts(self) -> tuple[str, ...]:
        """What its file holds."""
        return ("adapters", "mask_decoder", "extension")

    @property
    def slices_per_input(self) -> int:
        """A slice and its neighbours."""
        return SLICES

    def model_for(self, model: TrainableModel) -> TrainableModel:
        """A `SlideSamModel` of a SAM, or that of the weights to fine-tune.

        Raises:
            ModelError: the model is no SAM, or the weights are not of this method on top of the same model.
        """
        if not self.finetune:
            return extend(model, extension_from(EXTENSION, {}))
        path = Path(self.finetune)
        card = read_card(path)
        if card is None or card.extension is None or card.extension.name != EXTENSION:
            raise ModelError(f"{path} holds no weights of slide-sam with their card; give some to finetune.")
        size, device = model.input_size, str(model.device)
        earlier = load_model(model.name, weights=path, device=device, input_size=size, engine="torch")
        frozen, own = (one.network.image_encoder.blocks.state_dict() for one in (cast(Any, earlier), model))
        if any(not torch.equal(value, frozen[name]) for name, value in own.items()):
            raise ModelError(f"{path} was trained on other weights of {model.name}; give those to finetune it.")
        return cast(TrainableModel, earlier)

    def prepare(self, model: TrainableModel, organs: Sequence[str]) -> nn.ModuleDict:
        """Injects the LoRA, or widens the one that is there by `ADDED_RANK`, which changes nothing yet."""
        if self.finetune:
            widen(model.network)
        else:
            Lora(rank=self.rank, alpha=float(self.rank)).inject(model.network)
        return super().prepare(model, organs)

    def parameters(self, model: TrainableModel, trained: nn.ModuleDict, stage: int) -> list[Group]:
        """LoRA, patch embedding and decoder, of which two parts are in the extension; of fine-tuning the LoRA alone."""
        adapters = [*trained["adapters"].parameters()]
        if self.finetune:
            return [{"params": adapters, "scale": self.finetune_rate / self.learning_rate}]
        extension = cast(Any, trained["extension"])
        parts = trained["mask_decoder"], extension.below, extension.above, extension.patch_embed
        return [{"params": [*adapters, *(one for part in parts for one in part.parameters())], "scale": 1.0}]

    def optimizer(self, groups: list[Group]) -> torch.optim.Optimizer:
        """AdamW; what is frozen of a widened LoRA does not decay either."""
        return torch.optim.AdamW(groups, weight_decay=0.0 if self.finetune else self.weight_decay)

    def loss(
        self, model: TrainableModel, examples: Sequence[ObjectExample], rng: np.random.Generator, stage: int
    ) -> Tensor:
        """Of a point in each object and of a box round each, added."""
        slide = cast(SlideSamModel, model)
        embeddings = slide.encode_batch([one.slice.view for one in examples])
        total = torch.zeros((), device=slide.device)
        for draw in (inner_point, noisy_box):
            prompts = [draw(one.mask_hw, rng) for one in examples]
            logits, iou = slide.decode_triples(embeddings, prompts)
            targets, labelled = triple_targets(examples, logits.shape[-1])
            total = total + triple_loss(logits.float(), iou.float(), targets.to(logits.device), labelled)
        return total


def inner_point(mask_hw: np.ndarray, rng: np.random.Generator) -> PromptSet:
    """A point anywhere in an object."""
    return PromptSet(random_points(mask_hw, rng, 1))


def noisy_box(mask_hw: np.ndarray, rng: np.random.Generator) -> PromptSet:
    """The tight box of an object, moved along both axes by a normal deviate of 1 % of its mean side, at most 20 px."""
    left, top, right, bottom = tight_box(mask_hw).xyxy
    spread = BOX_NOISE * (right - left + bottom - top) / 2
    x, y = np.clip(rng.normal(0, spread, 2), -LARGEST_NOISE_PX, LARGEST_NOISE_PX).tolist()
    return PromptSet(box=BoxPrompt((left + x, top + y, right + x, bottom + y)))


def triple_targets(examples: Sequence[ObjectExample], side: int) -> tuple[Tensor, Tensor]:
    """The objects in their three slices, stretched to a square, and which of the slices have labels.

    Args:
        examples: those without labels of their neighbours have them in the middle alone.
        side: of the square.
    Returns:
        Float32 (B, 3, side, side) of 0 and 1, and bool (B, 3).
    """
    targets, labelled = [], []
    for one in examples:
        stack_nhw = one.slice.stack_labels_nhw
        masks = np.stack([one.mask_hw] * SLICES) if stack_nhw is None else stack_nhw == one.organ
        masks[SLICES // 2] = one.mask_hw
        values = torch.from_numpy(masks.astype(np.float32))[None]
        targets.append(F.interpolate(values, (side, side), mode="nearest-exact")[0])
        labelled.append([stack_nhw is not None, True, stack_nhw is not None])
    return torch.stack(targets), torch.tensor(labelled)


def triple_loss(logits: Tensor, iou: Tensor, targets: Tensor, labelled: Tensor) -> Tensor:
    """Of the best hypothesis of each object, averaged over the objects.

    20 times the focal loss (factor .2, gamma 2) and Dice, over the slices with labels; the least over the hypotheses
    counts, and the squared error of the IoU that is predicted for it.

    Args:
        logits: (B, 3, 3, h, w) of hypotheses and slices.
        iou: (B, 3), predicted.
        targets: (B, 3, h, w) of 0 and 1.
        labelled: bool (B, 3), the slices that count.
    """
    counts = labelled.to(logits)[:, None, :, None, None].expand_as(logits)
    wanted = targets[:, None].expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    focal = FOCAL_FACTOR * (1 - torch.exp(-entropy)) ** FOCAL_GAMMA * entropy
    each = (2, 3, 4)
    mean_focal = (focal * counts).sum(each) / counts.sum(each)
    probability = logits.sigmoid()
    both, sizes = (probability * wanted * counts).sum(each), ((probability + wanted) * counts).sum(each)
    losses = FOCAL_WEIGHT * mean_focal + 1 - (2 * both + 1) / (sizes + 1)
    best = losses.argmin(1, keepdim=True)
    error = iou.gather(1, best) - _true_iou(logits, wanted, counts).gather(1, best)
    return (losses.gather(1, best) + error**2).mean()


def _true_iou(logits: Tensor, wanted: Tensor, counts: Tensor) -> Tensor:
    """(B, 3) of the masks that hypotheses predict now."""
    mask = (logits > 0).to(logits)
    both, either = mask * wanted, torch.maximum(mask, wanted)
    return (both * counts).sum((2, 3, 4)) / (either * counts).sum((2, 3, 4)).clamp(min=1)


def widen(network: nn.Module) -> None:
    """Give a network's LoRA one more rank, which alone learns from then on.

    Two LoRA beside each other are one of both ranks, so that one file and one card say all.

    Raises:
        ModelError: its adapter is another one.
    """
    old = adapter_in(network)
    if not isinstance(old, Lora):
        raise ModelError(f"The adapter '{old.name}' cannot be fine-tuned by slide-sam; give weights of slide-sam.")
    state, rank = adapter_state(network), old.rank + ADDED_RANK
    remove_adapter(network)
    Lora(rank=rank, alpha=old.alpha * rank / old.rank, targets=old.targets).inject(network)
    encoder = cast(Any, network).image_encoder
    with torch.no_grad():
        for name, wide in encoder.adapters.named_parameters():
            before = state[f"image_encoder.adapters.{name}"]
            wide[tuple(map(slice, before.shape))] = before.to(wide)
            learns = torch.ones_like(wide)
            learns[tuple(map(slice, before.shape))] = 0
            wide.requires_grad_(True).register_hook(lambda gradient, learns=learns: gradient * learns)
    encoder.adapters.requires_grad_(False)
