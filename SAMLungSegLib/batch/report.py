"""The report of a run as one HTML page: what came out, how it is distributed, and which cases to look at first."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from SAMLungSegLib.batch.journal import DONE
from SAMLungSegLib.batch.quality import FLAGS
from SAMLungSegLib.batch.table import Row
from SAMLungSegLib.files import write_text

SUMMARY_NAME = "summary.html"

_MOST_SHOWN = 100
_MOST_FAILED = 500
_MOST_BESIDE = 4  # pictures
_COLOURS = {"right": "#56B4E9", "left": "#E69F00", "": "#009E73"}
_TITLES = {flag.name: flag.title for flag in FLAGS}
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: .35em .6em; border-bottom: 1px solid #ddd; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
img { max-width: 26em; max-height: 8em; background: #000; }
svg { max-width: 100%; height: auto; }
"""


class _Histogram(NamedTuple):
    """One picture: which columns, by the side that they are of."""

    title: str
    columns: dict[str, str]


_HISTOGRAMS = (
    _Histogram("Volume [ml]", {"right": "right_ml", "left": "left_ml"}),
    _Histogram("Mean density of both lungs [HU]", {"": "mean_hu"}),
    _Histogram("Both lungs below -950 HU [%]", {"": "laa950_percent"}),
    _Histogram("Predicted quality", {"": "quality"}),
    _Histogram("Dice", {"right": "dice_right", "left": "dice_left"}),
    _Histogram("Seconds for a case", {"": "seconds"}),
)


class _Column(NamedTuple):
    """Of the list of cases; shown where a case has a number in it."""

    title: str
    name: str
    decimals: int


_COLUMNS = (
    _Column("Quality", "quality", 2),
    _Column("Right [ml]", "right_ml", 0),
    _Column("Left [ml]", "left_ml", 0),
    _Column("Right [cm²]", "right_cm2", 0),
    _Column("Left [cm²]", "left_cm2", 0),
    _Column("Mean [HU]", "mean_hu", 0),
    _Column("Below -950 HU [%]", "laa950_percent", 1),
    _Column("Mass [g]", "mass_g", 0),
    _Column("Dice", "dice_both", 3),
)


def write_summary(rows: Sequence[Row], cases: int, folder: Path) -> Path:
    """Write summary.html into the output folder of a run; pictures and results are linked, not copied.

    Args:
        rows: of the cases that have ended.
        cases: how many there are.
        folder: of the run.
    """
    done = [row for row in rows if row["state"] == DONE]
    failed = [row for row in rows if row["state"] != DONE]
    first = sorted(done, key=lambda row: (row["quality"], row["id"]))[:_MOST_SHOWN]
    sections = [
        f"<p>{len(done)} of {cases} cases done, {len(failed)} failed, {cases - len(rows)} to do. All of them: "
        '<a href="table.csv">table.csv</a>. For research only.</p>',
        _section("How they are distributed", _histograms(done)),
        _section("What may be wrong", _flag_table(done)),
        _section(f"Look at these first ({len(first)} of {len(done)}, lowest predicted quality first)", _cases(first)),
        _section(f"Failed ({len(failed)})", _failures(failed[:_MOST_FAILED])),
    ]
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Lungs</title>'
        f"<style>{_STYLE}</style></head><body><h1>Lungs of {cases} cases</h1>{''.join(sections)}</body></html>\n"
    )
    return write_text(page, folder / SUMMARY_NAME)


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}" if content else ""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{escape(title)}</th>" for title in header)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>" if body else ""


def _text(value: object) -> str:
    return f"<td>{escape(str(value))}</td>"


def _number(value: float | None, decimals: int) -> str:
    return f'<td class="number">{"" if value is None else f"{value:.{decimals}f}"}</td>'


def _flag_table(done: Sequence[Row]) -> str:
    counts = Counter(name for row in done for name in row["flags"].split())
    rows = ([_text(count), _text(name), _text(_TITLES.get(name, ""))] for name, count in counts.most_common())
    return _table(("Cases", "Flag", "Meaning"), rows)


def _cases(rows: Sequence[Row]) -> str:
    columns = [one for one in _COLUMNS if any(row.get(one.name) is not None for row in rows)]
    header = ["", "Case", *(column.title for column in columns), "May be wrong"]
    return _table(header, (_case(row, columns) for row in rows))


def _case(row: Row, columns: Sequence[_Column]) -> list[str]:
    wrong = ", ".join(_TITLES.get(name, name) for name in row["flags"].split())
    return [
        f"<td>{_picture(row)}</td>",
        f'<td><a href="{quote(row["segmentation"])}">{escape(row["id"])}</a></td>',
        *(_number(row.get(column.name), column.decimals) for column in columns),
        _text(f"{wrong}. {row['notes']}".strip(". ")),
    ]


def _picture(row: Row) -> str:
    """The small one, which leads to the large one where there is one, to itself else."""
    small = row.get("overlay")
    if not small:
        return ""
    large = row.get("full_overlay") or small
    return f'<a href="{quote(large)}"><img src="{quote(small)}" loading="lazy" alt=""></a>'


def _failures(rows: Sequence[Row]) -> str:
    return _table(("Case", "Reason"), ([_text(row["id"]), _text(row["reason"])] for row in rows))


def _histograms(rows: Sequence[Row]) -> str:
    """Rows of pictures as SVG; those without a value are left out."""
    shown = [(one, _values(one, rows)) for one in _HISTOGRAMS]
    shown = [(one, values) for one, values in shown if any(map(len, values.values()))]
    if not shown:
        return ""
    columns, lines = min(len(shown), _MOST_BESIDE), -(-len(shown) // _MOST_BESIDE)
    figure = Figure(figsize=(3.2 * columns, 2.6 * lines), layout="constrained")
    for place, (histogram, values) in enumerate(shown, start=1):
        axes = figure.add_subplot(lines, columns, place)
        edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins=30)
        for side, numbers in values.items():
            axes.stairs(np.histogram(numbers, edges)[0], edges, fill=True, color=_COLOURS[side], alpha=0.65, label=side)
        axes.set_title(histogram.title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if len(values) > 1:
            axes.legend(frameon=False, fontsize=8)
    return _as_svg(figure)


def _values(histogram: _Histogram, rows: Sequence[Row]) -> dict[str, np.ndarray]:
    return {
        side: np.array([row[column] for row in rows if row.get(column) is not None])
        for side, column in histogram.columns.items()
    }


def _as_svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "SAMLungSeg"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
