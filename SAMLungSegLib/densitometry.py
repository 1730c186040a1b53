"""How dense lungs are on CT: the numbers of quantitative CT, of the voxels of a mask.

What each number means and who defined it is in docs/statistics.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np

from SAMLungSegLib.hounsfield import CTScale

LAA_950_HU, LAA_910_HU = -950, -910  # Gevenois 1996; Mueller 1988
HAA_HU = (-600, -250)  # Lederer 2009
_PERCENTILE = 15  # Dirksen 1999


@dataclass(frozen=True)
class Densities:
    """Of the voxels of a mask that have a value; all NaN where there is none.

    Attributes:
        mean_hu: the mean.
        sd_hu: standard deviation with n - 1; NaN of one voxel.
        perc15_hu: the lowest value that at least 15 % of the voxels do not exceed (Perc15).
        laa950_percent: voxels below -950 HU.
        laa910_percent: voxels below -910 HU.
        haa_percent: voxels from -600 to -250 HU, both included.
    """

    mean_hu: float = nan
    sd_hu: float = nan
    perc15_hu: float = nan
    laa950_percent: float = nan
    laa910_percent: float = nan
    haa_percent: float = nan

    @property
    def g_per_ml(self) -> float:
        """Mass of a ml, where -1000 HU is air without weight and 0 HU water."""
        return (self.mean_hu + 1000) / 1000


def densities_of(values: np.ndarray, scale: CTScale) -> Densities:
    """The densities of voxels.

    Args:
        values: stored ones of any shape; those that are not finite do not count.
        scale: what they mean in HU.
    """
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return Densities()
    low, high = (scale.stored(hu) for hu in HAA_HU)
    rank = -(-_PERCENTILE * values.size // 100) - 1
    deviation = float(np.std(values, ddof=1, dtype=np.float64)) if values.size > 1 else nan
    return Densities(
        scale.hu(float(np.mean(values, dtype=np.float64))),
        deviation / scale.slope,
        scale.hu(float(np.partition(values, rank, axis=None)[rank])),
        _percent(values < scale.stored(LAA_950_HU)),
        _percent(values < scale.stored(LAA_910_HU)),
        _percent((values >= low) & (values <= high)),
    )


def _percent(chosen: np.ndarray) -> float:
    return 100 * float(np.count_nonzero(chosen)) / chosen.size
