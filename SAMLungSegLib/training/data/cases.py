"""Images with their references: grey slices beside label slices."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from SAMLungSegLib.errors import IntensityError, VolumeError
from SAMLungSegLib.evaluation.grids import on_grid_of
from SAMLungSegLib.evaluation.pairs import case_name, pair_files
from SAMLungSegLib.evaluation.sides import SIDELESS, side_codes
from SAMLungSegLib.intensity import WINDOW_PRESETS, GreyMapping, Window, grey_mapping, parse_window
from SAMLungSegLib.masks import split_sides
from SAMLungSegLib.modality import Modality, recognise_modality
from SAMLungSegLib.models.capabilities import COMPACT, Capabilities
from SAMLungSegLib.models.checkpoints import file_sha256
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG
from SAMLungSegLib.training.data.organs import DrawnOrgans
from SAMLungSegLib.volume import Volume, axial_plane, given_name, image_name, read_volume
from SAMLungSegLib.volume.folders import files_of, images_in
from SAMLungSegLib.volume.telling import tell_labels

logger = logging.getLogger(__name__)

IMAGES, MASKS = "images", "masks"
MANIFEST = "manifest_more.csv"
MASK_IGNORED = 2  # in masks of whole lungs: a device, of which nobody knows what it hides
_LABELS_OF_SETS = {"cxr_v7_covid": (("both", (1,)),)}  # 2 is `MASK_IGNORED` there, not the left lung
PAPER_WINDOW = "paper"
_PREFIXES: dict[str, Modality] = {"ct": "CT", "cxr": "XRAY", "xray": "XRAY"}
_MOST_LUNG_LABELS = 2
_ONE_LUNG_SHARE = 0.05  # of a mask beyond the slice's middle, below which all of it is one lung


@dataclass(frozen=True)
class Windowing:
    """How the slices of a CT become 8-bit grey; X-rays are seen as everywhere, see `intensity.to_grey`.

    Attributes:
        window: what is cut off.
        stretched: whether the lowest and highest value of each slice become 0 and 255 after that, as in the zero-shot
            study (Gutiérrez et al. 2024, doi:10.1109/ACCESS.2024.3353142).
    """

    window: Window = WINDOW_PRESETS["lung"]
    stretched: bool = False

    @classmethod
    def parse(cls, text: str, capabilities: Capabilities = COMPACT) -> Windowing:
        """From 'auto', 'paper' or what `intensity.parse_window` reads.

        'paper' is level -650, width 1500, stretched. 'auto' is that for models that were not trained on CT, and for
        others the window that they were trained with.

        Raises:
            IntensityError: none of these.
        """
        if text == "auto":
            text = PAPER_WINDOW if capabilities.window is None else capabilities.window
        if text == PAPER_WINDOW:
            return cls(WINDOW_PRESETS["lung-zero-shot"], stretched=True)
        try:
            return cls(parse_window(text))
        except IntensityError as error:
            raise IntensityError(f"{error} 'auto' and '{PAPER_WINDOW}' are possible, too.") from None

    def apply(self, values_nhw: np.ndarray, modality: Modality) -> np.ndarray:
        """Uint8 (N, H, W) of stored values.

        Raises:
            IntensityError: as `intensity.to_grey`.
        """
        mapping = grey_mapping(values_nhw, modality, self.window)
        if modality == "CT" and self.stretched:
            return np.stack([_stretched(values_hw, mapping) for values_hw in values_nhw])
        return mapping.apply(values_nhw)


def _stretched(values_hw: np.ndarray, mapping: GreyMapping) -> np.ndarray:
    levels = np.nan_to_num(values_hw.astype(np.float32), nan=mapping.black)
    levels = np.clip(levels, mapping.black, mapping.white)
    low, high = float(levels.min()), float(levels.max())
    if low == high:
        return np.zeros(values_hw.shape, np.uint8)
    return np.rint((levels - low) * (255 / (high - low))).astype(np.uint8)


@dataclass(frozen=True)
class StudyCase:
    """One image and its reference.

    Attributes:
        subset: name of the set that it belongs to.
        name: of the image, without extension.
        image, mask: the files, or folders of one DICOM series.
        modality: 'CT', 'XRAY', or None to guess it when it is read.
        labels: label values of the mask by side, see `evaluation.sides.side_codes`; empty where it tells them itself.
        weight: how often it is drawn in a training, relative to the others.
        patient: whose image it is; empty where nobody says.
        split: the part that it belongs to, see `training.data.splits.PARTS`; empty to draw it.
        organs: that the mask draws; None for lungs.
    """

    subset: str
    name: str
    image: Path
    mask: Path
    modality: Modality | None = None
    labels: tuple[tuple[str, tuple[int, ...]], ...] = ()
    weight: float = 1.0
    patient: str = ""
    split: str = ""
    organs: DrawnOrgans | None = None

    @property
    def id(self) -> str:
        """Names the case among all of a study."""
        return f"{self.subset}/{self.name}"

    def read(self, windowing: Windowing | None = None) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Slices of the axial plane in display orientation, inferior to superior; a picture is one slice.

        References that tell 1 from 2 are kept as they are, whichever lung is meant. In any other, all positive values
        are lung, and each slice is split by position; a slice with lung on one side of its middle only keeps a single
        label.

        Args:
            windowing: how slices become 8-bit; the lung window by default.
        Returns:
            Grey slices, uint8 (H, W) each, and label slices, uint8 (H, W) each: 1 right and 2 left lung.
        Raises:
            VolumeError, GeometryError: a file cannot be read, or the mask is on another grid.
            IntensityError: as `Windowing.apply`.
        """
        return self.read_as_seen(windowing)[:2]

    def read_as_seen(self, windowing: Windowing | None = None) -> tuple[list[np.ndarray], list[np.ndarray], Modality]:
        """As `read`, and their modality.

        Raises:
            VolumeError: also where the mask draws other organs.
        """
        if self.organs is not None:
            raise VolumeError(
                f"The mask of {self.id} draws {', '.join(self.organs.keys)}; only 'samlungseg adapt' learns "
                "organs, all else lungs: leave out the organs."
            )
        slices, labels, modality = self._displayed(windowing, self._lung_codes)
        if not _tells_sides(np.stack(labels)):
            labels = [_with_sides(labels_hw > 0) for labels_hw in labels]
        return slices, labels, modality

    def read_organs(self, windowing: Windowing | None = None) -> tuple[list[np.ndarray], list[np.ndarray], Modality]:
        """As `read_as_seen`, but labels are the places of the case's organs, from 1; of lungs 1 right, 2 left.

        Where a mask does not tell the lungs, the only one of a slice is that of the side where it lies.

        Raises:
            VolumeError, GeometryError, IntensityError: as `read`.
        """
        organs = self.organs
        if organs is not None:

            def codes_of(mask: Volume) -> np.ndarray:
                tell_labels(logger, mask.name, organs.others(mask), "are none of the organs and taken as background")
                return organs.codes(mask)

            return self._displayed(windowing, codes_of)
        slices, labels, modality = self.read_as_seen(windowing)
        return slices, [_of_the_side(labels_hw) for labels_hw in labels], modality

    def _lung_codes(self, mask: Volume) -> np.ndarray:
        codes, guessed = side_codes(mask, dict(self.labels) or None)
        if len(guessed) > _MOST_LUNG_LABELS:
            tell_labels(
                logger,
                mask.name,
                guessed,
                "are all taken as lung; if they are organs, say which in the manifest's column 'organs' or by --organs",
            )
        return codes

    def _displayed(
        self, windowing: Windowing | None, codes_of: Callable[[Volume], np.ndarray]
    ) -> tuple[list[np.ndarray], list[np.ndarray], Modality]:
        image, mask = read_volume(self.image), read_volume(self.mask)
        labels_kji, _ = on_grid_of(image, mask, codes_of(mask))
        plane, modality = axial_plane(image), self.modality or recognise_modality(image).modality
        greys_nhw = (windowing or Windowing()).apply(plane.to_display(image.array_kji), modality)
        labels_nhw = plane.to_display(labels_kji)
        slices, labels = ([np.ascontiguousarray(one) for one in planes] for planes in (greys_nhw, labels_nhw))
        return slices, labels, modality


