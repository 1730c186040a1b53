"""Training of any part of a model on the user's own images: adopted only where held-out images get better."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.files import check_written
from SAMLungSegLib.models.capabilities import NETWORK_PARTS
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.training.data.cases import StudyCase
from SAMLungSegLib.training.data.examples import EncodedExample, Example, encode_examples, read_examples, with_targets
from SAMLungSegLib.training.data.splits import split_cases
from SAMLungSegLib.training.decoder import (
    CHECKPOINT_NAME,
    DecoderBatch,
    DecoderTask,
    TunedDecoder,
    TuningConfig,
    dice_column,
    trainer_settings,
)
from SAMLungSegLib.training.export import export_trained
from SAMLungSegLib.training.fine_tune import TuneOptions, TuneResult, card_facts, per_image, target_path, write_tables
from SAMLungSegLib.training.prompt_policies import PromptPolicy, check_kind, recipe_of_training
from SAMLungSegLib.training.scores import EVEN, Comparison, compared, prompted_masks, unprompted_masks
from SAMLungSegLib.training.trainer import Row, Trainer, copied, with_state

ENCODER_RATE = 0.1  # of the decoder's: what an encoder knows is soon forgotten
ADAPTER_RATE = 1e-3
AUGMENTATION, EMA_DECAY = "plain", 0.9
ADAPTERS = "adapters"
_PARTS = {
    "decoder": ("mask_decoder",),
    "prompt": ("prompt_encoder",),
    "encoder": ("image_encoder",),
    "all": NETWORK_PARTS,
}


@dataclass(frozen=True)
class TrainedPart:
    """What is trained of a network.

    Attributes:
        name: as users give it: 'decoder', 'prompt', 'encoder', 'all' or 'adapters:<method>', where settings may
            follow, as in 'adapters:lora:rank=8,placement=published'.
        modules: the parts of the network.
        method: of the adapters; None for parts that the network has by itself.
        settings: of the method, those that differ from its defaults.
    """

    name: str
    modules: tuple[str, ...]
    method: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def parse(cls, text: str) -> TrainedPart:
        """From what users give.

        Raises:
            SettingsError: no such part.
            ModelError: no such method of adapters, or settings that it does not have or that are not possible.
        """
        from SAMLungSegLib.adapters import adapter_from, adapter_names

        if text in _PARTS:
            return cls(text, _PARTS[text])
        kind, colon, described = text.partition(":")
        if kind != ADAPTERS or not colon:
            adapters = ", ".join(f"{ADAPTERS}:{name}" for name in adapter_names())
            raise SettingsError(f"There is no part '{text}' to train; choose one of {', '.join(_PARTS)}, {adapters}.")
        method, _, given = described.partition(":")
        settings = parsed_settings(given)
        adapter_from(method, settings)
        return cls(text, (ADAPTERS,), method, tuple(settings.items()))

    @property
    def label(self) -> str:
        """For names of files."""
        return re.sub("[:=,+]", "-", self.name)

    @property
    def defaults(self) -> dict[str, Any]:
        """Of the `TuningConfig`'s fields those that differ from what the model's decoder is tuned with."""
        averaged = {} if self.name == "decoder" else {"ema_decay": EMA_DECAY}
        changed = {"augmentation": AUGMENTATION} if self.encodes else {}
        return averaged | changed | ({"learning_rate": ADAPTER_RATE} if self.method else {})

    @property
    def encodes(self) -> bool:
        """Whether embeddings change with it, so that every slice is encoded at every step."""
        return not {"image_encoder", ADAPTERS}.isdisjoint(self.modules)


def parsed_settings(text: str) -> dict[str, Any]:
    """From 'rank=8,targets=q+k,placement=published': numbers, words, and several words joined by '+'."""
    settings: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise SettingsError(f"{item!r} is no setting; give NAME=VALUE, such as placement=published.")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = tuple(value.split("+")) if "+" in value else value
    return settings


class PartsTask(DecoderTask):
    """Parts of a network on examples; with the image encoder among them every slice is encoded at every step."""

    def __init__(
        self,
        model: TrainableModel,
        part: TrainedPart,
        training: Sequence[EncodedExample],
        validation: Sequence[EncodedExample],
        policy: PromptPolicy,
        config: TuningConfig,
    ) -> None:
        super().__init__(model, training, validation, policy, config)
        self.part = part
        self.network = nn.ModuleDict({name: model.part(name) for name in part.modules})

    def facts(self) -> dict[str, Any]:
        """Also which part is trained."""
        return {**super().facts(), "trained": self.part.name}

    def deciding_weights(self) -> dict[str, Tensor]:
        """All there are: what is frozen computes the gradients."""
        return self.model.network.state_dict()

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        """Adam; the image encoder at a tenth of the rate."""
        rate, groups = self.config.learning_rate, []
        for name, part in self.network.items():
            scale = ENCODER_RATE if name == "image_encoder" else 1.0
            groups.append({"params": [*part.requires_grad_(True).parameters()], "lr": scale * rate})
        return torch.optim.Adam(groups, lr=rate, weight_decay=self.config.weight_decay)

    def batches(self, epoch: int) -> Iterator[DecoderBatch]:
        """As of a decoder; batch normalisation of adapters learns meanwhile."""
        if ADAPTERS in self.network:
            self.network[ADAPTERS].train()
        return super().batches(epoch)

    def validate(self) -> Row:
        """As users get it."""
        self.network.eval()
        return super().validate()

    def encoded(self, example: Example) -> EncodedExample:
        """Not at all where the encoder learns."""
        return with_targets(self.model, example) if self.part.encodes else super().encoded(example)

    def predict(self, batch: DecoderBatch) -> tuple[Tensor, Tensor]:
        """Logits and IoU of the decoder's tokens, in single precision."""
        if not self.part.encodes:
            return super().predict(batch)
        embeddings = self.model.encode_batch([one.example.view for one in batch.examples])
        logits, iou = self.model.decode_batch(embeddings, batch.prompts)
        return logits.float(), iou.float()

    def score(self, row: Row) -> float:
        """Dice at the threshold of whole weights, which bring no other along."""
        return row[dice_column(EVEN)]


