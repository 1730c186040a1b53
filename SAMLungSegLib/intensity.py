"""From stored values to the 8-bit grey that models and people look at."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from SAMLungSegLib.errors import IntensityError
from SAMLungSegLib.hounsfield import SCALED_RANGE, CTScale, ct_scale, finite_range
from SAMLungSegLib.modality import MODALITIES, Modality
from SAMLungSegLib.volume import Volume

logger = logging.getLogger(__name__)

_PADDING_HU = -1500  # at or below lies no tissue: scanners fill the corners with -2000, -2048 or -3024
_LUNG_HU = (-700, -500)
_XRAY_PERCENTILES = (0.5, 99.5)
_XRAY_SAMPLES = 1_000_000
_XRAY_SMALLEST_INNER_SHARE = 0.01
_GOOD_8_BIT_RANGE = 128
_WHITE_SHARE = 0.98


@dataclass(frozen=True)
class Window:
    """The CT values that are spread from black to white, in HU: `level` is the middle, `width` the whole range."""

    level: float
    width: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.level) and np.isfinite(self.width) and self.width > 0):
            raise IntensityError(
                f"Window width {self.width:g} / level {self.level:g} is not valid; give a positive width in HU."
            )

    @property
    def low(self) -> float:
        """The value that becomes black."""
        return self.level - self.width / 2

    @property
    def high(self) -> float:
        """The value that becomes white."""
        return self.level + self.width / 2


WINDOW_PRESETS = {
    "lung": Window(level=-600, width=1500),
    "lung-zero-shot": Window(level=-650, width=1500),
    "mediastinum": Window(level=40, width=400),
    "bone": Window(level=400, width=1800),
}


def parse_window(text: str) -> Window:
    """A window from a preset's name or from 'width/level' in HU, the order radiologists say it in: '1500/-600'.

    Raises:
        IntensityError: neither.
    """
    if text.strip().lower() in WINDOW_PRESETS:
        return WINDOW_PRESETS[text.strip().lower()]
    try:
        width, level = (float(part) for part in text.split("/"))
    except ValueError:
        presets = ", ".join(WINDOW_PRESETS)
        raise IntensityError(f"Window '{text}' is unknown; give {presets}, or width/level such as 1500/-600.") from None
    return Window(level=level, width=width)


def is_windowed(values: Volume | np.ndarray) -> bool:
    """Whether a CT holds grey levels 0..255 instead of HU, because somebody has windowed it already."""
    return _are_grey_levels(*finite_range(_array_of(values)))


def are_windowed(array: np.ndarray, low: float, high: float) -> bool:
    """Whether a CT holds grey levels; real numbers in a narrow range are scaled HU.

    Args:
        array: of any shape.
        low, high: its lowest and highest finite value.
    """
    return _are_grey_levels(low, high) and (array.dtype.kind != "f" or high - low > SCALED_RANGE)


@dataclass(frozen=True)
class GreyMapping:
    """How the stored values of one image become 8-bit grey: found once for the whole image, then applied to any part.

    Attributes:
        black, white: the values that become 0 and 255; equal for a constant image, which is black.
        padding: what is at or below it is black whatever the window.
        lowest: the image's lowest finite value, for what lies outside it.
        note: what was assumed about a CT whose values are no HU; empty where nothing was.
        is_certain: whether a CT's values are known to be what they are taken for.
    """

    black: float
    white: float
    padding: float
    lowest: float
    note: str = ""
    is_certain: bool = True

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Uint8 of values (K, J, I) or (H, W); NaN is black."""
        if self.black == self.white:
            return np.zeros(values.shape, np.uint8)
        stack = values[None] if values.ndim == 2 else values
        return _spread(stack, self.black, self.white, self.padding).reshape(values.shape)


def grey_mapping(
    values: Volume | np.ndarray, modality: Modality, window: Window = WINDOW_PRESETS["lung"]
) -> GreyMapping:
    """The mapping that `to_grey` applies, for arguments as there."""
    if modality not in MODALITIES:
        raise IntensityError(f"Modality '{modality}' is unknown; expected one of {', '.join(MODALITIES)}.")
    array = _array_of(values)
    low, high = finite_range(array)
    if low == high:
        return GreyMapping(low, low, -np.inf, low)
    if modality == "XRAY":
        return GreyMapping(*_xray_range(array, low, high), -np.inf, low)
    if are_windowed(array, low, high):
        return GreyMapping(0, 255, -np.inf, low)
    scale = ct_scale(array, low, high)
    note = scale.note
    if _is_in_stored_values(window, scale):
        scale, note = CTScale(), f"The window {window.width:g}/{window.level:g} is taken in values of the file, not HU."
    if note:
        logger.info("a CT's values are no HU: %s", note)
    black, white, padding = (scale.stored(hu) for hu in (window.low, window.high, _PADDING_HU))
    return GreyMapping(black, white, padding, low, note, scale.is_known)


