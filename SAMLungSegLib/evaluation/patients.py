"""Which patient each case is of, by a table of the user's."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from SAMLungSegLib.documents import read_text
from SAMLungSegLib.errors import SettingsError, listed
from SAMLungSegLib.evaluation.pairs import case_name

_CASE_COLUMN = "case"
_MOST_LISTED = 4


def read_patients(path: Path, column: str, cases: Iterable[str]) -> dict[str, str]:
    """The patient of each case.

    Args:
        path: CSV file with a header, in UTF-8; commas, semicolons or tabs. Its column 'case', else the first one, names
            the cases, by names or files: as in pairs, endings such as '_lungs' or '_mask.nii.gz' do not count.
        column: that names the patients.
        cases: all that must be found.
    Returns:
        Patient by case.
    Raises:
        SettingsError: there is no such column, a case is missing, has no patient, or two.
        DocumentError: the file cannot be read.
    """
    rows = _rows(path, column)
    key = _CASE_COLUMN if _CASE_COLUMN in rows[0] else next(iter(rows[0]))
    patient_of: dict[str, str] = {}
    for row in rows:
        case, patient = case_name(row[key] or ""), (row[column] or "").strip()
        if patient and patient_of.setdefault(case, patient) != patient:
            raise SettingsError(f"{path} gives case {case} two patients, {patient_of[case]} and {patient}.")
    found = {case: patient_of.get(case_name(case), "") for case in cases}
    missing = [case for case, patient in found.items() if not patient]
    if missing:
        raise SettingsError(
            f"{path} says no patient of {len(missing)} case(s): {listed(missing, _MOST_LISTED)}; give each a row, "
            f"named in column '{key}', "
            f"and its patient in column '{column}'."
        )
    return found


def _rows(path: Path, column: str) -> list[dict[str, str]]:
    text = read_text(path)
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    if not rows:
        raise SettingsError(f"{path} has no rows below its header; give one for each case.")
    if column not in rows[0]:
        raise SettingsError(f"{path} has no column '{column}'; it has {', '.join(map(str, rows[0]))}.")
    return rows
