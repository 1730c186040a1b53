"""Adapters, and the mask decoder if wished, trained on a few slices with prompts and masks of any object.

The least that a training is: no augmentation, no validation; `parts` has both, for lungs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.adapters.base import adapter_parameters
from SAMLungSegLib.adapters.place import PlaceInVolume
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.models.base import ModelView
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.training.trainer import Row, Trainer, TrainerSettings, TrainingTask

CHECKPOINT_NAME = "adapters.pt"
EPOCH_STEPS = 50  # after which a checkpoint is written


@dataclass(frozen=True, eq=False)
class PromptedSlice:
    """A slice, what the model is shown of it, and what it shall find.

    Attributes:
        grey_hw: uint8 (H, W).
        prompts: of one object, in pixels of the slice.
        mask_hw: bool (H, W) of that object.
        stack_nhw: uint8 (N, H, W), the slice amid its neighbours, for adapters that look at these; None stands for
            the slice itself in their places.
        place: in its volume, for adapters that look at all of it; None leaves that out.
    """

    grey_hw: np.ndarray
    prompts: PromptSet
    mask_hw: np.ndarray
    stack_nhw: np.ndarray | None = None
    place: PlaceInVolume | None = None

    @property
    def view(self) -> ModelView:
        """As models see it."""
        stack_nhw = self.grey_hw[np.newaxis] if self.stack_nhw is None else self.stack_nhw
        return ModelView.amid(stack_nhw, self.place)


@dataclass(frozen=True)
class AdapterConfig:
    """How adapters are trained: Adam on binary cross-entropy and Dice of the prompted masks.

    Attributes:
        steps: of the optimiser.
        batch: slices in a step, drawn at random.
        learning_rate: of Adam.
        with_decoder: whether the mask decoder learns too.
        seed: of the draws.
    """

    steps: int
    batch: int = 2
    learning_rate: float = 1e-3
    with_decoder: bool = False
    seed: int = 0

    @property
    def epochs(self) -> int:
        """Of `EPOCH_STEPS` steps, the last one may have fewer."""
        return -(-self.steps // EPOCH_STEPS)


def fit_adapters(
    model: TrainableModel, slices: Sequence[PromptedSlice], config: AdapterConfig, folder: Path | None = None
) -> list[float]:
    """Train the adapters of a model.

    Args:
        model: with adapters; changed in place.
        slices: prompts are of the same kind and number in all.
        config: how.
        folder: where the run lies, from which it goes on after a stop; None keeps nothing.
    Returns:
        The loss before each step that was made now.
    Raises:
        SettingsError: there are no steps, or no slices.
        ModelError: the model has no adapters, or its encoder cannot be trained.
    """
    if not slices or min(config.steps, config.batch) < 1:
        raise SettingsError(
            f"{config.steps} steps of {config.batch} of {len(slices)} slices are no training; give one at least."
        )
    task = AdapterTask(model, slices, config)
    settings = TrainerSettings(config.epochs, keep="last")
    try:
        with TemporaryDirectory() as nowhere:
            Trainer(task, settings, (folder or Path(nowhere)) / CHECKPOINT_NAME, title="adapters").run()
    finally:
        task.network.requires_grad_(False).eval()
        task.network.zero_grad(set_to_none=True)
    return task.losses


class AdapterTask(TrainingTask[list[PromptedSlice]]):
    """Adapters on slices; the arguments are those of `fit_adapters`."""

    def __init__(self, model: TrainableModel, slices: Sequence[PromptedSlice], config: AdapterConfig) -> None:
        adapter_parameters(model.network)  # refuses a model that has none
        self.model, self.slices, self.config, self.device = model, slices, config, model.device
        self.network = nn.ModuleDict({"adapters": model.network.image_encoder.adapters})
        if config.with_decoder:
            self.network["mask_decoder"] = model.network.mask_decoder
        self.losses: list[float] = []

    @property
    def fingerprint(self) -> str:
        """Of the settings, the slices with their prompts, and the weights."""
        digest = hashlib.sha256(json.dumps(asdict(self.config)).encode())
        for one in self.slices:
            digest.update(np.ascontiguousarray(one.grey_hw).tobytes() + np.packbits(one.mask_hw).tobytes())
            digest.update(b"" if one.stack_nhw is None else np.ascontiguousarray(one.stack_nhw))
            digest.update(repr(one.prompts).encode() + (b"" if one.place is None else one.place.digest))
        for value in self.model.network.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy())
        return digest.hexdigest()

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.network.requires_grad_(True).parameters(), lr=self.config.learning_rate)

    def batches(self, epoch: int) -> Iterator[list[PromptedSlice]]:
        """The steps of an epoch."""
        self.network.train()
        rng = np.random.default_rng([self.config.seed, epoch])
        for _ in range(min(EPOCH_STEPS, self.config.steps - epoch * EPOCH_STEPS)):
            yield [self.slices[index] for index in rng.integers(0, len(self.slices), self.config.batch)]

    def predict(self, batch: list[PromptedSlice]) -> Tensor:
        """Logits (B, h, w) of the prompted token."""
        embeddings = self.model.encode_batch([one.view for one in batch])
        return self.model.decode_batch(embeddings, [one.prompts for one in batch])[0][:, 0]

    def loss(self, predictions: Tensor, batch: list[PromptedSlice]) -> Tensor:
        """Mean over the slices, each within its part of the frame."""
        loss = prompted_loss(self.model, predictions, [one.mask_hw for one in batch])
        self.losses.append(float(loss.detach()))
        return loss

    def validate(self) -> Row:
        """Nothing is held out."""
        return {}

    def score(self, row: Row) -> float:
        """The loss, lower is better."""
        return -row["loss"]


def prompted_loss(model: TrainableModel, logits: Tensor, masks_hw: Sequence[np.ndarray]) -> Tensor:
    """Binary cross-entropy and Dice, the mean over objects, each within its slice's part of the frame.

    Args:
        model: that predicted.
        logits: (B, h, w) on the decoder's grid.
        masks_hw: bool (H, W) of each object.
    """
    losses = []
    for mask_hw, grid in zip(masks_hw, logits, strict=True):
        rows, columns = model.size_in_frame(mask_hw.shape, grid.shape[-1])
        mask = torch.from_numpy(mask_hw.astype(np.float32))[None, None].to(grid.device)
        losses.append(_overlap_loss(grid[:rows, :columns], F.interpolate(mask, (rows, columns), mode="area")[0, 0]))
    return torch.stack(losses).mean()


def _overlap_loss(logits: Tensor, target: Tensor) -> Tensor:
    probability = logits.sigmoid()
    dice = 2 * (probability * target).sum() / (probability.sum() + target.sum()).clamp(min=1)
    return F.binary_cross_entropy_with_logits(logits, target) + 1 - dice
