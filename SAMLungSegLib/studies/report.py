"""The report of a study: one HTML page with its pictures inside, the same as Markdown, every table as CSV."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

from SAMLungSegLib.evaluation.tables import table_markdown
from SAMLungSegLib.files import check_written, write_csv, write_text

HTML_NAME, MARKDOWN_NAME = "report.html", "report.md"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: .6em 0; }
td, th { text-align: right; padding: .3em .6em; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }
td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; }
.note { color: #555; }
"""


@dataclass(frozen=True, eq=False)
class Table:
    """A table of the report.

    Attributes:
        name: of its CSV file, without extension.
        title: heading.
        frame: its rows; floats are shown with `decimals`, the CSV has six significant digits.
        note: below it: which model, what counts.
        decimals: of floats on the page.
        rows_shown: on the page; None for all.
    """

    name: str
    title: str
    frame: pd.DataFrame
    note: str = ""
    decimals: int = 4
    rows_shown: int | None = None


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        path: of its PNG, in the folder of the report.
        title: heading.
        note: below it.
    """

    path: Path
    title: str
    note: str = ""


Part = str | Table | Picture


def write_study_report(folder: Path, title: str, parts: Sequence[Part]) -> list[Path]:
    """Write report.html, report.md and one CSV for each table; each file appears whole or not at all.

    Args:
        folder: to write into; pictures lie there already.
        title: of the page.
        parts: paragraphs, tables and pictures in the order of the page.
    Returns:
        Paths of the files, pictures included.
    Raises:
        OutputError: a file cannot be written, or was removed meanwhile.
    """
    written = [write_csv(part.frame, folder / f"{part.name}.csv") for part in parts if isinstance(part, Table)]
    pictures = [part.path for part in parts if isinstance(part, Picture)]
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"{''.join(_html(part) for part in parts)}</body></html>\n"
    )
    markdown = "\n\n".join([f"# {title}", *(_markdown(part, folder) for part in parts)]) + "\n"
    html_path = write_text(page, folder / HTML_NAME)
    files = [html_path, write_text(markdown, folder / MARKDOWN_NAME), *written, *pictures]
    check_written(files)
    return files


def _html(part: Part) -> str:
    if isinstance(part, str):
        return f"<p>{escape(part)}</p>\n"
    note = f'<p class="note">{escape(part.note)}</p>' if part.note else ""
    return f"<h2>{escape(part.title)}</h2>\n{_html_content(part)}{note}\n"


def _html_content(part: Table | Picture) -> str:
    if isinstance(part, Picture):
        data = base64.b64encode(part.path.read_bytes()).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{escape(part.title)}">'
    return _shown(part).to_html(
        index=False, border=0, na_rep="-", justify="unset", float_format=f"{{:.{part.decimals}f}}".format
    )


def _shown(table: Table) -> pd.DataFrame:
    return table.frame if table.rows_shown is None else table.frame.head(table.rows_shown)


def _markdown(part: Part, folder: Path) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Picture):
        content = f"![{part.title}]({part.path.relative_to(folder).as_posix()})"
    else:
        content = table_markdown(_shown(part), part.decimals).rstrip()
    return "\n\n".join(text for text in (f"## {part.title}", content, part.note) if text)
