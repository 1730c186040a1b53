"""The abdominal slices of the CURVAS challenge as the studies read them: three readers, each with slices of its own.

Masks draw 1 pancreas, 2 both kidneys, 3 liver; a kidney is right or left by the half of the picture that it lies in,
so that a point means one of them. The folder holds images/ and masks_rater1/, masks_rater2/ and masks_rater3/, windowed
to 8 bit; a file is named after patient and slice, as 10001_394.png. CURVAS challenge, MICCAI 2024, CC BY-NC 4.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.training.data.cases import IMAGES, StudyCase
from SAMLungSegLib.training.data.organs import DrawnOrgans
from SAMLungSegLib.volume import Volume, image_name
from SAMLungSegLib.volume.folders import images_in

PANCREAS, KIDNEYS, LIVER = 1, 2, 3  # in masks
READERS = "masks_rater*"
SPLIT = {  # of the seven patients the three with most slices are learned from
    "10001": "training",
    "10005": "training",
    "10011": "training",
    "10007": "held_out",
    "10003": "validation",
    "10012": "held_out",
    "10013": "held_out",
}


@dataclass(frozen=True)
class CurvasOrgans(DrawnOrgans):
    """The organs of a mask, with right and left kidney."""

    keys: tuple[str, ...] = ("pancreas", "right_kidney", "left_kidney", "liver")

    def codes(self, mask: Volume) -> np.ndarray:
        """Uint8 of the mask's size: 1 pancreas, 2 right kidney, 3 left kidney, 4 liver."""
        values = mask.array_kji
        parts, count = ndimage.label(values == KIDNEYS, np.ones((3, 3, 3)))
        middles = ndimage.center_of_mass(parts > 0, parts, range(1, count + 1))
        is_left = np.array([False, *(column > (values.shape[-1] - 1) / 2 for _, _, column in middles)])
        sides = np.where(is_left[parts], 3, 2)  # the patient's right is at the left of the pictures
        return np.select([values == PANCREAS, values == KIDNEYS, values == LIVER], [1, sides, 4], 0).astype(np.uint8)

    def others(self, mask: Volume) -> tuple[int, ...]:
        """None: the challenge has no other labels."""
        return ()


def is_curvas(folder: Path) -> bool:
    """Whether a folder is laid out like that."""
    return (folder / IMAGES).is_dir() and any(one.is_dir() for one in folder.glob(READERS))


def curvas_cases(folder: Path) -> list[StudyCase]:
    """Its slices, each with the mask of its reader, its patient and its part.

    Raises:
        VolumeError: an image has no mask or several, or is of a patient whose part is not known.
    """
    masks: dict[str, list[Path]] = {}
    for reader in sorted(folder.glob(READERS)):
        for path in images_in(reader):
            masks.setdefault(image_name(path), []).append(path)
    cases = []
    for image in images_in(folder / IMAGES):
        name = image_name(image)
        patient, own = name.partition("_")[0], masks.get(name, [])
        if len(own) != 1 or patient not in SPLIT:
            raise VolumeError(
                f"{image} has {len(own)} masks in {folder / READERS} and is of patient '{patient}'; each slice has one "
                f"mask, of one of the patients {', '.join(SPLIT)}. List other sets in a manifest."
            )
        cases.append(
            StudyCase(
                folder.name, name, image, own[0], "CT", patient=patient, split=SPLIT[patient], organs=CurvasOrgans()
            )
        )
    return cases
