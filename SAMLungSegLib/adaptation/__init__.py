"""Adaptation of any SAM to objects of any label set on the user's own slices, by one of several methods.

`slices` says from what is learned, `prompts` by which prompts, `method` what a method is and which there are, `methods`
has them; `task` is what the trainer trains, and `run.adapt` all of it from data to weights with a verdict.
"""

from importlib import import_module

_EXPORTS = {
    "AdaptConfig": "task",
    "AdaptOptions": "run",
    "AdaptResult": "run",
    "AdaptationData": "slices",
    "Method": "method",
    "ObjectExample": "slices",
    "ObjectSlice": "slices",
    "ReadingOptions": "slices",
    "adapt": "run",
    "method_from": "method",
    "method_names": "method",
    "read_data": "slices",
    "register_method": "method",
}

__all__ = [*_EXPORTS]  # loaded on first use, so that importing the room does not import torch


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
