"""Where lung-compact fails: generated chests with hard findings, measured; tables and pictures of docs/failures.md.

    python Testing/tools/failures.py --docs docs/failures.md

No image of a patient is used. Everything on the page between its marks is written from what was measured.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hard_chests import FINDINGS, Case, hard_ct, hard_xray

from SAMLungSegLib.batch.quality import flags_of, measure
from SAMLungSegLib.evaluation import ComparedSlice, comparison_sheet, table_markdown
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models import load_model
from SAMLungSegLib.pipeline import Segmentation, segment_volume

SEEDS = range(3001, 3007)
SHOWN, OF_ONE_FINDING = 9, 2
GOOD_DICE = 0.95
NO_DIFFERENCE = {("X-ray", "as small as a child")}  # of a picture, which has no size in mm
WIDEST, COLOURS = 1000, 96
SIDES = (1, 2)
BEGIN, END = "<!-- figures of Testing/tools/failures.py, {} -->", "<!-- end of figures -->"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the model made of a case.

    Attributes:
        case: image and truth.
        dice: of both lungs together, sides aside.
        lowest: of the lung with the lower one; an absent lung counts as right where nothing was found of it.
        missed, extra, other_side: voxels in percent of the true lungs.
        flags: what `samlungseg batch` would say.
        slice: the displayed slice with most that is wrong.
    """

    case: Case
    dice: float
    lowest: float
    missed: float
    extra: float
    other_side: float
    flags: tuple[str, ...]
    slice: ComparedSlice


def outcome(case: Case, found: Segmentation) -> Outcome:
    """Compare what was found in a case's image with its truth."""
    truth, labels = case.truth.array_kji, found.labelmap_kji
    size = max(1, np.count_nonzero(truth))
    wrong = {
        "missed": (truth > 0) & (labels == 0),
        "extra": (truth == 0) & (labels > 0),
        "other_side": (truth > 0) & (labels > 0) & (truth != labels),
    }
    return Outcome(
        case,
        _dice(labels > 0, truth > 0),
        min(_dice(labels == side, truth == side) for side in SIDES),
        **{name: 100 * np.count_nonzero(where) / size for name, where in wrong.items()},
        flags=tuple(flags_of(measure(found))),
        slice=_worst_slice(case, found),
    )


def _dice(first: np.ndarray, second: np.ndarray) -> float:
    return dice(first, second) if first.any() or second.any() else 1.0


def _worst_slice(case: Case, found: Segmentation) -> ComparedSlice:
    truth_nhw, labels_nhw = found.plane.to_display(case.truth.array_kji), found.labelmap_nhw
    number = int(np.count_nonzero(truth_nhw != labels_nhw, axis=(1, 2)).argmax())
    truth, labels = truth_nhw[number], labels_nhw[number]
    height, width = found.plane.spacing_hw_mm
    scores = {"dice": _dice(labels > 0, truth > 0)}
    return ComparedSlice(case.image.name, number, truth, labels, height / width, scores, found.grey_nhw[number])


def lowest(outcomes: Sequence[Outcome], count: int, of_one: int) -> list[Outcome]:
    """The outcomes with the lowest Dice of a lung, at most `of_one` of a finding."""
    chosen: list[Outcome] = []
    for one in sorted(outcomes, key=lambda one: one.lowest):
        if sum(other.case.finding == one.case.finding for other in chosen) < of_one:
            chosen.append(one)
    return chosen[:count]


def by_finding(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """A row for each finding: how good the cases are, and of how many that are not good a flag warns."""
    rows = []
    for finding in dict.fromkeys(one.case.finding for one in outcomes):
        of = [one for one in outcomes if one.case.finding == finding]
        bad = [one for one in of if one.lowest < GOOD_DICE]
        rows.append(
            {
                "finding": finding,
                "cases": len(of),
                "Dice, mean": np.mean([one.dice for one in of]),
                "lowest Dice of a lung": min(one.lowest for one in of),
                f"below {GOOD_DICE}": len(bad),
                "of these flagged": sum(bool(one.flags) for one in bad),
            }
        )
    return pd.DataFrame(rows)


def one_by_one(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """A row for each outcome."""
    return pd.DataFrame(
        [
            {
                "finding, seed": one.case.image.name,
                "Dice": one.dice,
                "of the worse lung": one.lowest,
                "missed %": f"{one.missed:.1f}",
                "extra %": f"{one.extra:.1f}",
                "wrong side %": f"{one.other_side:.1f}",
                "flags of `batch`": ", ".join(f"`{flag}`" for flag in one.flags) or "none",
            }
            for one in outcomes
        ]
    )


def text_of(outcomes: Sequence[Outcome], shown: Sequence[Outcome], picture: str) -> str:
    """Both tables and the picture, as Markdown."""
    parts = (
        table_markdown(by_finding(outcomes), 3),
        f"![The worst slices: reference and prediction]({picture})",
        table_markdown(one_by_one(shown), 3),
    )
    return "\n" + "\n\n".join(part.strip() for part in parts) + "\n\n"


def put_between_marks(page: str, name: str, text: str) -> str:
    """The page with a text between the marks of this name.

    Raises:
        ValueError: the page has no such marks.
    """
    before, mark, rest = page.partition(BEGIN.format(name))
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"The page has no '{BEGIN.format(name)}' followed by '{END}': put both where figures belong.")
    return f"{before}{mark}\n{text}{end}{after}"


def make_small(picture: Path) -> None:
    """Redraw a PNG at most `WIDEST` pixels wide, in `COLOURS` colours."""
    with Image.open(picture) as image:
        small = image.convert("RGB")
    small.thumbnail((WIDEST, 10 * WIDEST))
    small.quantize(COLOURS, dither=Image.Dither.NONE).save(picture, optimize=True)


def main() -> None:
    """Measure all findings on CT and X-ray, and write page and pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--docs", type=Path, required=True, help="page to write into; pictures lie in images/ beside it"
    )
    page = parser.parse_args().docs
    logging.disable(logging.WARNING)
    model, text = load_model("lung-compact"), page.read_text(encoding="utf-8")
    for kind, make in {"CT": hard_ct, "X-ray": hard_xray}.items():
        findings = [finding for finding in FINDINGS if (kind, finding) not in NO_DIFFERENCE]
        cases = (make(finding, seed) for finding in findings for seed in SEEDS)
        outcomes = [outcome(case, segment_volume(case.image, model)) for case in cases]
        shown = lowest(outcomes, SHOWN, OF_ONE_FINDING)
        picture = f"images/failures_{kind.lower().replace('-', '')}.png"
        comparison_sheet(page.parent / picture, [one.slice for one in shown])
        make_small(page.parent / picture)
        text = put_between_marks(text, kind, text_of(outcomes, shown, picture))
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
