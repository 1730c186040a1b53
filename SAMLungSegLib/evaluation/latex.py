"""Tables as LaTeX, by the rules of the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

_MINUS = re.compile(r"(?<!\w)-(?=\d)")
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "²": r"\textsuperscript{2}",
    "<": "$<$",
    ">": "$>$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def table_latex(table: pd.DataFrame, caption: str, label: str) -> str:
    """A data frame of texts and whole numbers as a floating table; numbers to the right.

    Args:
        table: what is shown, column names as headings.
        caption: above it.
        label: for references, such as 'tab:differences'.
    """
    columns = "".join("r" if pd.api.types.is_numeric_dtype(table[name]) else "l" for name in table.columns)
    rows = [_row(values) for values in table.itertuples(index=False)]
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{escaped(caption)}}}",
        f"\\label{{{label}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(table.columns),
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """A text with what LaTeX would take for commands as it is read."""
    return _MINUS.sub("$-$", "".join(_SPECIAL.get(character, character) for character in text))


def _row(values: Iterable[object]) -> str:
    return " & ".join(escaped(str(value)) for value in values) + r" \\"
