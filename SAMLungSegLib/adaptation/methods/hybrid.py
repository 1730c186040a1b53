"""SegmentAnyBone's hybrid prompts: one model that finds everything when nothing is shown, and one object when it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn

from SAMLungSegLib.adaptation.method import Group, Method, decoded, frame_targets, register_method
from SAMLungSegLib.adaptation.prompts import BOXES, prompts_of
from SAMLungSegLib.adaptation.slices import ObjectExample, ObjectSlice
from SAMLungSegLib.adapters import adapter_from, adapter_names
from SAMLungSegLib.adapters.base import Adapter
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.metrics import dice, jaccard
from SAMLungSegLib.models.adapted import save_delta
from SAMLungSegLib.models.base import Embedding
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.models.tuned import PromptRecipe
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.structures import LUNGS
from SAMLungSegLib.training.parts import ADAPTERS, ENCODER_RATE, TrainedPart
from SAMLungSegLib.training.scores import EVEN

NOTHING = "nothing"  # is shown
DECODER = "mask_decoder"


@register_method
@dataclass(frozen=True, kw_only=True)
class Hybrid(Method):
    """A third of the batches without a prompt, about all organs of a slice; a third by points, a third by boxes.

    Attributes:
        part: what learns, as in `samlungseg train --part`: 'decoder', 'encoder', 'all', or an adapter such as 'lora' or
            'adapters:lora:rank=8', with which the hypernetworks of the mask decoder learn.
        warmup: steps in which the learning rate rises.
        power: of the polynomial by which it falls afterwards.
        automatic: whether the weights, used by `--weights`, find both lungs when no prompt is given, instead of asking
            for prompts; of lungs only, and without the image encoder's own weights.
    Raises:
        SettingsError: no such part, a number below 0, or `automatic` with the image encoder.
        ModelError: no such adapter, or settings that it does not have.
    """

    name: ClassVar[str] = "hybrid"
    title: ClassVar[str] = "without a prompt, by points and by boxes in turn"
    source: ClassVar[str] = "Gu et al. 2024, SegmentAnyBone, arXiv:2401.12974"

    learning_rate: float = 5e-4
    part: str = "decoder"
    warmup: int = 200
    power: float = 0.9
    automatic: bool = False

    def __post_init__(self) -> None:
        if min(self.warmup, self.power) < 0:
            raise SettingsError(f"hybrid: warmup {self.warmup} and power {self.power} are to be 0 at least.")
        modules = self.trained_part().modules
        if self.automatic and "image_encoder" in modules:
            raise SettingsError(f"hybrid: automatic=true is not possible with part={self.part}; give part=lora, say.")

    def trained_part(self) -> TrainedPart:
        """What `part` names.

        Raises:
            SettingsError, ModelError: nothing.
        """
        is_adapter = self.part in adapter_names()
        return TrainedPart.parse(f"{ADAPTERS}:{self.part}" if is_adapter else self.part)

    def adapter(self) -> Adapter | None:
        """That learns, if one does."""
        trained = self.trained_part()
        return None if trained.method is None else adapter_from(trained.method, dict(trained.settings))

    @property
    def parts(self) -> tuple[str, ...]:
        """The decoder too, where adapters learn."""
        modules = self.trained_part().modules
        return (*modules, DECODER) if ADAPTERS in modules else modules

    @property
    def slices_per_input(self) -> int:
        """The adapter's."""
        adapter = self.adapter()
        return 1 if adapter is None else adapter.slices_per_input

    @property
    def sees_volume(self) -> bool:
        """The adapter's."""
        adapter = self.adapter()
        return adapter is not None and adapter.sees_volume

    def prepare(self, model: TrainableModel, organs: Sequence[str]) -> nn.ModuleDict:
        """Inject the adapter, if one learns.

        Raises:
            SettingsError: `automatic`, and the organs are not the lungs.
        """
        if self.automatic and not {*organs} <= {*LUNGS.keys}:
            raise SettingsError(f"hybrid: automatic=true finds lungs, and these are {', '.join(organs)}; leave it out.")
        adapter = self.adapter()
        if adapter is not None:
            adapter.inject(model.network)
        return super().prepare(model, organs)

    def parameters(self, model: TrainableModel, trained: nn.ModuleDict, stage: int) -> list[Group]:
        """The image encoder at a tenth of the rate; of the decoder beside adapters, its hypernetworks."""
        groups = []
        for name, part in trained.items():
            if name == DECODER and ADAPTERS in trained:
                part = part.output_hypernetworks_mlps
            scale = ENCODER_RATE if name == "image_encoder" else 1.0
            groups.append({"params": [*part.parameters()], "scale": scale})
        return groups

    def rate(self, step: int, progress: float) -> float:
        """A linear rise, and a polynomial fall over the whole training."""
        return min(1.0, (step + 1) / max(1, self.warmup)) * (1 - progress) ** self.power

    def loss(
        self, model: TrainableModel, examples: Sequence[ObjectExample], rng: np.random.Generator, stage: int
    ) -> Tensor:
        """Dice (sigmoid, squared) and cross-entropy on the decoder's grid, of what was shown."""
        kind = drawn_kind(self.kinds(model), rng)
        if kind == NOTHING:
            examples, prompts = [everything(one.slice) for one in examples], [PromptSet() for _ in examples]
        else:
            prompts = [prompts_of(one.mask_hw, kind, rng) for one in examples]
        logits = decoded(model, examples, prompts)[:, None]
        targets = frame_targets(model, examples, logits.shape[-1])[:, None]
        loss: Tensor = DiceCELoss(sigmoid=True, squared_pred=True)(logits, targets)
        return loss

    def export(self, target: Path, model: TrainableModel, base: BaseCheckpoint, facts: Mapping[str, Any]) -> Path:
        """Where `automatic`, the card says that nothing need be shown."""
        if not self.automatic:
            return super().export(target, model, base, facts)
        nothing = PromptRecipe("none")
        return save_delta(
            target, model, self.parts, base_weights=base.weights, recipe=nothing, threshold=EVEN, facts=facts
        )


