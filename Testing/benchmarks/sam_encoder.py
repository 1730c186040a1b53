"""Time and memory of encoding one slice: segment_anything's own predictor, ours, and other networks of today.

    python Testing/benchmarks/sam_encoder.py --threads 2 --rounds 3

Weights are random, which changes neither time nor memory. Believe the ratios rather than the seconds. Rows of packages
that cannot be imported say so. Needs an environment in which SAMLungSegLib is installed, on Linux or macOS.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from measure import Contestant, Encode, Record, alternate, in_process, matrix_rate, peak_memory, print_table
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import ImageEncoderViT, Sam
from torch import Tensor, nn

from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.sam.model import PATCH_SIZE, SamModel

SLICE = 512
FULL = 1024
GREY = np.random.default_rng(0).integers(0, 256, (SLICE, SLICE)).astype(np.uint8)
HEADER = ("encoder", "s / slice", "x stock", "least..most", "of matrix rate", "peak MB", "error")


def random_sam(architecture: str) -> Sam:
    """The network with the same random weights at every call, positions included."""
    torch.manual_seed(0)
    sam = sam_model_registry[architecture]()
    for name, parameter in sam.image_encoder.named_parameters():
        if "pos" in name:
            nn.init.normal_(parameter, std=0.1)
    return sam


def needed_flops(encoder: ImageEncoderViT, size: int) -> float:
    """Operations (a multiplication and an addition are two) of a frame of size x size, without padded windows."""
    grid = size // PATCH_SIZE
    tokens, width = grid**2, encoder.pos_embed.shape[-1]
    channels = encoder.neck[0].out_channels
    total = tokens * width * 3 * PATCH_SIZE**2 + tokens * channels * (width + 9 * channels)
    for block in encoder.blocks:
        side = block.window_size or grid
        layers = 4 * width + 2 * block.mlp.lin1.out_features
        total += tokens * width * (layers + 2 * side**2 + 2 * side)
    return 2.0 * total


# ---- contestants: each loads a network and returns what encodes one slice


def stock(architecture: str, device: torch.device) -> Encode:
    predictor = SamPredictor(random_sam(architecture).eval().to(device))
    image = np.repeat(GREY[..., None], 3, axis=-1)

    def encode() -> Tensor:
        predictor.set_image(image)
        return predictor.features[0]

    return encode


def ours(architecture: str, device: torch.device, size: int, dtype: torch.dtype) -> Encode:
    model = SamModel(random_sam(architecture), name=architecture, device=device, input_size=size, dtype=dtype)
    return lambda: model.encode([GREY])[0].features[0]


def _on_frames(network: nn.Module, device: torch.device, channels: int, size: int) -> Encode:
    network = network.eval().to(device)
    frames = torch.randn(1, channels, size, size, device=device)

    @torch.inference_mode()
    def encode() -> Tensor:
        network(frames)
        return frames

    return encode


def transformers_sam(device: torch.device) -> Encode:
    from transformers import SamConfig
    from transformers import SamModel as Network

    return _on_frames(Network(SamConfig()).vision_encoder, device, 3, FULL)


def transformers_sam2(device: torch.device) -> Encode:
    from transformers import Sam2Config, Sam2Model

    return _on_frames(Sam2Model(Sam2Config()).vision_encoder, device, 3, FULL)


def timm_tiny_vit(device: torch.device) -> Encode:
    import timm

    network = timm.create_model("tiny_vit_5m_224", pretrained=False, num_classes=0)
    network.forward = network.forward_features
    return _on_frames(network, device, 3, FULL)


def lung_compact(device: torch.device) -> Encode:
    model = load_model("lung-compact", device=str(device))
    return lambda: model.encode([GREY])[0].features[0]


def lungmask_unet(device: torch.device) -> Encode:
    from lungmask.resunet import UNet

    network = UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
    return _on_frames(network, device, 1, 256)


PEERS: dict[str, tuple[str, Callable[[torch.device], Encode]]] = {
    "transformers SAM ViT-B": ("transformers", transformers_sam),
    "transformers SAM 2 hiera-tiny": ("transformers", transformers_sam2),
    "timm TinyViT-5M at 1024": ("timm", timm_tiny_vit),
    "lungmask U-Net at 256": ("lungmask", lungmask_unet),
    "lung-compact at 256, one thread": ("SAMLungSegLib", lung_compact),
}


def all_contestants(architecture: str, device: torch.device, bfloat16: bool) -> list[Contestant]:
    """Stock first, then ours, then the peers that are installed."""
    with torch.device("meta"):
        encoder = sam_model_registry[architecture]().image_encoder
    flops = {size: needed_flops(encoder, size) for size in (FULL, 512, 256)}
    chosen = [Contestant(f"stock {architecture} at {FULL}", partial(stock, architecture, device), flops[FULL])]
    for dtype in (torch.float32, torch.bfloat16)[: 1 + bfloat16]:
        for size, needed in flops.items():
            name = f"ours at {size}, {str(dtype).removeprefix('torch.')}"
            chosen.append(Contestant(name, partial(ours, architecture, device, size, dtype), needed))
    installed = {name: make for name, (package, make) in PEERS.items() if importlib.util.find_spec(package)}
    return [*chosen, *(Contestant(name, partial(make, device)) for name, make in installed.items())]


# ---- the table


def row(record: Record, memory: str) -> tuple[str, ...]:
    return (
        record.name,
        f"{statistics.median(record.seconds):.3f}",
        f"{statistics.median(record.ratios):.2f}",
        f"{min(record.ratios):.2f}..{max(record.ratios):.2f}",
        f"{statistics.median(record.fractions):.0%}" if record.fractions else "",
        memory,
        f"{record.error:.0e}" if record.error is not None else "",
    )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="vit_b", choices=["vit_b", "vit_l", "vit_h"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--processor-time", action="store_true", help="on a busy machine, with one thread: leave out what others take"
    )
    parser.add_argument("--bfloat16", action="store_true", help="ours in bfloat16 too; always on a graphics card")
    parser.add_argument("--without", default="", help="leave out contestants whose name contains this")
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory, which runs each once more")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    chosen = options()
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    contestants = all_contestants(chosen.architecture, device, chosen.bfloat16 or device.type == "cuda")
    if chosen.memory_of:
        [contestant] = (one for one in contestants if one.name == chosen.memory_of)
        print(peak_memory(contestant, device))
        return
    if chosen.without:
        contestants = [contestants[0], *(one for one in contestants[1:] if chosen.without not in one.name)]
    clock = time.process_time if chosen.processor_time else time.perf_counter
    print(f"{chosen.rounds} rounds on {device}, {chosen.threads} threads, load {os.getloadavg()[0]:.1f}")
    print(f"float32 products of 2048 x 2048: {matrix_rate(device, clock) / 1e9:.0f} GFLOP/s")
    memory = dict.fromkeys((one.name for one in contestants), "")
    if not chosen.no_memory:
        arguments = ["--architecture", chosen.architecture, "--device", chosen.device, "--threads", str(chosen.threads)]
        arguments += ["--bfloat16"] * chosen.bfloat16
        for name in memory:
            memory[name] = f"{int(in_process(__file__, *arguments, '--memory-of', name)) / 1e6:.0f}"
    records = alternate(contestants, rounds=chosen.rounds, device=device, clock=clock)
    print_table(HEADER, [row(record, memory[record.name]) for record in records])
    missing = [name for name, (package, _) in PEERS.items() if not importlib.util.find_spec(package)]
    print("".join(f"{name}: not installed\n" for name in missing) + f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
