"""The row of the table that tells how a case ended."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from SAMLungSegLib.batch.cases import Case
from SAMLungSegLib.batch.journal import FAILED
from SAMLungSegLib.batch.quality import SIDES, flags_of, measure, predicted_quality
from SAMLungSegLib.cardiothoracic import ratio_if_measurable
from SAMLungSegLib.documents import is_number
from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.evaluation import evaluate
from SAMLungSegLib.files import write_bytes, write_csv
from SAMLungSegLib.metrics import METRICS
from SAMLungSegLib.pipeline import Segmentation
from SAMLungSegLib.volume import Volume
from SAMLungSegLib.volumetry import LungSizes

Row = dict[str, Any]

FILES = ("segmentation", "recipe", "overlay", "full_overlay")
TEXTS = frozenset(
    {"id", "state", "reason", "image", "series", "modality", "extent", "flags", "notes", "device", *FILES}
)
_MOST_COLUMNS = 200
_DENSITIES = ("mean_hu", "perc15_hu", "laa950_percent", "haa_percent")
_WHOLE_METRICS = [replace(metric, per_slice=False) for metric in METRICS]  # slices would take most of the time


def is_row(row: Row, state: str) -> bool:
    """Whether a row is one that tables and reports can show."""
    wanted = {"id", "state", "reason"} if state == FAILED else {"id", "state", "flags", "notes", "segmentation"}
    return (
        len(row) <= _MOST_COLUMNS
        and row.get("state") == state
        and all(isinstance(row.get(name), str) for name in wanted)
        and (state == FAILED or (is_number(row.get("quality")) and {"right_ml", "left_ml"} <= row.keys()))
        and all(value is None or _fits(name, value) for name, value in row.items())
    )


def _fits(name: str, value: Any) -> bool:
    return isinstance(value, str) if name in TEXTS else is_number(value)


def place_of(case: Case) -> Row:
    """Which case it is."""
    return {"id": case.id, "image": str(case.path), "series": case.series or None}


def measures_of(segmentation: Segmentation, lungs: str) -> Row:
    """Sizes, predicted quality and flags."""
    one = measure(segmentation, lungs)
    flags = flags_of(one)
    return {
        "modality": segmentation.modality,
        "extent": segmentation.extent,
        "slices": len(segmentation.scores),
        **{f"{side}_ml": one.ml[label] for side, label in SIDES.items()},
        **{f"{side}_voxels": one.voxels[label] for side, label in SIDES.items()},
        "right_to_left": one.numbers.right_to_left,
        **_areas_of(one.numbers),
        **_densities_of(one.numbers),
        "cardiothoracic_ratio": ratio_if_measurable(segmentation.labelmap, segmentation.modality),
        "score": one.score,
        "lowest_score": one.lowest_score,
        "quality": predicted_quality(one.score, len(flags)),
        "flags": " ".join(flags),
    }


def _areas_of(numbers: LungSizes) -> Row:
    known = {side: row.size if numbers.unit == "cm2" else nan for side, row in zip(SIDES, numbers.rows, strict=False)}
    return {f"{side}_cm2": size for side, size in known.items()}


def _densities_of(numbers: LungSizes) -> Row:
    """Of both lungs; the others are in the file beside the labelmap."""
    both = numbers.both
    return {name: getattr(both.densities, name) for name in _DENSITIES} | {"mass_g": both.mass_g}


def agreement_of(segmentation: Segmentation, reference: Volume, tolerance_mm: float) -> tuple[Row, list[str]]:
    """Metrics of the whole volume by lung, such as `dice_right`, and notes on how they came about."""
    try:
        result = evaluate(segmentation.labelmap, reference, metrics=_WHOLE_METRICS, tolerance_mm=tolerance_mm)
    except SAMLungSegError as error:
        return {}, [f"No metrics: {error}"]
    metrics = {
        f"{metric.name}_{values['structure'].partition(' ')[0]}": values[metric.name]
        for values in result.per_volume.to_dict("records")
        for metric in _WHOLE_METRICS
    }
    return metrics, list(result.notes)


def plain(row: Mapping[str, Any]) -> Row:
    """The row as any file can hold it: numbers of Python, None where there is none, text on one line of Unicode."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str):  # a file's name may hold bytes that are no text; Python 3.10 writes no null into CSV
        return " ".join(value.encode("utf-8", "replace").decode().replace("\0", r"\x00").split())
    return None if isinstance(value, float) and not np.isfinite(value) else value


logger = logging.getLogger(__name__)

_BEFORE_METRICS = (
    *("id", "state", "reason", "image", "series", "modality", "extent", "slices"),
    *("right_ml", "left_ml", "right_cm2", "left_cm2", "right_voxels", "left_voxels", "right_to_left"),
    *(*_DENSITIES, "mass_g", "cardiothoracic_ratio"),
    *("quality", "score", "lowest_score", "flags"),
)
_AFTER_METRICS = ("notes", *FILES, "device", "seconds_reading", "seconds", "seconds_writing")


def table_of(rows: Sequence[Row]) -> pd.DataFrame:
    """A row for each case; the columns are explained in docs/cohorts.md."""
    metrics = [name for row in rows for name in row if name not in (*_BEFORE_METRICS, *_AFTER_METRICS)]
    columns = [*_BEFORE_METRICS, *dict.fromkeys(metrics), *_AFTER_METRICS]
    table = pd.DataFrame(list(rows), columns=columns)
    return pd.DataFrame({name: table[name] if name in TEXTS else pd.to_numeric(table[name]) for name in columns})


def write_tables(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write table.csv, and table.parquet where pyarrow is installed; their paths."""
    table = table_of(rows)
    written = [write_csv(table, folder / "table.csv")]
    if find_spec("pyarrow") is None:
        logger.warning("The table is written as CSV only; for Parquet as well: pip install 'samlungseg[parquet]'.")
        return written
    content = table.to_parquet(engine="pyarrow", index=False)
    return [*written, write_bytes(content, folder / "table.parquet")]
