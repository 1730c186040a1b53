"""Two lungs of a few voxels, and what is measured on them: for tests of the evaluation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from SAMLungSegLib.evaluation import Evaluation, evaluate
from SAMLungSegLib.volume import Volume

SPACING_MM = (4.0, 1.0, 2.0)


def ras_matrix(spacing_kji: tuple[float, float, float] = SPACING_MM, origin=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Voxels along I run to the patient's left, along J to posterior, along K to superior."""
    k, j, i = spacing_kji
    matrix = np.diag([-i, -j, k, 1.0])
    matrix[:3, 3] = origin
    return matrix


def lungs() -> np.ndarray:
    """Five slices of 8 x 10 pixels: right lung on the patient's right in slices 1 to 3, left lung in 2 and 3."""
    labelmap = np.zeros((5, 8, 10), np.uint8)
    labelmap[1:4, 2:6, 1:4] = 1
    labelmap[2:4, 2:6, 6:9] = 2
    return labelmap


def volume(array_kji: np.ndarray, matrix: np.ndarray | None = None, **fields) -> Volume:
    return Volume(array_kji, ras_matrix() if matrix is None else matrix, fields.pop("name", "case"), **fields)


def shifted_evaluation() -> Evaluation:
    """The prediction misses one pixel row of the right lung in slice 3 and marks two pixels in slice 0."""
    predicted = lungs()
    predicted[3, 2, 1:4] = 0
    predicted[0, 2:4, 2] = 1
    return evaluate(volume(predicted), volume(lungs()))


def row(table: pd.DataFrame, **keys) -> pd.Series:
    (found,) = [line for _, line in table.iterrows() if all(line[key] == value for key, value in keys.items())]
    return found
