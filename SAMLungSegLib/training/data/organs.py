"""Which values of a mask are which organ: as a label set has them, or as a row of a manifest says."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from SAMLungSegLib.documents import DocumentError, read_text
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.evaluation.sides import positive_values, set_codes, value_codes
from SAMLungSegLib.structures import LABEL_SETS, label_set
from SAMLungSegLib.volume import Volume

_WORD = re.compile(r"[^\s,;]+")
MOST_ORGANS = 254
TABLE = ".csv"
_VALUES, _NAMES = ("id", "label", "value"), ("structure", "name")


@dataclass(frozen=True)
class DrawnOrgans:
    """The organs that a mask draws.

    Attributes:
        keys: such as 'right_kidney', in the order of their codes.
        values: of the mask, for each; none where `set_name` says them.
        set_name: of the label set that the mask has the values, or the names, of.
    """

    keys: tuple[str, ...]
    values: tuple[tuple[int, ...], ...] = ()
    set_name: str = ""

    @classmethod
    def parse(cls, text: str, folder: Path | None = None) -> DrawnOrgans:
        """From the name of a label set, or from label values and names: '1 pancreas 2 3 kidney 4 vertebrae_L5'.

        A word of digits alone is a value, any other one is of a name. The name of a .csv file stands for the table in
        it, see `from_table`.

        Args:
            text: what is drawn.
            folder: that the name of a table is relative to; the working folder if None.
        Raises:
            SettingsError: neither, or a value or an organ is named twice.
        """
        text = text.strip()
        if text.lower().endswith(TABLE):
            return cls.from_table((folder or Path()) / text)
        text = text.lower()
        if text in LABEL_SETS:
            return cls(label_set(text).keys, set_name=text)
        words = [(word.isdecimal(), word) for word in _WORD.findall(text)]
        groups = [[word for _, word in group] for _, group in groupby(words, key=itemgetter(0))]
        if not words or not words[0][0] or words[-1][0]:
            raise SettingsError(
                f"'{text}' names no organs; give label values and the name of each, such as '1 pancreas 2 3 kidney', "
                f"or one of the label sets {', '.join(LABEL_SETS)}."
            )
        keys = tuple(_key(" ".join(name)) for name in groups[1::2])
        values = tuple(tuple(int(value) for value in numbers) for numbers in groups[::2])
        _check(text, keys, values)
        return cls(keys, values)

    @classmethod
    def from_table(cls, path: Path) -> DrawnOrgans:
        """From a table of label values and names: a column 'id', 'label' or 'value', and one 'structure' or 'name'.

        Rows of one name are one organ.

        Raises:
            SettingsError: the file is no such table, or names a value twice.
        """
        try:
            rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
        except (DocumentError, csv.Error) as error:
            raise SettingsError(f"{path} cannot be read as a table of organs: {error}") from error
        drawn: dict[str, list[int]] = {}
        columns = ", ".join(map(str, rows[0])) if rows else "none"
        try:
            value, name = (next((one for one in names if one in rows[0]), "") for names in (_VALUES, _NAMES))
            for row in rows:
                drawn.setdefault(_key(row[name].lower()), []).append(int(row[value]))
        except (IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise SettingsError(
                f"{path} is no table of organs; give a row for each label value, separated by commas, with a whole "
                f"number in a column {' or '.join(_VALUES)} and a name in a column {' or '.join(_NAMES)}. Its columns "
                f"are {columns}."
            ) from error
        keys, values = tuple(drawn), tuple(tuple(some) for some in drawn.values())
        _check(str(path), keys, values)
        return cls(keys, values)

    def codes(self, mask: Volume) -> np.ndarray:
        """Uint8 of the mask's size: the place of the organ among `keys`, from 1; 0 elsewhere.

        Raises:
            VolumeError: the mask is no labelmap, or its label set has none of its values.
        """
        if not self.set_name:
            return value_codes(mask, self.values)
        codes, _ = set_codes(mask, label_set(self.set_name))
        codes[codes > len(self.keys)] = 0  # of several at once
        return codes

    def others(self, mask: Volume) -> tuple[int, ...]:
        """Positive values of a labelmap that are none of the organs, ascending; none where its file has names."""
        if self.set_name and mask.structure_labels:
            return ()
        known = label_set(self.set_name).labels if self.set_name else sum(self.values, ())
        return tuple(value for value in positive_values(mask) if value not in known)


def _key(name: str) -> str:
    return re.sub(r"[^\w]+", "_", name.strip(" ,;\t\n"))


def _check(text: str, keys: tuple[str, ...], values: tuple[tuple[int, ...], ...]) -> None:
    twice = [
        str(name)
        for name, count in Counter([*keys, *(value for some in values for value in some)]).items()
        if count > 1
    ]
    if twice or len(keys) > MOST_ORGANS:
        raise SettingsError(f"'{text}' names {', '.join(twice) or 'too many organs'} more than once; name each once.")
    if any(value == 0 for some in values for value in some):
        raise SettingsError(f"'{text}' gives an organ the label 0, which is the background; give values from 1 on.")
