"""The report of an evaluation: tables, a readable summary, a box plot and the worst slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from SAMLungSegLib.evaluation.figures import box_plot, comparison_sheet
from SAMLungSegLib.evaluation.images import Images, with_images
from SAMLungSegLib.evaluation.intervals import Bootstrap
from SAMLungSegLib.evaluation.measure import WORST_KEPT, ComparedSlice, Evaluation, lowest_slices, with_distinct_names
from SAMLungSegLib.evaluation.pairs import Unpaired
from SAMLungSegLib.evaluation.tables import (
    SLICES,
    VOLUME_MEANS,
    VOLUMES,
    joined_tables,
    metric_title,
    readable_metrics,
    readable_summary,
    summarise_tables,
    table_markdown,
)
from SAMLungSegLib.files import check_written, writable_folder, write_csv, write_text

_NOT_MEASURED = ["case", "file", "reason"]
_EXPLANATION = """\
- Mean ± SD: arithmetic mean and sample standard deviation of the n finite values.
- 95 % interval of the mean: by a bootstrap over volumes, each with all its slices, or over patients, each with all
  their volumes, where it was said whose they are; none where there is one only.
- Empty: left out because neither labelmap has a voxel of the structure there.
- Undefined: left out for another reason: the distance to a structure that one labelmap lacks, the precision of an
  empty prediction, the sensitivity to an empty reference, or no spacing in mm. Dice, Jaccard and surface Dice of a
  structure that only one labelmap has are 0 and are counted.
