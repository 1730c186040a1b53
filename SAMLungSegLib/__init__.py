"""Right and left lung on CT and chest X-ray with promptable models of the Segment Anything family.

Example:
    >>> from SAMLungSegLib import segment
    >>> segment("chest.nii.gz").save("chest_lungs.seg.nrrd")
"""

from importlib import import_module

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
    "SAMLungSegError": "errors",
    "SliceCut": "volume",
    "Volume": "volume",
    "as_volume": "volume",
    "cut_volume": "volume",
    "read_volume": "volume",
    "write_labelmap": "volume",
}

__all__ = [*_EXPORTS]  # loaded on first use, so that importing the package does not import torch


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
