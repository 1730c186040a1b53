"""Training of lung-compact: encode a batch once, ask it without a prompt, with prompts, and with corrections."""

from __future__ import annotations

import copy
import io
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.data import DataLoader, Dataset
from monai.transforms import Compose
from monai.utils import set_determinism
from torch import Tensor, nn
from torch.utils.data import WeightedRandomSampler
from tqdm import tqdm

from SAMLungSegLib.files import writable_folder, write_bytes
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models.checkpoints import apply_weights, checkpoint_path, load_state_dict
from SAMLungSegLib.models.compact.network import INPUT_SIZE, CompactNet
from SAMLungSegLib.models.registry import model_spec
from SAMLungSegLib.training.augment import RandomWindow, training_transforms
from SAMLungSegLib.training.config import Phase, TrainingConfig
from SAMLungSegLib.training.data.packs import is_trained_on, read_pack
from SAMLungSegLib.training.figures import add_to_history
from SAMLungSegLib.training.losses import Answer, TrainingBatch, answer_iou_loss, answer_loss
from SAMLungSegLib.training.prompt_policies import PromptSampler, interaction_steps

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
WARM_UP = 0.05
LOWEST_RATE = 1e-3
IOU_LEARNING_RATE = 1e-3


def train(pack: Path, folder: Path, config: TrainingConfig, device: str | torch.device = CPU) -> CompactNet:
    """Train on a pack; continues a run that stopped.

    Leaves `checkpoint.pt`, `history.csv` and the validation curves `history.png` in `folder`.

    Args:
        pack: file written by `SAMLungSegLib.training.data.pack`.
        folder: where checkpoints go.
        config: the recipe.
        device: to train on; on a graphics card in mixed precision (bfloat16).
    Returns:
        The network with averaged weights, in evaluation mode, on the CPU.
    Raises:
        ModelError: the weights to start from cannot be read or do not fit.
        VolumeError: the pack's images have another size.
    """
    set_determinism(config.seed)
    torch.set_num_threads(config.threads)
    writable_folder(folder)
    run = TrainingRun(pack, folder, config, started_network(config), torch.device(device))
    for epoch in range(run.resume(), config.epochs + config.iou_epochs):
        if epoch == config.epochs:
            run.learn_iou_only()
        losses = [run.step(batch, epoch) for batch in tqdm(run.batches(epoch), desc=f"epoch {epoch}", leave=False)]
        run.close_epoch(epoch, float(np.mean(losses)))
    return run.averaged.eval().cpu()


