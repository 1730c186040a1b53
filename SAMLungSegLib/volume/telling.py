"""What is logged of each image on the way, and of many of them in one line."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from SAMLungSegLib.errors import listed
from SAMLungSegLib.volume.types import Volume

logger = logging.getLogger(__name__)


@dataclass
class _Count:
    """Of the files that were read."""

    files: int = 0
    without_mm: int = 0
    masks: Counter[str] = field(default_factory=Counter)
    labels: dict[str, set[int]] = field(default_factory=dict)


_COUNT: ContextVar[_Count | None] = ContextVar("files of a reading of many", default=None)


def tell_of_image(source: logging.Logger, message: str, *arguments: object) -> None:
    """Log a line about one image: at the level INFO, where it is one of many at DEBUG."""
    source.log(logging.INFO if _COUNT.get() is None else logging.DEBUG, message, *arguments)


def tell_read(source: logging.Logger, path: object, volume: Volume) -> None:
    """Log that an image was read, and count it where it is one of many."""
    sizes = " x ".join(map(str, volume.size_kji[::-1]))
    spacings = " x ".join(f"{one:.3g}" for one in volume.spacing_mm[::-1])
    size = f"of {spacings} mm" if volume.has_physical_spacing else "whose size in mm is not known"
    tell_of_image(source, "%s: read, %s voxels (I, J, K) %s.", path, sizes, size)
    count = _COUNT.get()
    if count is not None:
        count.files += 1
        count.without_mm += not volume.has_physical_spacing


def tell_labels(source: logging.Logger, name: str, labels: Iterable[int], what: str) -> None:
    """Warn of label values of a mask that may be taken for something else than was meant; of many masks in one line.

    Args:
        source: that logs.
        name: of the mask.
        labels: of which there may be none.
        what: becomes of them, the end of the line.
    """
    values, count = {*labels}, _COUNT.get()
    if not values:
        return
    if count is None:
        source.warning("%s: labels %s %s.", name, listed(sorted(values)), what)
    else:
        count.masks[what] += 1
        count.labels.setdefault(what, set()).update(values)


@contextmanager
def many_images(doing: str) -> Iterator[None]:
    """Lines about single images are logged at the level DEBUG, and at the end one at INFO says how many were read.

    What `tell_labels` was told of them is one line, too.

    Args:
        doing: what they are read for, the begin of that line.
    """
    count = _Count()
    token = _COUNT.set(count)
    try:
        yield
    finally:
        _COUNT.reset(token)
    for what, labels in count.labels.items():
        number = count.masks[what]
        logger.warning(
            "%s: labels %s of %d mask%s %s.", doing, listed(sorted(labels)), number, "s" * (number > 1), what
        )
    if count.files:
        unknown = f"; the size in mm of {count.without_mm} is not known" if count.without_mm else ""
        files = f"{count.files} file{'' if count.files == 1 else 's'}"
        logger.info("%s: %s of images and masks read%s.", doing, files, unknown)
