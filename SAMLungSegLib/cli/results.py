"""What subcommands with results share: where these may go, a progress bar, pictures, one line about the lungs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from SAMLungSegLib.errors import OutputError
from SAMLungSegLib.files import check_name_fits, real_path
from SAMLungSegLib.structures import lungs_of_extent

if TYPE_CHECKING:  # the command line starts at once: what is heavy is imported where it is used
    from SAMLungSegLib.models.base import PromptableModel
    from SAMLungSegLib.pipeline import Options, Segmentation
    from SAMLungSegLib.volume import Volume

MODALITY_TITLES = {"CT": "CT", "XRAY": "X-ray"}


def segment_with_bar(volume: Volume, model: PromptableModel, options: Options) -> Segmentation:
    """`segment_volume` with a progress bar that shows rate and remaining time."""
    from SAMLungSegLib.pipeline import segment_volume

    with tqdm(desc=volume.name, unit="slice", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return segment_volume(volume, model, options, progress=show)


def check_targets(targets: Sequence[Path], image: Path, *, overwrite: bool) -> None:
    """Refuse results that would replace something, or that no file can be called.

    Raises:
        OutputError: one would replace the image, or a file that is there, or has a name that no file can have.
    """
    for path in targets:
        check_name_fits(path)
        if real_path(path) == real_path(image):
            raise OutputError(f"The result would replace the input {path}; use another folder.")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists already; add --overwrite to replace it, or use another folder.")


def overlay_path(folder: Path, name: str) -> Path:
    """Where the picture of image `name` goes."""
    return folder / f"{name}_lungs_overlay.png"


def draw_overlay(segmentation: Segmentation, folder: Path) -> Path:
    """Write `<name>_lungs_overlay.png`, see `write_overlay`."""
    from SAMLungSegLib.overlays import write_overlay

    return write_overlay(segmentation, overlay_path(folder, segmentation.volume.name))


def describe(segmentation: Segmentation) -> str:
    """Modality, volumes of the lungs in ml, or areas in cm2 or pixels, and the cardiothoracic ratio of an X-ray."""
    from SAMLungSegLib.cardiothoracic import ratio_if_measurable

    title = MODALITY_TITLES[segmentation.modality]
    numbers = segmentation.statistics()
    sizes = {row.key: round(row.size) for row in numbers.rows}
    if not any(row.voxels for row in numbers.rows):
        return f"{title}, no lung found"
    unit = "pixels" if numbers.unit == "px" else numbers.unit
    parts = [f"{one.name} {sizes.get(one.key, 0)} {unit}" for one in lungs_of_extent(segmentation.extent).structures]
    ratio = ratio_if_measurable(segmentation.labelmap, segmentation.modality)
    heart = [] if ratio is None else [f"cardiothoracic ratio {ratio:.2f}"]
    return ", ".join([title, *parts, *heart])