class TrainingRun:
    """A network, its average over the steps, the optimiser, and where they are kept.

    Args:
        pack: with the images.
        folder: where checkpoints go.
        config: the recipe.
        net: to train.
        device: to train on.
    """

    def __init__(
        self, pack: Path, folder: Path, config: TrainingConfig, net: CompactNet, device: torch.device = CPU
    ) -> None:
        self.config, self.folder, self.device = config, folder, device
        self.data = read_pack(pack)
        self.net = net.to(device, memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.net)
        encoder = [*self.net.image_encoder.parameters()]
        decoder = [*self.net.prompt_encoder.parameters(), *self.net.mask_decoder.parameters()]
        self.optimizer = torch.optim.AdamW(
            [{"params": encoder, "share": 1.0}, {"params": decoder, "share": config.decoder_share}],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.total_steps = config.epochs * (config.epoch_images // config.batch)
        self.steps = 0

    def resume(self) -> int:
        """First epoch still to do."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return 0
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.net.load_state_dict(state["net"])
        self.averaged.load_state_dict(state["averaged"])
        if state["epoch"] >= self.config.epochs:
            self.learn_iou_only()
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
        return state["epoch"] + 1

    def learn_iou_only(self) -> None:
        """From now on nothing but the predicted IoU of the averaged network changes."""
        self.net.load_state_dict(self.averaged.state_dict())
        self.net.requires_grad_(False)
        head = self.net.mask_decoder.iou_prediction_head.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(head.parameters(), lr=IOU_LEARNING_RATE)

    def batches(self, epoch: int) -> DataLoader:
        """Batches of one epoch; the epoch's number seeds all randomness, so a resumed run sees the same."""
        config = self.config
        chosen = np.flatnonzero(is_trained_on(self.data["sets"], self.data["splits"], config))
        sets = self.data["sets"][chosen]
        counts = {name: np.sum(sets == name) for name in np.unique(sets)}
        weights = [(config.shares.get(str(name), 0.0) if config.shares else 1.0) / counts[name] for name in sets]
        seed = config.seed * 1000 + epoch
        self.sampler = PromptSampler(seed)
        # failures are what the predicted IoU learns from
        strength = config.phase(epoch).augmentation if epoch < config.epochs else "strong"
        transforms = Compose([self._sample, training_transforms(strength)]).set_random_state(seed)
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        return DataLoader(
            Dataset(chosen.tolist(), transforms),
            batch_size=config.batch,
            sampler=WeightedRandomSampler(weights, config.epoch_images, generator=generator),
            num_workers=config.workers,
            drop_last=True,
            generator=generator,
        )

    def _sample(self, index: int) -> dict:
        return {
            "image": torch.from_numpy(self.data["images"][index][None].astype(np.float32)),
            "label": torch.from_numpy(self.data["labels"][index].astype(np.float32) / 255),
            "modality": str(self.data["modalities"][index]),
            "sides_known": bool(self.data["sides_known"][index]),
        }

    def step(self, batch: dict, epoch: int) -> float:
        """One step as the recipe wants it in an epoch; returns the loss."""
        if epoch >= self.config.epochs:
            return self.learn(batch, Phase(1, frozen_norm=True), answer_iou_loss)
        self.set_learning_rate(self.steps / self.total_steps)
        return self.learn(batch, self.config.phase(epoch), answer_loss)

    def learn(self, batch: dict, phase: Phase, measure: Callable[[Answer, Tensor, TrainingBatch], Tensor]) -> float:
        """One step of the optimiser on what `measure` finds wrong in the predictions; returns the loss."""
        set_training(self.net, frozen_norm=phase.frozen_norm)
        seen = TrainingBatch(batch, phase.side, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            replies = list(interaction_steps(self.net, seen, self.sampler, self.config))
        loss = torch.stack([measure(answer, asked, seen) for answer, asked in replies]).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        self._average()
        return float(loss.detach())

    def set_learning_rate(self, progress: float) -> None:
        """A short rise, then half a cosine; `progress` is 0 at the start of the training and 1 at its end."""
        factor = min(1.0, progress / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * group["share"] * max(factor, LOWEST_RATE)

    def _average(self) -> None:
        keep = min(self.config.averaging, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            new = self.net.state_dict()
            for name, value in self.averaged.state_dict().items():
                if value.dtype.is_floating_point:
                    value.lerp_(new[name], 1 - keep)
                else:
                    value.copy_(new[name])

    def close_epoch(self, epoch: int, loss: float) -> None:
        """Save a checkpoint and the history's next row."""
        state = {
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "epoch": epoch,
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_bytes(content.getvalue(), self.folder / "checkpoint.pt")
        scores = validation_dice(self.averaged.eval(), self.data)
        row = {"epoch": epoch, "loss": round(loss, 5)} | {name: round(score, 5) for name, score in scores.items()}
        add_to_history(self.folder, row)
        logger.info("epoch %d: %s", epoch, row)


def started_network(config: TrainingConfig) -> CompactNet:
    """A network with random weights, or with those that the recipe starts from.

    Raises:
        ModelError: they cannot be read or do not fit.
    """
    net = CompactNet()
    if config.start:
        spec = model_spec("lung-compact")
        path = checkpoint_path(spec) if config.start == spec.name else Path(config.start)
        apply_weights(net, load_state_dict(path), what=str(path))
        net.input_size.fill_(INPUT_SIZE)  # whatever the frame was that these weights learned from
    return net


def set_training(net: CompactNet, *, frozen_norm: bool) -> None:
    """Set a network to training, its batch normalisation only where that is not frozen."""
    net.train()
    if frozen_norm:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


@torch.inference_mode()
def validation_dice(net: CompactNet, data: dict[str, np.ndarray], side: int = INPUT_SIZE) -> dict[str, float]:
    """Mean Dice of both lungs without a prompt, per set, on the validation part of a pack.

    Args:
        net: in evaluation mode.
        data: the pack's columns.
        side: of the images that the network is shown; masks are compared at the pack's own size.
    """
    window = RandomWindow(jitter=0.0)
    device = next(net.parameters()).device
    scores: dict[str, list[float]] = {}
    for index in np.flatnonzero(data["splits"] == "validation"):
        image = torch.from_numpy(data["images"][index][None].astype(np.float32))
        grey: Tensor = window({"image": image, "modality": str(data["modalities"][index])})["image"]
        frame = F.avg_pool2d(grey[None].to(device), INPUT_SIZE // side) * 2 - 1
        low_res, _ = net.decode(net.image_encoder(frame))
        logits = F.interpolate(low_res[:, :1], (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        answer = (logits[0, 0] > 0).cpu().numpy()
        truth = data["labels"][index][:2].sum(0) > 127
        scores.setdefault(str(data["sets"][index]), []).append(dice(truth, answer))
    return {name: float(np.mean(values)) for name, values in scores.items()}
