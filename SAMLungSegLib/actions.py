"""How labels came about that several actions have written: the provenance of each, in the order in which they were.

What one action on a whole volume has made can be made again, and is kept as its `Provenance` alone. What was written
into single slices, or beside something that stayed, is kept as a list: it says what was done, and is not made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from SAMLungSegLib.documents import DocumentError, parse_json
from SAMLungSegLib.provenance import ACTIONS_SCHEMA, SCHEMA, Provenance
from SAMLungSegLib.volume import ReformattedSlice

_DECIMALS = 6


@dataclass(frozen=True)
class Action:
    """One writing of labels.

    Attributes:
        provenance: image, model, settings and the prompts that were shown to it; None where that is not known.
        reformat: the slice that was written; None for the whole volume.
        is_whole: whether all of it was written; False where boxes or the editable area left parts out.
        kept: how many slices of a volume, or pixels of a slice, stayed as another hand had painted them.
        is_drawn: whether a person has drawn some of it by hand, which no record can tell.
    """

    provenance: Provenance | None
    reformat: ReformattedSlice | None = None
    is_whole: bool = True
    kept: int = 0
    is_drawn: bool = False

    @property
    def replaces_all(self) -> bool:
        """Whether nothing of what was there before is left."""
        return self.reformat is None and self.is_whole and not self.kept


@dataclass(frozen=True)
class Actions:
    """What was done to labels.

    Attributes:
        records: of each action: the fields of a provenance record, with 'slice' where one was written, 'is_whole' and
            'kept'.
        is_complete: False where there were labels before of which it is not known how they came about.
    """

    records: tuple[Mapping[str, Any], ...] = ()
    is_complete: bool = True

    @classmethod
    def from_json(cls, text: str | None) -> Actions:
        """Those of a text of `to_json`, or of a provenance record; unknown ones where it is neither."""
        try:
            fields = parse_json(text or "", "the provenance record")
            if fields["schema"] == SCHEMA:
                return cls(({**fields, "is_whole": True, "kept": 0},))
            if fields["schema"] == ACTIONS_SCHEMA:
                return cls(tuple(fields["actions"]), fields["is_complete"] is True)
        except (DocumentError, KeyError, TypeError):
            pass
        return cls(is_complete=False)

    def then(self, action: Action) -> Actions:
        """With one more; those that left no trace go, as of a slice that was written anew as a whole."""
        before = Actions() if action.replaces_all else self
        if action.provenance is None:
            return Actions(before.records, is_complete=False)
        record: dict[str, Any] = json.loads(action.provenance.to_json())
        record |= {"is_whole": action.is_whole, "kept": action.kept}
        records = before.records
        if action.reformat is not None:
            record["slice"] = _place(action.reformat)
            if action.is_whole and not action.kept:
                records = tuple(one for one in records if one.get("slice") != record["slice"])
        return Actions((*records, record), before.is_complete and not action.is_drawn)

    def to_json(self) -> str | None:
        """One line: the provenance record where one action made it all; None where nothing is known."""
        if not self.records:
            return None
        (first, *others) = self.records
        if self.is_complete and not others and "slice" not in first and first["is_whole"] and not first["kept"]:
            return json.dumps({key: first[key] for key in first if key not in ("is_whole", "kept")}, sort_keys=True)
        fields = {"schema": ACTIONS_SCHEMA, "actions": self.records, "is_complete": self.is_complete}
        return json.dumps(fields, sort_keys=True)


def _place(reformat: ReformattedSlice) -> dict[str, Any]:
    """Where a slice is: rows of a matrix that takes its pixel (x, y, 1) to the voxel (i, j, k)."""
    start, right, down = reformat.xy_to_ijk(np.array([(0, 0), (1, 0), (0, 1)]))
    matrix = np.round(np.column_stack([right - start, down - start, start]), _DECIMALS) + 0.0
    return {"orientation": reformat.orientation, "size_hw": [*map(int, reformat.size_hw)], "xy_to_ijk": matrix.tolist()}
