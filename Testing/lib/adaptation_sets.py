"""Generated slices with objects, in memory and as files, shared by the tests of adaptation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from segment_anything.modeling import Sam
from tiny_sams import tiny_sam
from tuning_sets import write_png

from SAMLungSegLib.adaptation.slices import AdaptationData, ObjectSlice
from SAMLungSegLib.models.sam.model import SamModel

ORGANS = ("disc", "bar")


def shapes(seed: int, size_hw: tuple[int, int] = (64, 80)) -> tuple[np.ndarray, np.ndarray]:
    """Grey slice uint8 with a bright disc and a dark bar, and their labels 1 and 2."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size_hw)
    y, x = rng.uniform(20, 44, 2)
    labels = np.zeros(size_hw, np.uint8)
    labels[(rows - y) ** 2 + (columns - x) ** 2 < 12**2] = 1
    left = int(rng.integers(56, 64))
    labels[10:50, left : left + 8] = 2
    grey = np.choose(labels, [120, 210, 30]) + rng.normal(0, 8, size_hw)
    return grey.clip(0, 255).astype(np.uint8), labels


def slice_of(seed: int, slices_per_input: int = 1) -> ObjectSlice:
    """A slice; its neighbours, where there are any, are other slices of the same kind."""
    grey, labels = shapes(seed)
    stack = labels_of_stack = None
    if slices_per_input > 1:
        half = slices_per_input // 2
        drawn = [shapes(seed + 1000 * offset) for offset in range(-half, half + 1) if seed + 1000 * offset >= 0]
        drawn = [(grey, labels)] * (slices_per_input - len(drawn)) + drawn
        drawn[half] = (grey, labels)
        stack, labels_of_stack = (np.stack(part) for part in zip(*drawn, strict=True))
    return ObjectSlice(f"image_{seed}", 0, "shapes", f"patient_{seed}", grey, labels, stack, labels_of_stack)


def shape_data(slices_per_input: int = 1, *, training: int = 4) -> AdaptationData:
    """Four slices to learn from, two for validation, three held out, each of another patient."""
    counts = {"training": training, "validation": 2, "held_out": 3}
    parts, seed = {}, 0
    for part, count in counts.items():
        parts[part] = tuple(slice_of(seed + number, slices_per_input) for number in range(count))
        seed += count
    return AdaptationData(ORGANS, **parts)


def write_shapes(folder: Path, count: int = 8) -> Path:
    """A folder with images/ and masks/, and a manifest `shapes.csv` that names organs and patients."""
    rows = ["image,mask,patient,organs"]
    for number in range(count):
        grey, labels = shapes(number)
        for kind, array in (("images", grey), ("masks", labels)):
            write_png(folder / kind / f"shape_{number:02d}.png", array)
        name = f"shape_{number:02d}.png"
        rows.append(f"images/{name},masks/{name},p{number},1 disc 2 bar")
    (folder / "shapes.csv").write_text("\n".join(rows) + "\n")
    return folder


def keen_sam() -> Sam:
    """A tiny SAM whose masks follow the embedding more than those of small random weights."""
    sam = tiny_sam()
    for one in sam.mask_decoder.output_hypernetworks_mlps.parameters():
        one.data *= 4
    return sam


def tiny_model(kind: type[SamModel] = SamModel, **options) -> SamModel:
    """A SAM of random weights with frames of 128, see `register_tiny_sam` for its file."""
    return kind(keen_sam(), name="sam-vit-b", **{"input_size": 128, **options})
