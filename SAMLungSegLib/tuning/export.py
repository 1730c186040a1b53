"""From a tuned decoder to two files that anybody can use: the weights and their card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors.torch import save

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.files import writable_folder, write_together, writing
from SAMLungSegLib.models import load_model, model_spec
from SAMLungSegLib.models.checkpoints import checkpoint_path, file_sha256, load_state_dict
from SAMLungSegLib.models.trainable import TrainableModel, trainable
from SAMLungSegLib.models.tuned import PromptRecipe, TunedCard, read_card
from SAMLungSegLib.tuning.loop import State

DECODER_PREFIX = "mask_decoder."


@dataclass(frozen=True)
class Base:
    """The model that a decoder is tuned for.

    Attributes:
        name: of the registry.
        weights: of the user's, whole ones, in place of the registry's.
    """

    name: str = "lung-compact"
    weights: Path | None = None

    def load(self, device: str = "auto", input_size: int | None = None) -> TrainableModel:
        """The model.

        Raises:
            ModelError: as `load_model`, or the weights are a mask decoder alone, tuned or not: a decoder is tuned from
                weights that one file holds, so that its card can name them.
        """
        if self.weights is not None:
            if read_card(self.weights) is not None:
                raise ModelError(f"{self.weights} is a tuned decoder; tune from the model that it was tuned from.")
            if not any(name.startswith("image_encoder.") for name in load_state_dict(self.weights)):
                raise ModelError(f"{self.weights} holds no image encoder; give whole weights to tune from.")
        return trainable(load_model(self.name, weights=self.weights, device=device, input_size=input_size))

    @property
    def path(self) -> Path:
        """The file of the weights."""
        return self.weights or checkpoint_path(model_spec(self.name))

    @property
    def title(self) -> str:
        """For tables: the name, the file where it is the user's, and the start of its SHA-256."""
        file = f" ({self.weights.name})" if self.weights else ""
        return f"{self.name}{file}, SHA-256 {file_sha256(self.path)[:12]}"


def export_decoder(
    target: Path,
    base: Base,
    model: TrainableModel,
    state: State,
    recipe: PromptRecipe,
    threshold: float,
    facts: Mapping[str, Any],
) -> Path:
    """Write a tuned decoder and its card, and copies of the base's weights and card where these are the user's own.

    Args:
        target: .safetensors file; the card lies beside it as .json.
        base: what the decoder belongs on top of.
        model: as loaded from `base`.
        state: weights of the mask decoder.
        recipe: what it was tuned to be asked.
        threshold: chosen on the validation part.
        facts: what else the card says: data, images, windowing, training, scores.
    Returns:
        `target`.
    """
    writable_folder(target.parent)
    content = save({f"{DECODER_PREFIX}{name}": value.contiguous() for name, value in state.items()})
    card = TunedCard(
        base=base.name,
        base_sha256=file_sha256(base.path),
        base_file=base.path.name,
        weights_sha256=sha256(content).hexdigest(),
        input_size=model.input_size,
        recipe=recipe,
        threshold=threshold,
    )
    if base.weights is not None:
        for file in (base.weights, base.weights.with_suffix(".json")):
            _copy_beside(file, target)
    text = json.dumps({**card.to_fields(), **facts}, indent=2) + "\n"
    write_together({target: content, target.with_suffix(".json"): text.encode()})
    return target


def _copy_beside(file: Path, target: Path) -> None:
    copy = target.with_name(file.name)
    if file.is_file() and file.resolve() != copy.resolve():
        with file.open("rb") as source, writing(copy) as target_file:
            shutil.copyfileobj(source, target_file)