def drawn_kind(kinds: Sequence[str], rng: np.random.Generator) -> str:
    """`NOTHING`, a kind of points or a kind of boxes, each as often; one of either's kinds as often as the others."""
    families = [[kind for kind in kinds if (kind in BOXES) == is_box] for is_box in (False, True)]
    families = [[NOTHING], *filter(None, families)]
    family = families[rng.integers(len(families))]
    return family[rng.integers(len(family))]


def everything(one: ObjectSlice) -> ObjectExample:
    """All organs of a slice as one object."""
    return ObjectExample(replace(one, labels_hw=(one.labels_hw > 0).astype(np.uint8)), 1)


def unprompted_mask(model: TrainableModel, embedding: Embedding) -> np.ndarray:
    """What a model finds in a slice to which nothing is shown, bool (H, W)."""
    with torch.inference_mode():
        low_res, _ = model.decode_batch([embedding], [PromptSet()])
        return model.to_slice(low_res[:, :1].float().cpu().numpy(), embedding.size_hw)[0, 0] > 0


def unprompted_scores(model: TrainableModel, slices: Sequence[ObjectSlice]) -> pd.DataFrame:
    """How well a model finds everything that is drawn in slices to which nothing is shown.

    Returns:
        Columns subset, image, slice, dice and iou.
    """
    rows = []
    for one in slices:
        [embedding] = model.encode([one.view])
        mask, reference = unprompted_mask(model, embedding), one.labels_hw > 0
        place = {"subset": one.subset, "image": one.image, "slice": one.number}
        rows.append(place | {"dice": dice(reference, mask), "iou": jaccard(reference, mask)})
    return pd.DataFrame(rows)
