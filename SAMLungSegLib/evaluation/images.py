"""Grey images behind the slices that a report draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.evaluation.grids import fits_display
from SAMLungSegLib.evaluation.measure import WORST_KEPT, Evaluation, lowest_slices, with_distinct_names
from SAMLungSegLib.intensity import to_grey
from SAMLungSegLib.modality import recognise_modality
from SAMLungSegLib.volume import Volume, axial_plane, read_volume

Images = Mapping[str, "Volume | Path | str"]


def with_images(evaluations: Sequence[Evaluation], images: Images, *, worst: int = WORST_KEPT) -> list[Evaluation]:
    """Put the images of cases behind their worst slices; what cannot be drawn is noted.

    Args:
        evaluations: of all cases.
        images: grey image or its path by case name, on the reference's grid; only those that are needed are read.
        worst: number of slices that will be drawn.
    """
    evaluations = with_distinct_names(evaluations)
    drawn = {one.volume for one in lowest_slices(evaluations, worst)}
    return [_with_image(one, images.get(one.name)) if one.name in drawn else one for one in evaluations]


def _with_image(one: Evaluation, image: Volume | Path | str | None) -> Evaluation:
    if image is None:
        return _noted(one, "No image was given for its slices: drawn without one.")
    try:
        volume = image if isinstance(image, Volume) else read_volume(image)
        plane, is_physical = axial_plane(volume), volume.has_physical_spacing and one.has_physical_spacing
        if one.plane is not None and not fits_display(one.plane, plane, is_physical=is_physical):
            return _noted(one, f"Image {volume.name} is not on the grid of {one.name}; drawn without it.")
        grey = plane.to_display(to_grey(volume, recognise_modality(volume).modality))
    except SAMLungSegError as error:  # the measurements are worth more than the background of a picture
        return _noted(one, f"Drawn without its image: {error}")
    return replace(one, worst=tuple(replace(each, image_hw=np.array(grey[each.number])) for each in one.worst))


def _noted(one: Evaluation, note: str) -> Evaluation:
    return replace(one, notes=(*one.notes, note))
