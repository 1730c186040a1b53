"""Where a projection image lies: DICOM says it by the letters of its row's and its column's direction, such as L\\F."""

from __future__ import annotations

import numpy as np

from SAMLungSegLib.volume.itk import ijk_to_ras_from_lps

_LPS_OF_CODE = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}


def ijk_to_ras_by_letters(row_and_column: str, spacing_ijk: np.ndarray) -> np.ndarray | None:
    r"""Float64 (4, 4) of one projection image from its Patient Orientation; None where that says no plane.

    Args:
        row_and_column: 'row direction\column direction', such as L\F; what follows their first letters is passed over.
        spacing_ijk: in mm (3,).
    """
    codes = row_and_column.upper().split("\\")
    if len(codes) != 2:
        return None
    row, column = (_LPS_OF_CODE.get(code.strip()[:1]) for code in codes)
    if row is None or column is None or np.dot(row, column) != 0:
        return None
    directions = np.column_stack([row, column, np.cross(row, column)]).astype(np.float64)
    return ijk_to_ras_from_lps(directions, spacing_ijk, np.zeros(3))
