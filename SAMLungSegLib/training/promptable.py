"""Training of a small SAM from nothing on a pack: a batch is encoded once and decoded for several objects and prompts.

Of each image both lungs are predicted without a prompt, one object in a jittered box and one by points; often the last
of these is corrected by a click, with the mask before it as a prompt, as in SAM (Kirillov et al. 2023, appendix A).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.utils import set_determinism
from segment_anything.modeling import Sam
from torch import Tensor, nn

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models.checkpoints import apply_weights, file_sha256, load_state_dict
from SAMLungSegLib.models.registry import model_spec
from SAMLungSegLib.models.sam.architectures import sam_network
from SAMLungSegLib.prompts.simulated import corrective_click, distance_transform_peak
from SAMLungSegLib.training.compact import CHECKPOINT_NAME, CPU, FREE_SETTINGS, LONGEST_GRADIENT, warm_cosine
from SAMLungSegLib.training.config import TrainingConfig
from SAMLungSegLib.training.data.drawing import unchanged
from SAMLungSegLib.training.data.packs import read_pack
from SAMLungSegLib.training.losses import as_tensor
from SAMLungSegLib.training.prompt_policies import in_frame
from SAMLungSegLib.training.promptable_prompts import (
    MANY,
    Clicks,
    Decoded,
    FrameBatch,
    decode_all,
    drawn_boxes,
    drawn_clicks,
    drawn_objects,
    object_of,
)
from SAMLungSegLib.training.recipe_task import RecipeTask
from SAMLungSegLib.training.trainer import Row, Trainer, TrainerSettings

SINGLE_LUNG_SHARE = 0.7  # of the objects, where the sides are known
MANY_SHARE = 0.5  # of the prompts by points, those with several
PADDED_SHARE = 0.5
INITIAL_SD = 0.02
SHOWN_AT_ONCE = 16


def train_sam(pack: Path, folder: Path, config: TrainingConfig, device: str | torch.device = CPU) -> Sam:
    """Train on a pack the SAM that a recipe names; continues a run that stopped.

    Leaves `checkpoint.pt`, `history.csv` and the validation curves `history.png` in `folder`.

    Args:
        pack: file written by `training.data.packs.pack`.
        folder: where checkpoints go.
        config: the recipe; `side` of its phases, and what it says of branches, are lung-compact's alone.
        device: to train on; on a graphics card in mixed precision.
    Returns:
        The network with averaged weights, in evaluation mode, on the CPU.
    Raises:
        ModelError: the weights to start from cannot be read or do not fit.
        SettingsError: the recipe's model is no SAM.
        VolumeError: the pack's images have another size than packs have now.
    """
    set_determinism(config.seed)
    torch.set_num_threads(config.threads)
    task = PromptableTask(pack, folder, config, started_sam(config), torch.device(device))
    settings = TrainerSettings(
        config.epochs, keep="last", ema_decay=config.ema_decay, clip_norm=LONGEST_GRADIENT, mixed_precision=True
    )
    trained = Trainer(task, settings, folder / CHECKPOINT_NAME, title=config.name).run()
    sam = task.network.cpu()
    sam.load_state_dict(trained.state)
    return sam.eval()


def started_sam(config: TrainingConfig) -> Sam:
    """The network that a recipe trains, with random weights or those that it starts from.

    Raises:
        ModelError: these cannot be read or do not fit.
        SettingsError: the recipe's model is no SAM.
    """
    spec = model_spec(config.model)
    if spec.taught != "prompts":
        raise SettingsError(f"The recipe {config.name} is for {config.model}, which is no SAM; name sam-vit-tiny.")
    sam = sam_network(spec.architecture)
    if config.start:
        apply_weights(sam, load_state_dict(Path(config.start)), what=config.start)
    else:
        _initialise(sam.image_encoder)
    return sam


def _initialise(encoder: nn.Module) -> None:
    """As Vision Transformers are usually started: small weights, no biases."""
    nn.init.trunc_normal_(encoder.pos_embed, std=INITIAL_SD)
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=INITIAL_SD)
            nn.init.zeros_(module.bias)


class PromptableTask(RecipeTask[FrameBatch]):
    """A whole SAM on a pack, by a recipe.

    Args:
        pack: with the images.
        folder: where the history goes.
        config: the recipe.
        sam: to train.
        device: to train on.
    """

    network: Sam

    def __init__(self, pack: Path, folder: Path, config: TrainingConfig, sam: Sam, device: torch.device = CPU) -> None:
        self.config, self.pack, self.folder, self.device = config, pack, folder, device
        self.network = sam.to(device)
        self.side = int(sam.image_encoder.img_size)
        self.cells = int(sam.prompt_encoder.mask_input_size[0])
        self.data = at_side(read_pack(pack), self.side)
        self.total_steps = config.epochs * (config.epoch_images // config.batch)

    @cached_property
    def fingerprint(self) -> str:
        """Of the pack, the weights to start from, and all of the recipe that decides the numbers."""
        free = set(FREE_SETTINGS) - {"model", "bfloat16"}
        facts = {name: value for name, value in asdict(self.config).items() if name not in free}
        files = [self.pack, *([Path(self.config.start)] if self.config.start else [])]
        text = json.dumps([facts, *map(file_sha256, files)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        """AdamW on all of the network."""
        sam, config = self.network, self.config
        decoder = [*sam.prompt_encoder.parameters(), *sam.mask_decoder.parameters()]
        return torch.optim.AdamW(
            [
                {"params": [*sam.image_encoder.parameters()]},
                {"params": decoder, "lr": config.learning_rate * config.decoder_lr_scale},
            ],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )

    def rate(self, epoch: int, steps: int) -> float:
        """A short rise, then half a cosine."""
        return warm_cosine(steps / self.total_steps)

    def batches(self, epoch: int) -> Iterator[FrameBatch]:
        """As many images as an epoch has, drawn by the sets' sampling weights and changed at random."""
        self.network.train()
        config, seed = self.config, self.config.seed * 1000 + epoch
        strength, rng = config.phase(epoch).augmentation, np.random.default_rng(seed)
        for drawn in self.drawing.batches(config.epoch_images, config.batch, strength, seed, config.workers):
            image, label = as_tensor(drawn["image"]), as_tensor(drawn["label"])
            yield self._batch(self._frames(image, rng), label, drawn["sides_known"].numpy(), rng)

    def _batch(self, frames: Tensor, label: Tensor, sides_known: np.ndarray, rng: np.random.Generator) -> FrameBatch:
        small = F.avg_pool2d(label, self.side // self.cells).to(self.device)
        masks = label[:, :2].numpy() > 0.5
        return FrameBatch(frames.to(self.device), masks, small[:, :2], 1 - small[:, 2:], sides_known, rng)

    def _frames(self, grey: Tensor, rng: np.random.Generator | None = None) -> Tensor:
        """Grey (B, 1, S, S) in 0..1 normalised; what is black at the right and the bottom is mostly padding, which SAM
        has grey, and is at random where `rng` is given, as not every image is padded."""
        sam = self.network
        frames = (255 * grey - sam.pixel_mean.cpu()) / sam.pixel_std.cpu()
        for frame, one in zip(frames, grey[:, 0] > 0, strict=True):
            if rng is None or rng.uniform() < PADDED_SHARE:
                frame[:, _filled(one.any(1)) :] = 0
                frame[:, :, _filled(one.any(0)) :] = 0
        return frames

    def predict(self, batch: FrameBatch) -> list[Decoded]:
        """Without a prompt, in boxes, by points, and mostly by one click more."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._is_half):
            features = self.network.image_encoder(batch.frames)
            return list(self._interaction(features, batch))

    @property
    def _is_half(self) -> bool:
        return self.config.bfloat16 or self.device.type == "cuda"

    def _interaction(self, features: Tensor, batch: FrameBatch) -> Iterator[Decoded]:
        rng = batch.rng
        both = np.ones((len(features), 2), bool)
        yield self._decoded(features, batch, both)
        wanted = drawn_objects(batch, single=SINGLE_LUNG_SHARE)
        yield self._decoded(features, batch, wanted, boxes=drawn_boxes(batch.masks, wanted, rng))
        is_many = rng.uniform() < MANY_SHARE
        wanted = drawn_objects(batch, single=SINGLE_LUNG_SHARE if is_many else 1.0)
        clicks = [drawn_clicks(*one, MANY if is_many else 1, rng) for one in zip(batch.masks, wanted, strict=True)]
        decoded = self._decoded(features, batch, wanted, clicks, guesses=not is_many)
        yield decoded
        if rng.uniform() < self.config.correction_prob:
            yield self._corrected(features, batch, wanted, clicks, decoded)

    def _corrected(
        self, features: Tensor, batch: FrameBatch, wanted: np.ndarray, clicks: Sequence[Clicks], decoded: Decoded
    ) -> Decoded:
        """A click in the middle of each image's largest error, the mask before it given too."""
        scale = self.side // self.cells
        known = batch.known[:, 0].cpu().numpy() > 0.5
        found, truth = (
            (part[:, 0].float().cpu().numpy() > level) & known
            for part, level in ((decoded.logits.detach(), 0.0), (decoded.target, 0.5))
        )
        more = []
        for row, one, other in zip(clicks, found, truth, strict=True):
            click = corrective_click(one, other)
            more.append([*row, row[0] if click is None else in_frame(click, scale)])  # where all is right, one again
        return self._decoded(features, batch, wanted, more, masks=decoded.logits[:, :1].detach().float())

    def _decoded(
        self,
        features: Tensor,
        batch: FrameBatch,
        wanted: np.ndarray,
        clicks: Sequence[Clicks] = (),
        *,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        guesses: bool = False,
    ) -> Decoded:
        points = None
        if clicks:
            xy = torch.tensor([[point for point, _ in row] for row in clicks], dtype=torch.float32)
            kinds = torch.tensor([[int(positive) for _, positive in row] for row in clicks])
            points = (xy.to(self.device), kinds.to(self.device))
        logits, iou = decode_all(
            self.network, features, points, None if boxes is None else boxes.to(self.device), masks, guesses=guesses
        )
        sides = torch.from_numpy(wanted).to(batch.labels)[:, :, None, None]
        target = (batch.labels * sides).sum(1, keepdim=True).clamp(max=1)
        valid = batch.known
        if points is not None or boxes is not None:  # a prompt about nothing has no answer
            valid = valid * (target.amax((2, 3), keepdim=True) > 0.5)
        return Decoded(logits.float(), iou.float(), target, valid)

    def loss(self, predictions: list[Decoded], batch: FrameBatch) -> Tensor:
        """Mean over the prompts."""
        return torch.stack([one.loss() for one in predictions]).mean()

    def validate(self) -> Row:
        """Mean Dice by kind of prompts and by set, in CT and X-rays of the validation part, on the decoder's grid."""
        self.network.eval()
        has_lung = (self.data["labels"][:, :2] > 127).any((1, 2, 3))
        chosen = np.flatnonzero((self.data["splits"] == "validation") & (self.data["extents"] != "whole") & has_lung)
        scores: dict[str, list[float]] = {}
        for start in range(0, len(chosen), SHOWN_AT_ONCE):
            some = chosen[start : start + SHOWN_AT_ONCE]
            for kind, values in self._shown(some).items():
                for index, value in zip(some, values, strict=True):
                    scores.setdefault(f"{kind} {self.data['modalities'][index]}", []).append(value)
        return {name: float(np.mean(values)) for name, values in scores.items()}

    def _shown(self, indices: np.ndarray) -> dict[str, list[float]]:
        """Dice of some images without a prompt, with a click into the middle of one lung, and in a box around it."""
        rng = np.random.default_rng(0)
        grey = torch.cat([unchanged(self.data, index) for index in indices])
        label = torch.from_numpy(self.data["labels"][indices]).float() / 255
        batch = self._batch(self._frames(grey), label, self.data["sides_known"][indices], rng)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._is_half):
            features = self.network.image_encoder(batch.frames)
            one = drawn_objects(batch, single=1.0)
            middle = [[(distance_transform_peak(lung), True)] for lung in map(object_of, batch.masks, one)]
            decoded = {
                "none": self._decoded(features, batch, np.ones_like(one)),
                "point": self._decoded(features, batch, one, middle),
                "box": self._decoded(features, batch, one, boxes=drawn_boxes(batch.masks, one, rng)),
            }
        known = batch.known.cpu().numpy() > 0.5
        return {
            kind: [
                dice(truth, found & sure)
                for truth, found, sure in zip(
                    made.target.cpu().numpy() > 0.5, made.logits.cpu().numpy() > 0, known, strict=True
                )
            ]
            for kind, made in decoded.items()
        }


def at_side(data: Mapping[str, np.ndarray], side: int) -> dict[str, np.ndarray]:
    """A pack with its images and labels drawn as `side` x `side` pixels."""

    def smaller(planes: np.ndarray) -> np.ndarray:
        stacked = planes if planes.ndim == 4 else planes[:, None]
        small = np.empty((*stacked.shape[:2], side, side), stacked.dtype)
        for index, one in enumerate(stacked):
            frame = torch.from_numpy(one.astype(np.float32))[None]
            small[index] = F.interpolate(frame, (side, side), mode="bilinear", antialias=True)[0].round().numpy()
        return small if planes.ndim == 4 else small[:, 0]

    return {**data, "images": smaller(data["images"]), "labels": smaller(data["labels"])}


def _filled(rows: Tensor) -> int:
    """How many there are up to the last that is not empty."""
    places = rows.nonzero()
    return int(places[-1]) + 1 if len(places) else len(rows)
