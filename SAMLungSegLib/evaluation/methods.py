"""Several ways to find the lungs of one CT, side by side: Dice of each lung, and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from SAMLungSegLib.errors import CancelledError
from SAMLungSegLib.evaluation.measure import evaluate
from SAMLungSegLib.metrics import METRICS
from SAMLungSegLib.structures import LUNGS
from SAMLungSegLib.volume import Volume

_DICE = tuple(replace(metric, per_slice=False) for metric in METRICS if metric.name == "dice")

Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class Method:
    """A way to find lungs.

    Attributes:
        name: for the table.
        find: called with what says whether to stop; gives uint8 (K, J, I), 1 right lung, 2 left lung.
    """

    name: str
    find: Callable[[Cancelled], np.ndarray]


def compare_methods(
    volume: Volume,
    methods: Sequence[Method],
    reference: Volume | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Cancelled = lambda: False,
) -> pd.DataFrame:
    """Run each method on a volume, and compare what it finds with one labelmap.

    Args:
        volume: a CT.
        methods: one or more, run in their order.
        reference: labelmap of lungs, on any grid; None for what the first method finds, which says how alike the
            methods are rather than which is right.
        progress: called with (methods done, methods in all).
        cancelled: asked between methods, and by the methods.
    Returns:
        One row for each method: method, dice_right, dice_left (NaN where neither has the lung, and for the first method
        without a reference), seconds.
    Raises:
        CancelledError: `cancelled` said so.
        SAMLungSegError: a method cannot work on the volume, or the reference is no labelmap that meets it.
    """
    rows: list[dict[str, object]] = []
    for done, method in enumerate(methods):
        if cancelled():
            raise CancelledError("The comparison was stopped.")
        if progress is not None:
            progress(done, len(methods))
        start = time.perf_counter()
        found = Volume(method.find(cancelled), volume.ijk_to_ras, method.name)
        seconds = time.perf_counter() - start
        is_yardstick = reference is None
        reference = found if is_yardstick else reference
        rows.append({"method": method.name, **_dice(None if is_yardstick else found, reference), "seconds": seconds})
    return pd.DataFrame(rows)


def _dice(found: Volume | None, reference: Volume | None) -> dict[str, float]:
    dice = dict.fromkeys((f"dice_{lung.side}" for _, lung in LUNGS), np.nan)
    if found is not None and reference is not None:
        table = evaluate(found, reference, metrics=_DICE).per_volume.set_index("structure")["dice"]
        dice |= {f"dice_{lung.side}": float(table.get(lung.name, np.nan)) for _, lung in LUNGS}
    return dice