def _tells_sides(codes: np.ndarray) -> bool:
    return bool((codes == RIGHT_LUNG).any() and (codes == LEFT_LUNG).any() and not (codes == SIDELESS).any())


def _with_sides(mask_hw: np.ndarray) -> np.ndarray:
    """Uint8 (H, W) of a bool mask of both lungs or of one."""
    if not mask_hw.any():
        return mask_hw.astype(np.uint8)
    fraction = np.count_nonzero(mask_hw[:, : mask_hw.shape[1] // 2]) / np.count_nonzero(mask_hw)
    if min(fraction, 1 - fraction) < _ONE_LUNG_SHARE:
        return mask_hw.astype(np.uint8)
    return split_sides(mask_hw)


def _of_the_side(labels_hw: np.ndarray) -> np.ndarray:
    """The labels of a slice, but the left lung's where all lung is labelled right and lies in its right half."""
    lung = labels_hw > 0
    columns = np.nonzero(lung)[1]
    is_left = (labels_hw[lung] == RIGHT_LUNG).all() and columns.size and columns.mean() > (lung.shape[1] - 1) / 2
    return np.where(lung, np.uint8(LEFT_LUNG), np.uint8(0)) if is_left else labels_hw


def study_cases(data: Path, modality: Modality | None = None) -> list[StudyCase]:
    """The images of a study.

    Args:
        data: a folder with 'images' and 'masks', where files are paired by name; a folder of such folders, one for each
            subset; or a folder that holds images and masks side by side, named as case7.nii.gz and case7_mask.nii.gz. A
            sub-folder of DICOM files is an image, too.
        modality: of all images; None to take it from the subset's name ('ct...', 'cxr...') or to guess it.
    Returns:
        Cases in the order of subset and name.
    Raises:
        VolumeError: there is no such folder, it holds no pairs, or an image is without a partner.
    """
    if not data.is_dir():
        raise VolumeError(f"{data} is not a folder; give one that holds the folders '{IMAGES}' and '{MASKS}'.")
    folders = [data] if _is_set(data) else sorted(child for child in data.iterdir() if _is_set(child))
    if folders:
        return [case for folder in folders for case in _of_set(folder, modality)]
    return _side_by_side(data, modality)


def first_of_each(cases: Sequence[StudyCase], limit: int | None) -> list[StudyCase]:
    """The first `limit` cases of each subset; all of them if it is None."""
    if limit is None:
        return list(cases)
    by_set: dict[str, list[StudyCase]] = {}
    for case in cases:
        by_set.setdefault(case.subset, []).append(case)
    return [case for some in by_set.values() for case in some[:limit]]


def _is_set(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in (IMAGES, MASKS))


def _of_set(folder: Path, modality: Modality | None) -> list[StudyCase]:
    return _paired(folder, images_in(folder / IMAGES), images_in(folder / MASKS), modality)


def _side_by_side(folder: Path, modality: Modality | None) -> list[StudyCase]:
    files = images_in(folder)
    masks = [path for path in files if case_name(path) != image_name(path)]
    images = [path for path in files if path not in set(masks)]
    if not (images and masks):
        raise VolumeError(
            f"{folder} holds no images with references; expected the folders '{IMAGES}' and '{MASKS}' with files of "
            "the same names, a folder of such folders, or pairs named as case7.nii.gz and case7_mask.nii.gz."
        )
    return _paired(folder, images, masks, modality)


def _paired(folder: Path, images: Sequence[Path], masks: Sequence[Path], modality: Modality | None) -> list[StudyCase]:
    subset = given_name(folder)
    modality = modality or next((kind for prefix, kind in _PREFIXES.items() if subset.lower().startswith(prefix)), None)
    pairs = pair_files(images, masks, roles=("image", "mask"))
    patients = patients_of(folder)
    labels = _LABELS_OF_SETS.get(subset, ())
    return [
        StudyCase(subset, image_name(image), image, mask, modality, labels=labels, patient=patients.get(image.name, ""))
        for image, mask in pairs
    ]


def patients_of(folder: Path) -> dict[str, str]:
    """Whose the images of a set are, by file name, where the manifest beside the set says it."""
    manifest = folder.parent / MANIFEST
    if not manifest.is_file():
        return {}
    with manifest.open(encoding="utf-8", newline="") as file:
        return {row["name"]: row["patient"] for row in csv.DictReader(file) if row["set"] == folder.name}


def paired_cases(images: Path, masks: Path) -> list[StudyCase]:
    """The images of one folder with the masks of another, paired by name.

    Raises:
        VolumeError: not folders, no pairs, or a file without a partner.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise VolumeError(f"{folder} is not a folder; give one folder of images and one of masks.")
    pairs = pair_files(images_in(images), images_in(masks), roles=("image", "mask"))
    return [StudyCase(given_name(images), image_name(image), image, mask) for image, mask in pairs]


def with_distinct_names(cases: Sequence[StudyCase], folder: Path) -> list[StudyCase]:
    """The cases, each with a name of its own: where several have one, that of the set before it as well.

    Where that is not enough, as of p1/ct.nii.gz and p2/ct.nii.gz of one set, the path takes its place; and the mask's,
    where an image is there several times.

    Args:
        folder: that paths are relative to.
    Raises:
        VolumeError: an image is there several times with one mask.
    """
    longer: tuple[Callable[[StudyCase], str], ...] = (
        lambda case: case.id,
        lambda case: _path_name(case.image, folder),
        lambda case: f"{_path_name(case.image, folder)} by {_path_name(case.mask, folder)}",
    )
    named = list(cases)
    for name_of in longer:
        counts = Counter(case.name for case in named)
        names = [name_of(first) if counts[one.name] > 1 else one.name for first, one in zip(cases, named, strict=True)]
        named = [replace(case, name=name) for case, name in zip(cases, names, strict=True)]
    twice = [name for name, count in Counter(case.name for case in named).items() if count > 1]
    if twice:
        raise VolumeError(f"{twice[0]} is listed {sum(case.name == twice[0] for case in named)} times; list it once.")
    return named


def _path_name(path: Path, folder: Path) -> str:
    return (Path(os.path.relpath(path, folder)).parent / image_name(path)).as_posix()


def sides_are_plausible(labelmap: np.ndarray) -> bool:
    """Whether a split of a mask into right and left gave two lungs of comparable size."""
    right, left = (np.sum(labelmap == side) for side in (RIGHT_LUNG, LEFT_LUNG))
    return min(right, left) > 0.15 * max(right, left)


def data_sha256(cases: Sequence[StudyCase]) -> str:
    """SHA-256 of the names and contents of all images and masks."""
    digest = hashlib.sha256()
    for case in sorted(cases, key=lambda case: case.name):
        digest.update(f"{case.name} {image_sha256(case.image)} {image_sha256(case.mask)}\n".encode())
    return digest.hexdigest()


def image_sha256(image: Path) -> str:
    """SHA-256 of an image file, or of the contents of all files of a DICOM folder, whatever their names."""
    digests = sorted(file_sha256(path) for path in files_of(image))
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()
