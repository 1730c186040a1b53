"""Errors a user can act on.

Every message says what was given, what was expected and what to do. The command line prints the message as one
line and exits with code 2; anything else that is raised is a defect of ours.
"""

from __future__ import annotations

from collections.abc import Sequence


class SAMLungSegError(Exception):
    """Base of all errors that the library raises on purpose."""


class VolumeError(SAMLungSegError):
    """An image cannot be read, written or used as a volume."""


class OutputError(VolumeError):
    """A file or folder cannot be written, or was removed meanwhile."""


class GeometryError(SAMLungSegError):
    """Grids, shapes or directions do not fit together or are degenerate."""


class IntensityError(SAMLungSegError):
    """Voxel values cannot be turned into a grey image, or a window is not valid."""


class PromptError(SAMLungSegError):
    """A point, box or mask prompt is malformed or outside the slice."""


class ModelError(SAMLungSegError):
    """A model is unknown, its weights are absent or damaged, or they do not fit the network."""


class LicenceError(ModelError):
    """The terms of weights were not accepted; nothing was run."""


class SettingsError(SAMLungSegError):
    """A threshold, tolerance, label, format or other setting is not possible."""


class CancelledError(SAMLungSegError):
    """The caller asked to stop; nothing was written, and of a download the part that has arrived is kept."""


_OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "failed to allocate",
    "unable to allocate",
    "defaultcpuallocator",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy or torch says that the memory of the machine or of its card is full."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def memory_advice(error: BaseException) -> str:
    """One line that says whose memory is full, and what to do."""
    if "cuda" in str(error).lower() or "mps" in str(error).lower():
        return (
            "The memory of the graphics card does not suffice; choose the device cpu, a smaller model or a smaller "
            "input size, or close other programs that use the card."
        )
    return (
        "The memory of this machine does not suffice; close other programs, take a smaller part of the image or a "
        "smaller model, or another device."
    )


def listed(values: Sequence[object], most: int = 12) -> str:
    """Some values for a message, `most` of them where there are many."""
    return ", ".join(map(str, values[:most])) + (", ..." if len(values) > most else "")
