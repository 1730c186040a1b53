"""Designs of lung-compact compared: each is trained for the same time on the same images, then scored and timed.

    python Testing/benchmarks/designs.py PACK --minutes 6 --docs docs/model.md

PACK is the `pack.npz` of a training (`samlungseg train`). One thread, images of 128 x 128 pixels unless `--side 256`.
A design is an encoder and a decoder; the shipped one is 'pyramid, skips'. Results of designs that are done are kept
beside the pack, so that an interrupted comparison goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from measure import put_figures
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, TwoWayTransformer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from SAMLungSegLib.models.compact.layers import ConvNorm
from SAMLungSegLib.models.compact.network import (
    INPUT_SIZE,
    PROMPT_WIDTH,
    CompactNet,
    PyramidEncoder,
    SkipMaskDecoder,
)
from SAMLungSegLib.training.compact import (
    CHECKPOINT_NAME,
    CompactTask,
    trainer_settings,
    validation_dice,
    warm_cosine,
)
from SAMLungSegLib.training.config import Phase, TrainingConfig
from SAMLungSegLib.training.trainer import Trainer

SAMPLING_WEIGHTS = {"cxr_montgomery": 0.25, "cxr_shenzhen": 0.40, "ct_kmader": 0.20, "phantom_ct": 0.15}
LEARNING_RATE, DECODER_LR_SCALE = 2e-3, 0.25


class BasicBlock(nn.Module):
    """Two dense 3x3 convolutions with a residual, as in ResNet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = ConvNorm(width, width, 3), ConvNorm(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class InvertedBlock(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection, as in MobileNetV2."""

    def __init__(self, width: int, expansion: int = 4) -> None:
        super().__init__()
        self.expand = ConvNorm(width, width * expansion, 1)
        self.space = ConvNorm(width * expansion, width * expansion, 3, groups=width * expansion)
        self.project = ConvNorm(width * expansion, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(F.relu(self.space(F.relu(self.expand(x)))))


def pyramid_of(block: Callable[[int], nn.Module], widths: tuple[int, ...], depths: tuple[int, ...]) -> PyramidEncoder:
    """The shipped encoder's frame with other blocks and sizes."""
    encoder = PyramidEncoder()
    stages, inputs = [], 1
    for width, depth in zip(widths, depths, strict=True):
        blocks = [block(width) for _ in range(depth)]
        stages.append(nn.Sequential(ConvNorm(inputs, width, 3, stride=2), nn.ReLU(), *blocks))
        inputs = width
    encoder.stages = nn.ModuleList(stages)
    encoder.laterals = nn.ModuleList(ConvNorm(width, PROMPT_WIDTH, 1) for width in widths[2:])
    encoder.skip_quarter = ConvNorm(widths[1], PROMPT_WIDTH // 4, 1)
    encoder.skip_half = ConvNorm(widths[0], PROMPT_WIDTH // 8, 1)
    return encoder


class SmallVit(nn.Module):
    """SAM's image encoder in small: patches of 8 pixels, width 192, depth 6, every third block sees all."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.vit = ImageEncoderViT(
            img_size=side,
            patch_size=8,
            in_chans=1,
            embed_dim=192,
            depth=6,
            num_heads=6,
            out_chans=PROMPT_WIDTH,
            use_rel_pos=True,
            window_size=8,
            global_attn_indexes=(2, 5),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        embedding = self.vit(x)
        batch, _, height, width = x.shape
        quarter = x.new_zeros(batch, PROMPT_WIDTH // 4, height // 4, width // 4)
        half = x.new_zeros(batch, PROMPT_WIDTH // 8, height // 2, width // 2)
        return embedding, quarter, half


class PlainMaskDecoder(MaskDecoder):
    """SAM's mask decoder as it is, with the tokens of lung-compact: no skips."""

    def __init__(self, width: int) -> None:
        super().__init__(
            transformer_dim=width,
            transformer=TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=4 * width, num_heads=8),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=width,
        )

    def predict_all(
        self, embedding: Tensor, skips: tuple[Tensor, Tensor], position: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As of `SkipMaskDecoder`; the skips are not used."""
        batch = embedding.shape[0]
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(batch, -1, -1)
        tokens, image = self.transformer(
            embedding + dense, position.expand(batch, -1, -1, -1), torch.cat([tokens, sparse], 1)
        )
        upscaled = self.output_upscaling(image.transpose(1, 2).reshape(embedding.shape))
        weights = torch.stack([mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1)
        return (weights @ upscaled.flatten(2)).unflatten(2, upscaled.shape[2:]), self.iou_prediction_head(tokens[:, 0])


def designs(side: int) -> dict[str, Callable[[], CompactNet]]:
    """What is compared, by name."""

    def net(encoder: Callable[[], nn.Module], decoder: type[MaskDecoder]) -> Callable[[], CompactNet]:
        def build() -> CompactNet:
            made = CompactNet()
            made.image_encoder, made.mask_decoder = encoder(), decoder(PROMPT_WIDTH)
            made.whole_branch = made.corrector = None
            return made

        return build

    def residual() -> PyramidEncoder:
        return pyramid_of(BasicBlock, (16, 32, 64, 96, 160), (1, 1, 1, 2, 2))

    def inverted() -> PyramidEncoder:
        return pyramid_of(InvertedBlock, (16, 32, 64, 112, 192), (1, 2, 3, 4, 3))

    return {
        "pyramid, skips": net(PyramidEncoder, SkipMaskDecoder),
        "pyramid, plain decoder": net(PyramidEncoder, PlainMaskDecoder),
        "residual, skips": net(residual, SkipMaskDecoder),
        "inverted, skips": net(inverted, SkipMaskDecoder),
        "small ViT, plain decoder": net(lambda: SmallVit(side), PlainMaskDecoder),
    }


class TimedTask(CompactTask):
    """A training whose learning rate follows the time that was spent, a share of all there is."""

    progress = 0.0

    def stage(self, epoch: int) -> int:
        return 0

    def rate(self, epoch: int, steps: int) -> float:
        return warm_cosine(self.progress)


def trained(build: Callable[[], CompactNet], pack: Path, side: int, seconds: float) -> dict[str, float]:
    """Train one design for so many seconds of computing and score it on the validation images."""
    config = TrainingConfig(
        phases=(Phase(1, side=side),),
        sampling_weights=SAMPLING_WEIGHTS,
        threads=1,
        learning_rate=LEARNING_RATE,
        decoder_lr_scale=DECODER_LR_SCALE,
    )
    torch.manual_seed(0)
    task = TimedTask(pack, pack.parent, config, build())
    trainer = Trainer(task, trainer_settings(config), pack.parent / CHECKPOINT_NAME)
    spent, epoch = 0.0, 0
    while spent < seconds:
        for batch in task.batches(epoch):
            started = time.process_time()
            task.progress = spent / seconds
            trainer.step(batch, epoch)
            spent += time.process_time() - started
            if spent >= seconds:
                break
        epoch += 1
    net = task.network
    return {"steps": trainer.steps, **validation_dice(net.eval(), task.data, side), **cost(net, side)}


@torch.inference_mode()
def cost(net: CompactNet, side: int) -> dict[str, float]:
    """Parameters, operations and time on one thread of a prediction without a prompt."""
    image = torch.zeros(1, 1, side, side).contiguous(memory_format=torch.channels_last)
    counter = FlopCounterMode(display=False)
    with counter:
        net.decode(net.image_encoder(image))
    seconds = []
    for _ in range(12):
        started = time.perf_counter()
        net.decode(net.image_encoder(image))
        seconds.append(time.perf_counter() - started)
    return {
        "parameters": sum(value.numel() for value in net.parameters()),
        "gflop": counter.get_total_flops() / 1e9,
        "ms": 1000 * median(seconds[2:]),
    }


def table(results: dict[str, dict[str, float]], minutes: float, side: int) -> str:
    """The comparison in Markdown."""
    lines = [
        f"{minutes:g} minutes of one core each, images of {side} x {side}; Dice of both lungs without a prompt on the "
        "validation images.",
        "",
        "| encoder, decoder | steps | Montgomery | Shenzhen | CT | parameters | GFLOP | ms |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in results.items():
        dice = " | ".join(f"{row[set_name]:.4f}" for set_name in ("cxr_montgomery", "cxr_shenzhen", "ct_kmader"))
        lines.append(
            f"| {name} | {row['steps']} | {dice} | {row['parameters'] / 1e6:.2f} M | {row['gflop']:.2f} | "
            f"{row['ms']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--side", type=int, default=INPUT_SIZE // 2)
    parser.add_argument("--docs", type=Path, help="Markdown file with a marked place for the table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = arguments.pack.parent / f"designs_{arguments.side}_{arguments.minutes:g}.json"
    results = json.loads(kept.read_text()) if kept.is_file() else {}
    for name, build in designs(arguments.side).items():
        if name not in results:
            results[name] = trained(build, arguments.pack, arguments.side, 60 * arguments.minutes)
            kept.write_text(json.dumps(results, indent=1))
            print(name, {key: np.round(value, 4) for key, value in results[name].items()}, flush=True)
    text = table(results, arguments.minutes, arguments.side)
    print(text)
    if arguments.docs:
        put_figures(arguments.docs, "designs.py", text + "\n")


if __name__ == "__main__":
    main()
