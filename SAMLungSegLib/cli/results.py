"""What `segment` and `demo` share: segmenting with a progress bar, pictures, one line about the result."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from SAMLungSegLib.structures import lungs_of_extent

if TYPE_CHECKING:  # the command line starts at once: what is heavy is imported where it is used
    from SAMLungSegLib.models.base import PromptableModel
    from SAMLungSegLib.pipeline import Options, Segmentation
    from SAMLungSegLib.volume import Volume

logger = logging.getLogger(__name__)

MODALITY_TITLES = {"CT": "CT", "XRAY": "X-ray"}


def segment_with_bar(volume: Volume, model: PromptableModel, options: Options) -> Segmentation:
    """`segment_volume` with a progress bar that shows rate and remaining time."""
    from SAMLungSegLib.pipeline import segment_volume

    with tqdm(desc=volume.name, unit="slice", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return segment_volume(volume, model, options, progress=show)


def overlay_path(folder: Path, name: str) -> Path:
    """Where the picture of image `name` goes."""
    return folder / f"{name}_lungs_overlay.png"


def draw_overlay(segmentation: Segmentation, folder: Path, options: Options) -> Path:
    """Write `<name>_lungs_overlay.png`: slices with the outlines of both lungs, and the prompts that were given."""
    from SAMLungSegLib.evaluation import overlay_sheet

    name = segmentation.volume.name
    height, width = segmentation.plane.spacing_hw_mm
    picture = overlay_path(folder, name)
    overlay_sheet(
        picture,
        segmentation.grey_nhw,
        segmentation.labelmap_nhw,
        title=name,
        aspect=height / width,
        prompts=options.prompts.by_slice(segmentation.plane, segmentation.volume),
        others="hidden lung" if segmentation.extent == "both" else "lung",
    )
    logger.info("Written: %s", picture)
    return picture


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
