"""Masks of everything in a slice: the model predicts for a grid of points, filters keep what it is sure of.

`automatic_masks` works on one grey slice, `volume_masks` on slices of an image. Both are loaded when they are first
used, so that settings are checked without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from SAMLungSegLib.automatic.masks import AutomaticMask, numbered
from SAMLungSegLib.automatic.settings import AutomaticSettings, default_settings

if TYPE_CHECKING:
    from SAMLungSegLib.automatic.figures import mask_sheet
    from SAMLungSegLib.automatic.generator import automatic_masks
    from SAMLungSegLib.automatic.whole import VolumeMasks, volume_masks

_WITH_TORCH = {"automatic_masks": "generator", "VolumeMasks": "whole", "volume_masks": "whole", "mask_sheet": "figures"}

__all__ = [
    "AutomaticMask",
    "AutomaticSettings",
    "VolumeMasks",
    "automatic_masks",
    "default_settings",
    "mask_sheet",
    "numbered",
    "volume_masks",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _WITH_TORCH:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