- HD95: the larger of the two directed 95th percentiles of distances between boundary voxels.
- ASSD: the mean of the distances from each boundary voxel of either labelmap to the other's boundary.
- Relative volume error: the prediction's volume minus the reference's, as a share of the reference's.
- Surface Dice: share of boundary voxels that lie within the tolerance ({tolerance}) of the other surface.
- Slices are counted from 0 at the inferior end; right and left are the patient's.
"""


def write_report(
    evaluations: Sequence[Evaluation],
    folder: str | Path,
    images: Images | None = None,
    *,
    worst: int = WORST_KEPT,
    not_measured: Sequence[Unpaired] = (),
    patients: Mapping[str, str] | None = None,
    bootstrap: Bootstrap | None = None,
) -> list[Path]:
    """Write per_slice.csv, per_volume.csv, summary.csv, summary.md, box_plot.png and worst_slices.png.

    Each file appears whole or not at all. worst_slices.png is left out when no slice has lung, and not_measured.csv
    when every case was measured; those of an earlier report are then removed.

    Args:
        evaluations: of all cases.
        folder: created if it does not exist.
        images: for the background of the worst slices, see `with_images`. Cases without an image that fits are drawn
            on a dark background; the notes say so.
        worst: number of slices on worst_slices.png, at most 6 of each case.
        not_measured: files that are missing in the tables, listed in not_measured.csv and in the summary.
        patients, bootstrap: of the intervals, see `summarise_tables`.
    Returns:
        Paths of the files.
    Raises:
        VolumeError: there are no evaluations.
        OutputError: a file cannot be written, or was removed meanwhile.
    """
    folder = writable_folder(Path(folder))
    evaluations = with_images(evaluations, images, worst=worst) if images else with_distinct_names(evaluations)
    per_slice, per_volume = joined_tables(evaluations)
    summary = summarise_tables(per_slice, per_volume, patients=patients, bootstrap=bootstrap)
    written = [
        write_csv(table, folder / f"{name}.csv")
        for name, table in (("per_slice", per_slice), ("per_volume", per_volume), ("summary", summary))
    ]
    worst_first = lowest_slices(evaluations, worst)
    text = _markdown(evaluations, summary, per_volume, worst_first, not_measured)
    written.append(write_text(text, folder / "summary.md"))
    written += _write_not_measured(not_measured, folder / "not_measured.csv")
    box_plot(folder / "box_plot.png", per_slice, title=f"Agreement per slice ({_sizes(evaluations)})")
    written.append(folder / "box_plot.png")
    sheet = folder / "worst_slices.png"
    if worst_first:
        comparison_sheet(sheet, worst_first, title="Slices with the lowest Dice")
        written.append(sheet)
    else:
        sheet.unlink(missing_ok=True)  # of an earlier report
    check_written(written)
    return written


def _write_not_measured(not_measured: Sequence[Unpaired], path: Path) -> list[Path]:
    if not not_measured:
        path.unlink(missing_ok=True)  # of an earlier report
        return []
    return [write_csv(_table_of(not_measured), path)]


def _table_of(not_measured: Sequence[Unpaired]) -> pd.DataFrame:
    return pd.DataFrame([(one.name, str(one.path), one.reason) for one in not_measured], columns=_NOT_MEASURED)


def _markdown(
    evaluations: Sequence[Evaluation],
    summary: pd.DataFrame,
    per_volume: pd.DataFrame,
    worst: Sequence[ComparedSlice],
    not_measured: Sequence[Unpaired],
) -> str:
    headings = {SLICES: "Slices of all volumes pooled", VOLUMES: "Whole volumes"}
    if len(evaluations) > 1:
        headings[VOLUME_MEANS] = "Means of the slices of each volume"
    sections = [
        (heading, table_markdown(readable_summary(summary, scope)))
        for scope in (SLICES, VOLUME_MEANS, VOLUMES)
        if (heading := headings.get(scope))
    ]
    if not_measured:
        sections.append(("Not measured", table_markdown(_table_of(not_measured).rename(columns=str.capitalize))))
    sections += [
        ("Each volume", table_markdown(_readable_volumes(per_volume))),
        ("Slices with the lowest Dice", table_markdown(_readable_worst(worst)) if worst else "No slice has lung.\n"),
        ("Notes", _notes(evaluations)),
        ("How to read this", _EXPLANATION.format(tolerance=_tolerances(evaluations))),
    ]
    body = "\n".join(f"## {heading}\n\n{text}" for heading, text in sections)
    return f"# Agreement with the reference\n\n{_sizes(evaluations)}.\n\n{body}"


def _readable_volumes(per_volume: pd.DataFrame) -> pd.DataFrame:
    keys = ("volume", "structure", "slices")
    table = readable_metrics(per_volume, keys)
    for place, size in enumerate(("reference_ml", "prediction_ml"), start=len(keys)):
        texts = ["-" if np.isnan(volume_ml) else f"{volume_ml:.1f}" for volume_ml in per_volume[size]]
        table.insert(place, f"{size.removesuffix('_ml').capitalize()} [ml]", texts)
    return table


def _readable_worst(worst: Sequence[ComparedSlice]) -> pd.DataFrame:
    rows = [{"volume": one.volume, "slice": one.number, **one.scores} for one in worst]
    return pd.DataFrame(rows).rename(columns=lambda name: metric_title(name).capitalize())


def _notes(evaluations: Sequence[Evaluation]) -> str:
    """One line for each different note, with the cases it is about."""
    cases: dict[str, list[str]] = {}
    for one in evaluations:
        for note in one.notes:
            cases.setdefault(note, []).append(one.name)
    lines = [
        f"- {note} ({', '.join(names) if len(names) < len(evaluations) else 'all'})" for note, names in cases.items()
    ]
    return "\n".join(lines or ["- None."]) + "\n"


def _tolerances(evaluations: Sequence[Evaluation]) -> str:
    return ", ".join(f"{value:g} mm" for value in sorted({one.tolerance_mm for one in evaluations}))


def _sizes(evaluations: Sequence[Evaluation]) -> str:
    slices = sum(one.per_slice["slice"].nunique() for one in evaluations)
    return f"{_plural(len(evaluations), 'volume')}, {_plural(slices, 'slice')}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
