"""Right and left lung on CT and chest X-ray with promptable models of the Segment Anything family.

Example:
    >>> from SAMLungSegLib import segment
    >>> segment("chest.nii.gz").save("chest_lungs.seg.nrrd")
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what `__getattr__` loads on first use, for editors and type checkers
    from SAMLungSegLib.automatic import automatic_masks as automatic_masks
    from SAMLungSegLib.errors import SAMLungSegError as SAMLungSegError
    from SAMLungSegLib.evaluation import evaluate as evaluate
    from SAMLungSegLib.models import MODELS as MODELS, load_model as load_model
    from SAMLungSegLib.overlays import write_overlay as write_overlay
    from SAMLungSegLib.pipeline import (
        Options as Options,
        Segmentation as Segmentation,
        SliceSegmentation as SliceSegmentation,
        SliceSegmenter as SliceSegmenter,
        VolumeBox as VolumeBox,
        VolumePoint as VolumePoint,
        segment as segment,
        segment_slice as segment_slice,
        segment_volume as segment_volume,
    )
    from SAMLungSegLib.volume import (
        ReformattedSlice as ReformattedSlice,
        Volume as Volume,
        as_volume as as_volume,
        read_volume as read_volume,
        reformat_volume as reformat_volume,
        write_labelmap as write_labelmap,
    )

__version__ = "0.1.0"  # the only place that states it: pyproject.toml takes it from here

_EXPORTS = {
    "Options": "pipeline",
    "Segmentation": "pipeline",
    "SliceSegmentation": "pipeline",
    "SliceSegmenter": "pipeline",
    "VolumeBox": "pipeline",
    "VolumePoint": "pipeline",
    "automatic_masks": "automatic",
    "segment": "pipeline",
    "segment_slice": "pipeline",
    "segment_volume": "pipeline",
    "MODELS": "models",
    "load_model": "models",
    "evaluate": "evaluation",
    "write_overlay": "overlays",
    "SAMLungSegError": "errors",
    "ReformattedSlice": "volume",
    "Volume": "volume",
    "as_volume": "volume",
    "read_volume": "volume",
    "reformat_volume": "volume",
    "write_labelmap": "volume",
}

__all__ = [*_EXPORTS]  # loaded on first use, so that importing the package does not import torch


if not TYPE_CHECKING:  # to whom any name at all would pass for one of ours

    def __getattr__(name: str) -> object:
        if name not in _EXPORTS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
