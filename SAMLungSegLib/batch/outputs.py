"""The files of a case, and telling a case that cannot be written from a folder that takes no more."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.image import imsave
from scipy import ndimage

from SAMLungSegLib.batch.settings import BatchError
from SAMLungSegLib.errors import OutputError, SAMLungSegError
from SAMLungSegLib.evaluation.figures import BOX_COLOUR, NEGATIVE_POINT, POSITIVE_POINT, Prompts, shown_slices
from SAMLungSegLib.files import has_room, write_bytes
from SAMLungSegLib.files import remove_leftovers as remove_leftovers_of
from SAMLungSegLib.pipeline import Segmentation
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt
from SAMLungSegLib.provenance import Provenance, provenance_path, save
from SAMLungSegLib.structures import LEFT_LUNG, LUNGS_WITH_HIDDEN, RIGHT_LUNG

SEGMENTATIONS, OVERLAYS = "segmentations", "overlays"

_LARGEST_PROBE_BYTES = 1 << 26


def remove_leftovers(output: Path) -> None:
    """Delete what a run that was killed had begun to write."""
    for folder in (output, output / SEGMENTATIONS, output / OVERLAYS):
        remove_leftovers_of(folder)


def write_outputs(
    segmentation: Segmentation, provenance: Provenance, output: Path, case: str, extension: str, overlay: bool
) -> dict[str, str]:
    """Write labelmap, provenance record and picture, each whole or not at all.

    Returns:
        Their paths by kind, relative to the output folder.
    Raises:
        BatchError: the folder takes no more: the disk is full, or it is gone or not writable.
        SAMLungSegError, OSError: this labelmap cannot be written.
    """
    target = output / SEGMENTATIONS / f"{case}_lungs.{extension}"
    files = {"segmentation": target, "recipe": provenance_path(target)}
    if overlay:
        files["overlay"] = output / OVERLAYS / f"{case}.png"
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
        path.parent.mkdir(exist_ok=True)
    save(
        segmentation.labelmap_kji,
        segmentation.volume,
        files["segmentation"],
        provenance,
        segmentation.statistics(),
    )
    if "overlay" in files:
        prompts = provenance.options.prompts.by_slice(segmentation.plane, segmentation.volume)
        draw_thumbnail(segmentation, files["overlay"], prompts)


COLOURS = {RIGHT_LUNG: (86, 180, 233), LEFT_LUNG: (230, 159, 0)}  # Okabe and Ito's, as in the overlays of `segment`

_TILE = 256
_AXIAL_TILES, _MOST_AXIAL_TILES = 3, 6
_ARM = 4  # pixels of a point's sign on either side of its middle
_QUICKLY = 2  # of PNG's levels of compression: as small as the usual one to a tenth, in a third of the time


def draw_thumbnail(segmentation: Segmentation, path: Path, prompts: Mapping[int, Prompts] | None = None) -> None:
    """Write a PNG: an X-ray or slice, or three axial slices and the coronal one with most lung.

    Prompts are drawn as in the overlays of `segment`; slices with points take the place of others, up to six.

    The patient's right is at the left.

    Raises:
        OutputError: it cannot be written.
    """
    tiles = [_tile(*one) for one in _views(segmentation, prompts or {})]
    content = io.BytesIO()
    imsave(content, np.concatenate(tiles, axis=1), format="png", pil_kwargs={"compress_level": _QUICKLY})
    write_bytes(content.getvalue(), path)


def _views(
    segmentation: Segmentation, prompts: Mapping[int, Prompts]
) -> list[tuple[np.ndarray, np.ndarray, tuple[float, float], Prompts]]:
    """Grey slice, its labels, the size of its pixels in mm, and its prompts."""
    grey, labels = segmentation.grey_nhw, segmentation.labelmap_nhw
    plane = segmentation.plane
    if len(grey) == 1:
        return [(grey[0], labels[0], plane.spacing_hw_mm, prompts.get(0, ()))]
    numbers = shown_slices(labels, _AXIAL_TILES, prompts, most=_MOST_AXIAL_TILES)
    row = int(np.count_nonzero(labels, axis=(0, 2)).argmax()) or grey.shape[1] // 2
    coronal = (grey[::-1, row], labels[::-1, row], (plane.slice_spacing_mm, plane.spacing_hw_mm[1]), ())
    axial = [(grey[number], labels[number], plane.spacing_hw_mm, prompts.get(number, ())) for number in numbers]
    return [*axial, coronal]


def _tile(
    grey_hw: np.ndarray, labels_hw: np.ndarray, spacing_hw_mm: tuple[float, float], prompts: Prompts
) -> np.ndarray:
    """Uint8 (256, 256, 3) with the slice in it as large as fits."""
    size_mm = np.array(grey_hw.shape) * spacing_hw_mm
    height, width = np.maximum(1, (size_mm / size_mm.max() * _TILE).round().astype(int))
    fine = _sampled(grey_hw, (2 * height, 2 * width)).reshape(height, 2, width, 2)
    small = np.repeat(fine.mean(axis=(1, 3)).astype(np.uint8)[..., None], 3, axis=2)
    labels = _sampled(labels_hw, (height, width))
    for label, structure in LUNGS_WITH_HIDDEN:
        mask = labels == label
        small[mask & ~ndimage.binary_erosion(mask)] = COLOURS[RIGHT_LUNG if structure.side == "right" else LEFT_LUNG]
    for one in prompts:
        _draw_prompt(small, one, (width / grey_hw.shape[1], height / grey_hw.shape[0]))
    tile = np.zeros((_TILE, _TILE, 3), np.uint8)
    top, left = (_TILE - height) // 2, (_TILE - width) // 2
    tile[top : top + height, left : left + width] = small
    return tile


def _draw_prompt(picture: np.ndarray, prompt: PointPrompt | BoxPrompt, scale_xy: tuple[float, float]) -> None:
    """Draw a prompt, given in pixels of the slice, into its picture (H, W, 3)."""
    if isinstance(prompt, BoxPrompt):
        left, top, right, bottom = (int((place + 0.5) * scale_xy[index % 2]) for index, place in enumerate(prompt.xyxy))
        across = ((left, top, right, top), (left, bottom, right, bottom))
        for place in (*across, (left, top, left, bottom), (right, top, right, bottom)):
            _fill(picture, place, BOX_COLOUR)
        return
    x, y = (int((place + 0.5) * scale) for place, scale in zip(prompt.xy, scale_xy, strict=True))
    arms = [(x - _ARM, y, x + _ARM, y), (x, y - _ARM, x, y + _ARM)][: 2 if prompt.positive else 1]
    for margin, colour in ((2, "white"), (1, (POSITIVE_POINT if prompt.positive else NEGATIVE_POINT)["color"])):
        for arm in arms:
            _fill(picture, arm, colour, margin)


def _fill(picture: np.ndarray, place_xyxy: tuple[int, int, int, int], colour: str, margin: int = 0) -> None:
    """Paint a rectangle, its last column and row included, as far as it lies in the picture."""
    left, top, right, bottom = place_xyxy
    rows = slice(max(0, top - margin), max(0, bottom + margin + 1))
    columns = slice(max(0, left - margin), max(0, right + margin + 1))
    picture[rows, columns] = np.round(np.array(to_rgb(colour)) * 255)


def _sampled(array_hw: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The array at another size, by the nearest pixel."""
    rows, columns = (
        ((np.arange(wanted) + 0.5) * side / wanted).astype(int)
        for side, wanted in zip(array_hw.shape, size_hw, strict=True)
    )
    return array_hw[rows[:, None], columns]
