"""ClickSAM on chest X-rays: a SAM before and after, by one click and with clicks from the reference, as a table.

Montgomery and Shenzhen, each lung an object, in the parts that images have everywhere by their names. Trains by
`samlungseg adapt` and goes on with a run that was stopped.

python Testing/benchmarks/clicksam.py ../shared/data run --model sam-vit-tiny --minutes 12      # prints Markdown
python Testing/benchmarks/clicksam.py ../shared/data run --model sam-vit-tiny --minutes 12 --docs docs/adaptation.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from measure import put_figures

from SAMLungSegLib.adaptation.methods.clicksam import ONE_CLICK, REFERENCE_CLICKS, click_scores
from SAMLungSegLib.adaptation.slices import AdaptationData, all_examples, read_data
from SAMLungSegLib.cli import main as samlungseg
from SAMLungSegLib.evaluation.intervals import Bootstrap
from SAMLungSegLib.models import load_model
from SAMLungSegLib.training.data.splits import split_of

SETS = ("cxr_montgomery", "cxr_shenzhen")
PARTS = {"train": "training", "validation": "validation", "test": "held_out"}
BEFORE, AFTER = "before", "after ClickSAM"


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


def scores(model: str, weights: dict[str, Path | None], data: AdaptationData) -> pd.DataFrame:
    """One row for each held-out lung, kind of clicks and weights."""
    tables = []
    for name, path in weights.items():
        loaded = load_model(model, weights=path, device="cpu")
        tables.append(click_scores(loaded, all_examples(data.held_out)).assign(weights=name))
    return pd.concat(tables)


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
    parser.add_argument("--minutes", default="12")
    parser.add_argument("--docs", type=Path, help="Markdown file with a marked place for the table")
    arguments = parser.parse_args()
    listed = manifest(arguments.data, arguments.folder / "xrays.csv")
    own = ["--weights", str(arguments.weights)] if arguments.weights else []
    command = ["adapt", str(listed), "--method", "clicksam", "--model", arguments.model, *own, "--device", "cpu"]
    samlungseg([*command, "--minutes", arguments.minutes, "-o", str(arguments.folder), "--overwrite"])
    weights = {BEFORE: arguments.weights}
    adopted = arguments.folder / f"{arguments.model}-clicksam.safetensors"
    if adopted.is_file():
        weights[AFTER] = adopted
    data = read_data(listed)
    table = scores(arguments.model, weights, data)
    table.to_csv(arguments.folder / "clicks.csv", index=False)
    history = pd.read_csv(arguments.folder / "history.csv")
    verdict = json.loads((arguments.folder / "comparison.json").read_text())["all"]
    text = (
        f"{len(np.unique(table['image']))} X-rays held out, {len(data.training)} learned from, {len(history)} epochs, "
        f"{history['seconds'].sum() / 60:.0f} minutes of one core. By one click, over images: {verdict['before']:.4f} "
        f"before, {verdict['after']:.4f} after, difference {verdict['difference']:+.4f} (95 % interval "
        f"{verdict['low']:+.4f} to {verdict['high']:+.4f}).\n\n{summary(table)}"
    )
    print(text)
    if arguments.docs:
        put_figures(arguments.docs, "clicksam.py", text + "\n")


if __name__ == "__main__":
    main()