def _is_in_stored_values(window: Window, scale: CTScale) -> bool:
    """Whether a window of somebody's own shows lung and tissue in the stored values, and no lung in HU."""
    if scale == CTScale() or window in WINDOW_PRESETS.values():
        return False
    darkest, brightest = _LUNG_HU
    return window.low > brightest and scale.hu(window.low) < darkest and scale.hu(window.high) > brightest


def to_grey(values: Volume | np.ndarray, modality: Modality, window: Window = WINDOW_PRESETS["lung"]) -> np.ndarray:
    """The 8-bit grey image.

    CT: `window` is spread linearly over 0..255 and rounded to the nearest level. Padding outside the reconstruction
    circle (-1500 HU and less) and NaN are black. Grey levels (`is_windowed`) stay as they are. A CT whose values are
    recognised as shifted or scaled HU is shown as if they were HU (`hounsfield.ct_scale`).

    X-ray: the window plays no part. Grey levels stay as they are when they use half of the 8-bit range; otherwise
    the 0.5 to 99.5 percentiles are spread over 0..255, not counting the lowest and highest value (borders, markers).

    Args:
        values: a volume, or an array (K, J, I) or (H, W).
        modality: 'CT' or 'XRAY'.
        window: for CT.
    Returns:
        uint8, same shape; all zero for a constant image.
    Raises:
        IntensityError: unknown modality, or no finite value.
    """
    return grey_mapping(values, modality, window).apply(_array_of(values))


def stored_levels(values: Volume | np.ndarray, hu: Sequence[float]) -> list[float]:
    """The stored values of some Hounsfield units of a CT; where it is windowed already, of the lung window."""
    array = _array_of(values)
    low, high = finite_range(array)
    if are_windowed(array, low, high):
        window = WINDOW_PRESETS["lung"]
        return [float(np.clip((one - window.low) / window.width, 0, _WHITE_SHARE) * 255) for one in hu]
    scale = ct_scale(array, low, high)
    return [scale.stored(one) for one in hu]


def lung_window_hu(grey: np.ndarray) -> np.ndarray:
    """Hounsfield units, int16, back from grey of the lung window: however a CT is stored, within that window."""
    window = WINDOW_PRESETS["lung"]
    return (window.low + grey * np.float32(window.width / 255)).astype(np.int16)


def _array_of(values: Volume | np.ndarray) -> np.ndarray:
    return values.array_kji if isinstance(values, Volume) else values


def _are_grey_levels(low: float, high: float) -> bool:
    return low >= 0 and 1 < high <= 255


def _xray_range(array: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """What becomes black and white."""
    black, white = _robust_range(array, low, high)
    if _are_grey_levels(low, high) and white - black >= _GOOD_8_BIT_RANGE:
        return 0, 255
    return black, white


def _robust_range(array: np.ndarray, low: float, high: float) -> tuple[float, float]:
    flat = array.ravel()
    sample = flat[:: max(1, flat.size // _XRAY_SAMPLES)].astype(np.float32)
    inner = sample[(sample > low) & (sample < high)]
    if inner.size < _XRAY_SMALLEST_INNER_SHARE * sample.size:
        return low, high
    black, white = (float(value) for value in np.percentile(inner, _XRAY_PERCENTILES))
    return (black, white) if white > black else (low, high)


def _spread(array: np.ndarray, black: float, white: float, padding: float) -> np.ndarray:
    """Uint8 of values spread linearly from `black` (0) to `white` (255); padding, NaN and what is below are 0."""
    grey = np.empty(array.shape, np.uint8)
    scale = np.float32(255 / (white - black))
    for part, target in zip(array, grey, strict=True):  # slice by slice, so that no second volume is made
        levels = part.astype(np.float32)
        is_black = ~(levels > padding)  # true for NaN as well
        levels -= np.float32(black)
        levels *= scale
        np.clip(levels, 0, 255, out=levels)
        levels[is_black] = 0
        target[...] = np.rint(levels, out=levels)
    return grey
