"""Results of segmenting: what their files are called, which formats fit, how large the lungs are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.errors import SettingsError

if TYPE_CHECKING:  # the command line starts at once: what is heavy is imported where it is used
    import numpy as np

    from SAMLungSegLib.volume import Volume

FORMATS = ("seg.nrrd", "nrrd", "nii.gz", "png")


def default_format(path: Path) -> str:
    """PNG for flat pictures, otherwise Slicer's segmentation."""
    from SAMLungSegLib.volume.formats import PICTURE_EXTENSIONS

    return "png" if path.suffix.lower() in PICTURE_EXTENSIONS and not path.is_dir() else "seg.nrrd"


def check_format(volume: Volume, extension: str) -> None:
    """Refuse a format that cannot hold the result, before the work is done.

    Raises:
        SettingsError: PNG for more than one slice.
    """
    if extension == "png" and 1 not in volume.size_kji:
        raise SettingsError(
            f"PNG holds one slice and {volume.name} has several; give seg.nrrd, nrrd or nii.gz as format."
        )


def result_path(image: Path, folder: Path, extension: str | None = None) -> Path:
    """The file in `folder` that the lungs of an image go to; the format is `default_format` where none is given."""
    from SAMLungSegLib.volume import image_name

    return folder / f"{image_name(image)}_lungs.{extension or default_format(image)}"


def lung_volumes_ml(labelmap_kji: np.ndarray, volume: Volume) -> tuple[float, float] | None:
    """Right and left lung in millilitres; None where the image is flat or a distance in it is not known in mm."""
    import numpy as np

    from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG

    if 1 in volume.size_kji or not volume.has_physical_spacing:
        return None
    right, left = (np.count_nonzero(labelmap_kji == label) * volume.voxel_ml for label in (RIGHT_LUNG, LEFT_LUNG))
    return right, left