def train_part(
    model: TrainableModel,
    base: BaseCheckpoint,
    part: TrainedPart,
    cases: Sequence[StudyCase],
    folder: Path,
    options: TuneOptions,
) -> TuneResult:
    """Train a part of a model and export it if it is better on images that were held out.

    Writes into `folder` what `tune` does; what is adopted is `<model>-<part>.safetensors`: all weights of the network,
    or the adapters alone. The model itself is as before afterwards, but for adapters that it may have got.

    Args:
        model: as loaded from `base`.
        base: what is trained.
        part: of it; the decoder alone is `tune`'s.
        cases: images with masks.
        folder: where to write.
        options: as of `tune`.
    Raises:
        VolumeError: too few images, an empty mask, a file that cannot be read, a patient in two parts.
        GeometryError: a mask on another grid than its image.
        SettingsError: a kind of prompts that the model does not accept.
        PromptError: masks without two lungs in common.
        ModelError: the model has no such part.
    """
    check_kind(model, options.kind)
    if part.method is not None:
        from SAMLungSegLib.adapters import adapter_from

        torch.manual_seed(options.config.seed)
        adapter_from(part.method, dict(part.settings)).inject(model.network)
    split = split_cases(cases)
    examples = read_examples(
        cases,
        options.windowing,
        slices_each=options.slices_each,
        slices_per_input=model.capabilities.slices_per_input,
        sees_volume=model.capabilities.sees_volume,
    )
    learned = [one for one in examples if one.name in split.training]
    recipe = recipe_of_training(options.kind, learned, options.points_per_lung)
    policy = PromptPolicy(recipe, options.jitter_px)
    encoded = [with_targets(model, one) for one in examples] if part.encodes else encode_examples(model, examples)
    training, validation, held_out = (
        [one for one in encoded if one.example.name in names]
        for names in (split.training, split.validation, split.held_out)
    )
    before = _measured(model, held_out, policy)
    task = PartsTask(model, part, training, validation, policy, options.config)
    tuned = _trained(model, task, folder / "run")
    with _with_weights(model, task, tuned.state):
        after = _measured(model, held_out, policy)
        table = before[0].merge(after[0], on="image", suffixes=("_before", "_after")).reset_index()
        comparison = compared(table["dice_before"], table["dice_after"])
        prompted = None if after[1] is None else compared(before[1]["dice"], after[1]["dice"])
        written = write_tables(folder, tuned, table, comparison, title=f"Training of {part.name}")
        weights = None
        if comparison.is_better:
            comparisons: dict[str, Comparison | None] = {"unprompted": comparison, "prompted": prompted}
            facts = card_facts(base, cases, split, options, tuned, comparisons)
            facts.pop("validation_dice")  # of thresholds, of which whole weights have one
            weights = export_trained(target_path(folder, base, part.label), base, model, part.modules, facts)
            written += [weights, weights.with_suffix(".json")]
    check_written(written)
    return TuneResult(weights, comparison, prompted, table, EVEN)


def _trained(model: TrainableModel, task: PartsTask, folder: Path) -> TunedDecoder:
    config = task.config
    settings = trainer_settings(config, mixed_precision=task.part.encodes)
    with model.threads(), with_state(task.network, copied(task.network.state_dict())):
        try:
            trained = Trainer(task, settings, folder / CHECKPOINT_NAME, title=task.part.name).run()
        finally:
            task.network.requires_grad_(False).eval()
    return TunedDecoder(trained.state, trained.history, trained.epoch)


@contextmanager
def _with_weights(model: TrainableModel, task: PartsTask, state: Any) -> Iterator[None]:
    try:
        with with_state(task.network, state):
            model.weights_changed()
            yield
    finally:
        model.weights_changed()


def _measured(
    model: TrainableModel, held_out: Sequence[EncodedExample], policy: PromptPolicy
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Dice and Jaccard of each image as users get them without a prompt, and with a box where one belongs to it."""
    encoded = encode_examples(model, [one.example for one in held_out])
    unprompted = per_image(encoded, unprompted_masks(model, encoded))
    if not policy.recipe.needs_box:
        return unprompted, None
    return unprompted, per_image(encoded, prompted_masks(model, encoded, policy))
