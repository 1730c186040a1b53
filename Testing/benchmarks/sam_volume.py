"""A volume with SAM ViT-B, two lungs a slice: what encoding, decoding and writing cost, and a second run.

    python Testing/benchmarks/sam_volume.py --slices 8

Weights are random, which changes no time. Believe the shares and ratios rather than the seconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from segment_anything import sam_model_registry

from SAMLungSegLib.models.cached import CachedModel
from SAMLungSegLib.models.embedding_cache import EmbeddingCache
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.pipeline import Options, VolumeBox, segment_volume
from SAMLungSegLib.prompts import BoxPrompt, PromptSet
from SAMLungSegLib.volume import Volume

SIZE = 512
BOXES = (VolumeBox((90, 120, 0), (240, 400, 10_000)), VolumeBox((270, 120, 0), (420, 400, 10_000)))


class TimedEncoder:
    """Adds up the time that a model spends in `encode`."""

    def __init__(self, model: SamModel) -> None:
        self.seconds = 0.0
        self._encode = model.encode

    def __call__(self, slices: list) -> list:
        begin = time.perf_counter()
        embeddings = self._encode(slices)
        self.seconds += time.perf_counter() - begin
        return embeddings


def volume_of(slices: int) -> Volume:
    """The middle of a generated chest CT of 512 x 512 pixels."""
    phantom = chest_ct(seed=0, size_kji=(slices, SIZE, SIZE), spacing_mm=(200 / slices, 0.7, 0.7))
    return Volume(phantom.hu_kji, phantom.ijk_to_ras, "phantom")


def run(volume: Volume, model: CachedModel, folder: Path) -> float:
    """Segment and write; seconds."""
    last = volume.size_kji[0] - 1
    boxes = tuple(VolumeBox(box.first_ijk, (*box.last_ijk[:2], last)) for box in BOXES)
    begin = time.perf_counter()
    segment_volume(volume, model, Options(modality="CT", boxes=boxes)).save(folder / "lungs.seg.nrrd")
    return time.perf_counter() - begin


def seconds_to_answer(model: CachedModel) -> float:
    """From a box to the slice's mask, median of seven."""
    embedding = model.encode([np.zeros((SIZE, SIZE), np.uint8)])[0]
    prompts = PromptSet(box=BoxPrompt((90, 120, 240, 400)))
    seconds = []
    for _ in range(7):
        begin = time.perf_counter()
        model.decode(embedding, prompts)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--input-size", type=int, default=1024)
    arguments = parser.parse_args()
    sam = sam_model_registry["vit_b"](checkpoint=None)
    model = SamModel(sam, name="sam-vit-b", device=arguments.device, input_size=arguments.input_size)
    encoder = TimedEncoder(model)
    model.encode = encoder
    volume = volume_of(arguments.slices)
    with tempfile.TemporaryDirectory() as folder:
        cached = CachedModel(model, EmbeddingCache(Path(folder) / "embeddings"))
        first = run(volume, cached, Path(folder))
        second = run(volume, cached, Path(folder))
        answer = seconds_to_answer(cached)
    count = arguments.slices
    print(f"{count} slices of {SIZE} x {SIZE}, ViT-B at {arguments.input_size}, {arguments.device}")
    print(f"encoding               {encoder.seconds / count:8.3f} s / slice")
    print(f"all else, first run    {(first - encoder.seconds) / count:8.3f} s / slice")
    print(f"all of the second run  {second / count:8.3f} s / slice, {second / encoder.seconds:.1%} of the encoding")
    print(f"prompt to mask         {answer:8.3f} s, with the embedding ready")
    print(f"second run             {first / second:8.1f} times faster than the first")


if __name__ == "__main__":
    main()
