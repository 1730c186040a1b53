"""ClickSAM on chest X-rays: a SAM before and after, by one click and with clicks from the reference, as a table.

Montgomery and Shenzhen, each lung an object, in the parts that images have everywhere by their names. Trains by
`samlungseg adapt` and goes on with a run that was stopped.

python Testing/benchmarks/clicksam.py ../shared/data run --steps 240      # prints Markdown
python Testing/benchmarks/clicksam.py ../shared/data run --steps 240 --docs docs/adaptation.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd
import torch
from measure import put_figures

from SAMLungSegLib.adaptation.methods.clicksam import ONE_CLICK, REFERENCE_CLICKS, click_scores
from SAMLungSegLib.adaptation.run import CHECKPOINT_NAME
from SAMLungSegLib.adaptation.slices import all_examples, read_data
from SAMLungSegLib.cli import main as samlungseg
from SAMLungSegLib.evaluation.intervals import Bootstrap
from SAMLungSegLib.models import load_model
from SAMLungSegLib.training.data.splits import split_of

SETS = ("cxr_montgomery", "cxr_shenzhen")
PARTS = {"train": "training", "validation": "validation", "test": "held_out"}


def manifest(data: Path, path: Path) -> Path:
    """A file that names every image with its mask and its part."""
    rows = []
    for name in SETS:
        for image in sorted((data / name / "images").glob("*.png")):
            mask = data / name / "masks" / image.name
            part = PARTS[split_of(image.stem)]
            rows.append({"image": str(image.resolve()), "mask": str(mask.resolve()), "set": name, "split": part})
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def decoders(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Of the run: the weights that it kept, whether adopted or not, and those that it ended with."""
    saved = torch.load(folder / "run" / CHECKPOINT_NAME, map_location="cpu", weights_only=True)
    scores = [row["dice"] for row in saved["history"]]
    epoch, epochs = scores.index(max(scores)) + 1, len(scores)
    stage = 1 if epoch <= epochs / 2 else 2
    return {f"kept: stage {stage}, epoch {epoch} of {epochs}": saved["kept"], "end of stage 2": saved["net"]}


def summary(table: pd.DataFrame) -> str:
    """Means over lungs with intervals by a bootstrap over images, in Markdown."""
    lines = ["| weights | prompts | clicks | Dice, 95 % interval | IoU |", "|---|---|---:|---:|---:|"]
    for weights in table["weights"].unique():
        for kind in (ONE_CLICK, REFERENCE_CLICKS):
            rows = table[(table["weights"] == weights) & (table["prompts"] == kind)]
            interval = Bootstrap().of_mean(rows["dice"].to_numpy(), [*rows["image"]])
            mean = rows[["clicks", "dice", "iou"]].mean()
            lines.append(
                f"| {weights} | {kind} | {mean['clicks']:.1f} | {mean['dice']:.4f}, {interval.low:.4f} to "
                f"{interval.high:.4f} | {mean['iou']:.4f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with cxr_montgomery and cxr_shenzhen")
    parser.add_argument("folder", type=Path, help="to write into")
    parser.add_argument("--model", default="sam-vit-tiny")
    parser.add_argument("--weights", type=Path, help="to begin with, where they are not the model's own")
    parser.add_argument("--steps", default="240", help="of both stages together")
    parser.add_argument("--docs", type=Path, help="Markdown file with a marked place for the table")
    arguments = parser.parse_args()
    listed = manifest(arguments.data, arguments.folder / "xrays.csv")
    own = ["--weights", str(arguments.weights)] if arguments.weights else []
    command = ["adapt", str(listed), "--method", "clicksam", "--model", arguments.model, *own, "--device", "cpu"]
    samlungseg([*command, "--steps", arguments.steps, "-o", str(arguments.folder), "--overwrite"])
    data = read_data(listed)
    model = load_model(arguments.model, weights=arguments.weights, device="cpu")
    examples = [*all_examples(data.held_out)]
    tables = [click_scores(model, examples).assign(weights="before")]
    trained = torch.nn.ModuleDict({"mask_decoder": model.part("mask_decoder")})
    for name, state in decoders(arguments.folder).items():
        trained.load_state_dict(state)
        tables.append(click_scores(model, examples).assign(weights=name))
    table = pd.concat(tables)
    table.to_csv(arguments.folder / "clicks.csv", index=False)
    verdict = json.loads((arguments.folder / "comparison.json").read_text())["all"]
    text = (
        f"{len(data.held_out)} X-rays held out, {len(data.training)} learned from, {arguments.steps} steps. Verdict of "
        f"`adapt`, by one click, over images: Dice {verdict['before']:.4f} before, {verdict['after']:.4f} after, "
        f"difference {verdict['difference']:+.4f} (95 % interval {verdict['low']:+.4f} to {verdict['high']:+.4f}).\n\n"
        f"{summary(table)}"
    )
    print(text)
    if arguments.docs:
        put_figures(arguments.docs, "clicksam.py", text + "\n")


if __name__ == "__main__":
    main()
