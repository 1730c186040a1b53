"""The files of a case, and telling a case that cannot be written from a folder that takes no more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from SAMLungSegLib.batch.settings import BatchError
from SAMLungSegLib.errors import OutputError, SAMLungSegError
from SAMLungSegLib.files import has_room
from SAMLungSegLib.files import remove_leftovers as remove_leftovers_of
from SAMLungSegLib.overlays import write_overlay, write_thumbnail
from SAMLungSegLib.pipeline import Segmentation
from SAMLungSegLib.provenance import Provenance, provenance_path, save

SEGMENTATIONS, OVERLAYS, FULL_OVERLAYS = "segmentations", "overlays", "overlays/full"

PICTURES = {"overlay": OVERLAYS, "full_overlay": FULL_OVERLAYS}  # their folders, by what a row calls them
_LARGEST_PROBE_BYTES = 1 << 26


def remove_leftovers(output: Path) -> None:
    """Delete what a run that was killed had begun to write."""
    for folder in (output, output / SEGMENTATIONS, output / OVERLAYS, output / FULL_OVERLAYS):
        remove_leftovers_of(folder)


def write_outputs(
    segmentation: Segmentation,
    provenance: Provenance,
    output: Path,
    case: str,
    extension: str,
    pictures: Collection[str],
) -> dict[str, str]:
    """Write labelmap, provenance record and pictures, each whole or not at all.

    Returns:
        Their paths by kind, relative to the output folder.
    Raises:
        BatchError: the folder takes no more: the disk is full, or it is gone or not writable.
        SAMLungSegError, OSError: this labelmap cannot be written.
    """
    target = output / SEGMENTATIONS / f"{case}_lungs.{extension}"
    drawn = _picture_files(output, case, pictures)

    def write() -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        save(segmentation.labelmap_kji, segmentation.volume, target, provenance, segmentation.statistics())
        _draw(segmentation, drawn)

    _write_with_room(write, output, segmentation.labelmap_kji.nbytes)
    return _relative({"segmentation": target, "recipe": provenance_path(target), **drawn}, output)


def draw_pictures(segmentation: Segmentation, output: Path, case: str, pictures: Collection[str]) -> dict[str, str]:
    """Draw pictures of a segmentation whose labelmap is stored.

    Returns:
        Their paths by kind, relative to the output folder.
    Raises:
        BatchError, SAMLungSegError, OSError: as `write_outputs`.
    """
    drawn = _picture_files(output, case, pictures)
    _write_with_room(lambda: _draw(segmentation, drawn), output, segmentation.labelmap_kji.nbytes)
    return _relative(drawn, output)


def has_results(output: Path, files: Mapping[str, str]) -> bool:
    """Whether what pictures are drawn of is there.

    Args:
        output: folder of the run.
        files: of a case by kind, relative to it.
    """
    return all((output / file).is_file() for kind, file in files.items() if kind not in PICTURES)


def has_pictures(output: Path, files: Mapping[str, str], pictures: Collection[str]) -> bool:
    """Whether the pictures among the files of a case are there, and with them those that are wanted."""
    drawn = [file for kind, file in files.items() if kind in PICTURES]
    return files.keys() >= {*pictures} and all((output / file).is_file() for file in drawn)


def _picture_files(output: Path, case: str, pictures: Collection[str]) -> dict[str, Path]:
    return {kind: output / PICTURES[kind] / f"{case}.png" for kind in pictures}


def _relative(files: dict[str, Path], output: Path) -> dict[str, str]:
    return {kind: path.relative_to(output).as_posix() for kind, path in files.items()}


def _write_with_room(write: Callable[[], None], output: Path, size_bytes: int) -> None:
    """Write, a second time where the room was gone for a moment."""
    size_bytes = min(size_bytes, _LARGEST_PROBE_BYTES)
    for is_last in (False, True):
        try:
            write()
            return
        except (SAMLungSegError, OSError) as error:
            if not has_room(output, size_bytes):
                raise BatchError(
                    f"No more results can be written to {output} ({error}); make room, and give the same command again "
                    "to go on where it stopped."
                ) from error
            if is_last or not isinstance(error, OutputError):
                raise  # else somebody has removed a folder or taken the room for a moment


def _draw(segmentation: Segmentation, files: dict[str, Path]) -> None:
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    if "overlay" in files:
        write_thumbnail(segmentation, files["overlay"])
    if "full_overlay" in files:
        write_overlay(segmentation, files["full_overlay"], title=files["full_overlay"].stem)
