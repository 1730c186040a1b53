"""The files of a case, and telling a case that cannot be written from a folder that takes no more."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from SAMLungSegLib.batch.settings import BatchError
from SAMLungSegLib.errors import OutputError, SAMLungSegError
from SAMLungSegLib.files import has_room
from SAMLungSegLib.files import remove_leftovers as remove_leftovers_of
from SAMLungSegLib.overlays import write_overlay, write_thumbnail
from SAMLungSegLib.pipeline import Segmentation
from SAMLungSegLib.provenance import Provenance, provenance_path, save

SEGMENTATIONS, OVERLAYS, FULL_OVERLAYS = "segmentations", "overlays", "overlays/full"

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
    files = {"segmentation": target, "recipe": provenance_path(target)}
    places = {"overlay": OVERLAYS, "full_overlay": FULL_OVERLAYS}
    files |= {kind: output / places[kind] / f"{case}.png" for kind in pictures}
    size_bytes = min(segmentation.labelmap_kji.nbytes, _LARGEST_PROBE_BYTES)
    for is_last in (False, True):
        try:
            _write(segmentation, provenance, files)
            break
        except (SAMLungSegError, OSError) as error:
            if not has_room(output, size_bytes):
                raise BatchError(
                    f"No more results can be written to {output} ({error}); make room, and give the same command again "
                    "to go on where it stopped."
                ) from error
            if is_last or not isinstance(error, OutputError):
                raise  # else somebody has removed a folder or taken the room for a moment
    return {kind: path.relative_to(output).as_posix() for kind, path in files.items()}


def _write(segmentation: Segmentation, provenance: Provenance, files: dict[str, Path]) -> None:
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    save(
        segmentation.labelmap_kji,
        segmentation.volume,
        files["segmentation"],
        provenance,
        segmentation.statistics(),
    )
    if "overlay" in files:
        write_thumbnail(segmentation, files["overlay"])
    if "full_overlay" in files:
        write_overlay(segmentation, files["full_overlay"], title=files["full_overlay"].stem)
