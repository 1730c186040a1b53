"""Corrections of some slices, carried to the others of a stack.

Everything starts from the automatic masks and from what was corrected, so that propagating again gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.interaction.propagation.result import Propagation

if TYPE_CHECKING:
    from SAMLungSegLib.options import Progress

Spacing = tuple[float, float, float]


def propagate(
    automatic_nhw: np.ndarray,
    values_nhw: np.ndarray,
    spacing_nhw_mm: Spacing,
    corrected: Mapping[int, np.ndarray],
    locked: Collection[int] = (),
    *,
    editable_nhw: np.ndarray | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Propagation:
    """Carry corrections of some slices to the others, both ways along the stack.

    It ends at corrected and locked slices, agreeing with both where it lies between two of them, and where the image
    does not look like the corrected slice any more. Each label moves by itself; where two claim a pixel, it keeps the
    automatic one.

    Args:
        automatic_nhw: uint8 (N, H, W), labels as they were found automatically, a stack of any plane.
        values_nhw: (N, H, W), Hounsfield units or grey.
        spacing_nhw_mm: between slices, rows, columns.
        corrected: labels, uint8 (H, W), by the number of the slice; they stay as they are.
        locked: numbers of slices that stay as they are, too; one that is not corrected counts as right as it was found.
        editable_nhw: bool (N, H, W), where anything may change at all; None for everywhere.
        progress: called with (corrected slices done, corrected slices in all).
        cancelled: polled for every region that was changed.
    Raises:
        GeometryError: shapes differ, a slice's number is outside the stack, or a spacing is not positive.
        CancelledError: `cancelled` returned true.
    """
    _check(automatic_nhw, values_nhw, spacing_nhw_mm, corrected, locked, editable_nhw)
    from SAMLungSegLib.interaction.propagation.carried import carried  # scipy takes a while to import

    fixed = {**{int(index): automatic_nhw[index] for index in locked}, **corrected}
    spacing = float(spacing_nhw_mm[0]), float(spacing_nhw_mm[1]), float(spacing_nhw_mm[2])
    found = carried(automatic_nhw, values_nhw, spacing, corrected, fixed, progress, cancelled)
    labels = {}
    for index, changed_hw in sorted(found.labels.items()):
        before_hw = automatic_nhw[index]
        after_hw = changed_hw if editable_nhw is None else np.where(editable_nhw[index], changed_hw, before_hw)
        if not np.array_equal(after_hw, before_hw):
            labels[index] = after_hw
    return Propagation(labels, found.reaches, automatic_nhw)


def _check(
    automatic_nhw: np.ndarray,
    values_nhw: np.ndarray,
    spacing_nhw_mm: Spacing,
    corrected: Mapping[int, np.ndarray],
    locked: Collection[int],
    editable_nhw: np.ndarray | None,
) -> None:
    size = automatic_nhw.shape
    if len(size) != 3 or values_nhw.shape != size or (editable_nhw is not None and editable_nhw.shape != size):
        editable = "none" if editable_nhw is None else editable_nhw.shape
        raise GeometryError(
            f"labels of {size}, values of {values_nhw.shape}, editable {editable}: expected one (N, H, W) for all; "
            "take them from one stack"
        )
    if min(spacing_nhw_mm) <= 0:
        raise GeometryError(f"spacing {spacing_nhw_mm}: expected positive mm between slices, rows and columns")
    outside = [index for index in (*corrected, *locked) if not 0 <= index < size[0]]
    if outside:
        raise GeometryError(
            f"slices {outside} of a stack of {size[0]}: expected 0 to {size[0] - 1}; count in this plane"
        )
    for index, labels_hw in corrected.items():
        if labels_hw.shape != size[1:]:
            raise GeometryError(f"slice {index} of {labels_hw.shape}: expected {size[1:]}, as the stack has")
