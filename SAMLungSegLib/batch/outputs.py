"""The files of a case, and telling a case that cannot be written from a folder that takes no more."""

from __future__ import annotations

from pathlib import Path

from SAMLungSegLib.batch.settings import BatchError
from SAMLungSegLib.batch.thumbnails import draw_thumbnail
from SAMLungSegLib.errors import OutputError, SAMLungSegError
from SAMLungSegLib.files import has_room
from SAMLungSegLib.files import remove_leftovers as remove_leftovers_of
from SAMLungSegLib.pipeline import Segmentation, prompts_by_slice
from SAMLungSegLib.replay import Recipe, recipe_path, save

SEGMENTATIONS, OVERLAYS = "segmentations", "overlays"

_LARGEST_PROBE_BYTES = 1 << 26


def remove_leftovers(output: Path) -> None:
    """Delete what a run that was killed had begun to write."""
    for folder in (output, output / SEGMENTATIONS, output / OVERLAYS):
        remove_leftovers_of(folder)


def write_outputs(
    segmentation: Segmentation, recipe: Recipe, output: Path, case: str, extension: str, overlay: bool
) -> dict[str, str]:
    """Write labelmap, recipe and picture, each whole or not at all.

    Returns:
        Their paths by kind, relative to the output folder.
    Raises:
        BatchError: the folder takes no more: the disk is full, or it is gone or not writable.
        SAMLungSegError, OSError: this labelmap cannot be written.
    """
    target = output / SEGMENTATIONS / f"{case}_lungs.{extension}"
    files = {"segmentation": target, "recipe": recipe_path(target)}
    if overlay:
        files["overlay"] = output / OVERLAYS / f"{case}.png"
    size_bytes = min(segmentation.labelmap_kji.nbytes, _LARGEST_PROBE_BYTES)
    for is_last in (False, True):
        try:
            _write(segmentation, recipe, files)
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


def _write(segmentation: Segmentation, recipe: Recipe, files: dict[str, Path]) -> None:
    for path in files.values():
        path.parent.mkdir(exist_ok=True)
    save(segmentation, files["segmentation"], recipe)
    if "overlay" in files:
        prompts = prompts_by_slice(recipe.options, segmentation.plane, segmentation.volume)
        draw_thumbnail(segmentation, files["overlay"], prompts)
