"""The table over all cases, as CSV and Parquet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from SAMLungSegLib.batch.rows import FILES, TEXTS, Row
from SAMLungSegLib.files import write_bytes, write_csv

logger = logging.getLogger(__name__)

_BEFORE_METRICS = (
    *("id", "state", "reason", "image", "series", "modality", "slices"),
    *("right_ml", "left_ml", "right_voxels", "left_voxels", "right_to_left"),
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
        logger.warning("The table is written as CSV only; for Parquet as well: pip install 'SAMLungSegLib[parquet]'.")
        return written
    content = table.to_parquet(engine="pyarrow", index=False)
    return [*written, write_bytes(content, folder / "table.parquet")]
