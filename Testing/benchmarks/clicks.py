"""What clicks and masks do to lung-compact, from reports of the quality study, as a table.

samlungseg study quality DATA -o quality --split validation
samlungseg study quality DATA -o quality-whole --split validation --extent whole
python Testing/benchmarks/clicks.py quality quality-whole             # prints Markdown
python Testing/benchmarks/clicks.py quality quality-whole --docs docs/model.md
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from measure import put_figures

COLUMNS = {
    "dice": ("Dice", "{:.4f}"),
    "first_obeyed": ("first obeyed", "{:.0%}"),
    "all_of_3_obeyed": ("all of 3 obeyed", "{:.0%}"),
    "gain_1_click": ("gain, 1 click", "{:+.4f}"),
    "gain_3_clicks": ("gain, 3 clicks", "{:+.4f}"),
    "worse_after_1": ("worse", "{:.0%}"),
    "change_3_neutral": ("neutral", "{:+.5f}"),
    "mask_followed": ("mask followed", "{:.0%}"),
}


def figures(reports: Sequence[Path]) -> str:
    """The table in Markdown, of the study's folders; poor and good predictions, the reports have others."""
    lines = [
        f"| set | masks | predictions | images | {' | '.join(title for title, _ in COLUMNS.values())} |",
        f"|---|---|---|{'---:|' * (1 + len(COLUMNS))}",
    ]
    for report in reports:
        extent_of = pd.read_csv(report / "accuracy.csv").set_index("subset")["extent"]
        rows = pd.read_csv(report / "corrections.csv")
        for row in rows[rows["predictions"].str.startswith("Dice ")].to_dict("records"):
            masks = "-" if row["subset"].startswith("ct") else extent_of[row["subset"]]
            cells = [row["subset"], masks, row["predictions"], row["images"]]
            cells += [form.format(row[name]).replace("%", " %") for name, (_, form) in COLUMNS.items()]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="+", metavar="DIR", help="folder of a quality study")
    parser.add_argument("--docs", type=Path, help="Markdown file with a marked place for the table")
    arguments = parser.parse_args()
    text = figures(arguments.reports)
    print(text)
    if arguments.docs:
        put_figures(arguments.docs, "clicks.py", text + "\n")


if __name__ == "__main__":
    main()
