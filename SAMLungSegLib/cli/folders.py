"""Where results go."""

from __future__ import annotations

import os
from pathlib import Path

from SAMLungSegLib.errors import VolumeError


def check_writable(path: Path) -> None:
    """Refuse an output folder that could not be made, before any work is done; nothing is made yet.

    Raises:
        VolumeError: it or what it would lie in is a file, or cannot be written to.
    """
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not nearest.is_dir():
        raise VolumeError(f"{path} cannot be an output folder, for {nearest} is a file; give another one with -o.")
    if not os.access(nearest, os.W_OK):
        raise VolumeError(
            f"{path} cannot be an output folder, for {nearest} is not writable; give another one with -o."
        )


def writable_folder(path: Path) -> Path:
    """The output folder `path`, made if it is not there.

    Raises:
        VolumeError: as `check_writable`, or it cannot be made.
    """
    check_writable(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VolumeError(f"The folder {path} cannot be made ({error.strerror}); give another one with -o.") from error
    return path
