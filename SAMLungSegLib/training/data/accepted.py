"""Slices that a person has accepted, as images and masks to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from SAMLungSegLib.files import writable_folder
from SAMLungSegLib.interaction.locks import Place, numbers_with_lung
from SAMLungSegLib.modality import Modality, recognise_modality
from SAMLungSegLib.structures import LEFT_LUNG
from SAMLungSegLib.training.data.cases import IMAGES, MASKS, StudyCase
from SAMLungSegLib.training.data.splits import FEWEST_IMAGES
from SAMLungSegLib.volume import Volume, axial_plane, write_labelmap
from SAMLungSegLib.volume.writing import write_volume


@dataclass(frozen=True, eq=False)
class AcceptedSlices:
    """Of one volume.

    Attributes:
        volume: the image.
        labelmap_kji: uint8 on its grid, 1 right, 2 left lung; other values are ignored.
        numbers: of the accepted slices, as `axial_plane` displays the volume.
        modality: None to ask the volume.
    """

    volume: Volume
    labelmap_kji: np.ndarray
    numbers: Sequence[int]
    modality: Modality | None = None


def are_many(volumes: int) -> bool:
    """Whether there are enough volumes to hold whole ones out; else neighbouring slices are on both sides."""
    return volumes >= FEWEST_IMAGES


def write_cases(accepted: Sequence[AcceptedSlices], folder: Path) -> list[StudyCase]:
    """Write each slice as an image and a mask of its own, with its place in the patient.

    Where there are enough volumes, the slices of one stay together in one part of the split, as those of a patient do.

    Args:
        accepted: of several volumes.
        folder: gets the folders 'images' and 'masks'.
    Raises:
        OutputError: a file cannot be written.
    """
    for name in (IMAGES, MASKS):
        writable_folder(folder / name)
    cases = [
        case for number, one in enumerate(accepted, start=1) for case in _cases_of(one, f"volume{number:03d}", folder)
    ]
    if are_many(len({case.patient for case in cases})):
        return cases
    return [replace(case, patient="") for case in cases]


def _cases_of(one: AcceptedSlices, prefix: str, folder: Path) -> list[StudyCase]:
    plane = axial_plane(one.volume)
    modality = one.modality or recognise_modality(one.volume).modality
    lungs_kji = np.where(one.labelmap_kji <= LEFT_LUNG, one.labelmap_kji, 0)
    cases = []
    for number in numbers_with_lung(lungs_kji, one.numbers, plane):
        place = Place.of(plane, number)
        name = f"{prefix}_slice{number:04d}"
        image, mask = folder / IMAGES / f"{name}.nrrd", folder / MASKS / f"{name}.nrrd"
        write_volume(slice_of(one.volume, place), image)
        slice_labels = slice_of(replace(one.volume, array_kji=lungs_kji), place)
        write_labelmap(slice_labels.array_kji, slice_labels, mask)
        cases.append(StudyCase(folder.name, name, image, mask, modality, patient=prefix))
    return cases


def slice_of(volume: Volume, place: Place) -> Volume:
    """One slice as a volume of its own, at its place in the patient."""
    array_kji = np.expand_dims(volume.array_kji[place.where], place.axis)
    ijk_to_ras = volume.ijk_to_ras.copy()
    ijk_to_ras[:, 3] += volume.ijk_to_ras[:, 2 - place.axis] * place.position
    return replace(volume, array_kji=np.ascontiguousarray(array_kji), ijk_to_ras=ijk_to_ras)
