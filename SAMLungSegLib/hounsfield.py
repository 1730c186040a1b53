"""How the stored values of a CT stand to Hounsfield units: as they are, shifted by an offset, or scaled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.filters import threshold_otsu

from SAMLungSegLib.errors import IntensityError

USUAL_OFFSET = 1024
SCALED_RANGE = 20  # a CT has a wider one in HU

_USUAL_OFFSETS = (1024, -1024, 2048, 4096, 8192, 32768)
_OFFSET_TOLERANCE = 150
_SMALLEST_OFFSET = 500  # what is less is within what tissue and air differ by from patient to patient
_BODY_HU, _DARK_HU = (-200, 200), (-1100, -300)
_SMALLEST_BODY, _SMALLEST_DARK = 0.03, 0.003
_FEWEST_VALUES = 1000
_AIR_PEAK_HU, _BODY_PEAK_HU = -940, 20  # medians of what is dark and of what is bright in chest CTs
_HU_BETWEEN_PEAKS = (550, 1150)
_SCALED_BEYOND = 1500  # further apart than air and body can be in HU
_WIDEST_BODY = 0.35  # of the distance of the peaks
_PADDING_GAP = 0.1


@dataclass(frozen=True)
class CTScale:
    """stored value = HU * `slope` + `offset`.

    Attributes:
        note: what was assumed where the values are no HU; empty where they are.
        is_known: whether the values show it; where they do not, they are taken as HU.
    """

    slope: float = 1.0
    offset: float = 0.0
    note: str = ""
    is_known: bool = True

    def stored(self, hu: float) -> float:
        """The stored value of a number of HU."""
        return hu * self.slope + self.offset

    def hu(self, stored: float) -> float:
        """The HU of a stored value."""
        return (stored - self.offset) / self.slope


@dataclass(frozen=True)
class _Peaks:
    """Medians of the dark and of the bright values, and the quartile distance of the latter."""

    air: float
    body: float
    body_spread: float

    @property
    def distance(self) -> float:
        return self.body - self.air


def finite_range(array: np.ndarray) -> tuple[float, float]:
    """Lowest and highest finite value, without copying a whole volume.

    Raises:
        IntensityError: no value is finite.
    """
    if array.size and array.dtype.kind in "biu":
        return float(array.min()), float(array.max())
    low, high = np.inf, -np.inf
    for part in array:
        finite = np.isfinite(part)
        low = min(low, np.min(part, where=finite, initial=np.inf))
        high = max(high, np.max(part, where=finite, initial=-np.inf))
    if low > high:
        raise IntensityError("The image holds no finite value; check how the file was made.")
    return float(low), float(high)


def ct_scale(array: np.ndarray, low: float, high: float) -> CTScale:
    """What the values of a CT mean, by its two peaks: air and lung, and the body.

    Values are HU where there is tissue around 0 and lung or air below -300. They are taken for something else only
    where two peaks lie as air and body do, elsewhere.

    Args:
        array: of any shape; NaN does not count.
        low, high: its lowest and highest finite value.
    """
    if _are_hu(array, low):
        return CTScale()
    peaks = _peaks(_without_padding(array, low, high))
    found = peaks and (_shifted(peaks) or _scaled(peaks, low, high))
    if found:
        return found
    if low >= 0:
        return CTScale(1.0, USUAL_OFFSET, f"Its values are taken as HU + {USUAL_OFFSET}, for none is negative.")
    return CTScale(is_known=False)


def may_be_shifted_hu(array: np.ndarray, low: float, high: float) -> bool:
    """Whether values that are not negative have the two peaks of a CT at a distance of HU."""
    peaks = _peaks(_without_padding(array, low, high)) if low >= 0 else None
    return peaks is not None and _shifted(peaks) is not None


def _are_hu(array: np.ndarray, low: float) -> bool:
    if low >= _DARK_HU[1]:
        return False
    body = np.count_nonzero((array >= _BODY_HU[0]) & (array <= _BODY_HU[1]))
    dark = np.count_nonzero((array >= _DARK_HU[0]) & (array <= _DARK_HU[1]) & (array != low))  # but padding
    return body >= _SMALLEST_BODY * array.size and dark >= _SMALLEST_DARK * array.size


def _without_padding(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """The finite values, sorted, but for a lowest one that lies far from all others."""
    values = np.sort(array[np.isfinite(array)] if array.dtype.kind == "f" else array, axis=None)
    inner = values[np.searchsorted(values, low, side="right") :]
    is_padded = inner.size and inner[0] - low > _PADDING_GAP * (high - float(inner[0]))
    return inner if is_padded else values


def _peaks(values: np.ndarray) -> _Peaks | None:
    """Of sorted values; None where these are few, or do not fall into two groups."""
    if values.size < _FEWEST_VALUES:
        return None
    ends = values[[values.size // 200, -1 - values.size // 200]].astype(np.float64)
    if ends[0] == ends[1]:
        return None
    counts, edges = np.histogram(np.clip(values, *ends), bins=256, range=tuple(ends))
    first = int(np.searchsorted(values, threshold_otsu(hist=(counts, (edges[1:] + edges[:-1]) / 2)), side="right"))
    if not 0 < first < values.size:
        return None
    dark, bright = values[:first], values[first:]
    quarter, middle, three_quarters = (float(bright[int(bright.size * part)]) for part in (0.25, 0.5, 0.75))
    return _Peaks(float(dark[dark.size // 2]), middle, three_quarters - quarter)


def _shifted(peaks: _Peaks) -> CTScale | None:
    low, high = _HU_BETWEEN_PEAKS
    if not low <= peaks.distance <= high or peaks.body_spread > _WIDEST_BODY * peaks.distance:
        return None
    offset = (peaks.body - _BODY_PEAK_HU + peaks.air - _AIR_PEAK_HU) / 2
    if abs(offset) < _SMALLEST_OFFSET:
        return None
    nearest = min(_USUAL_OFFSETS, key=lambda usual: abs(offset - usual))
    offset = nearest if abs(offset - nearest) <= _OFFSET_TOLERANCE else round(offset)
    return CTScale(1.0, offset, f"Its values are taken as HU {'+-'[offset < 0]} {abs(offset):g}, {_where(peaks)}.")


def _scaled(peaks: _Peaks, low: float, high: float) -> CTScale | None:
    is_no_hu = high - low <= SCALED_RANGE or peaks.distance > _SCALED_BEYOND
    if not is_no_hu or peaks.body_spread > _WIDEST_BODY * peaks.distance:
        return None
    slope = peaks.distance / (_BODY_PEAK_HU - _AIR_PEAK_HU)
    return CTScale(slope, peaks.body - _BODY_PEAK_HU * slope, f"Its values are taken as scaled HU, {_where(peaks)}.")


def _where(peaks: _Peaks) -> str:
    return f"for air lies near {peaks.air:.4g} and the body near {peaks.body:.4g}"
