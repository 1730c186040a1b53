"""From images with masks of organs to slices and their objects, in three parts that share no patient."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from SAMLungSegLib.adapters.place import PlaceInVolume, small_volume
from SAMLungSegLib.errors import SettingsError, VolumeError, listed
from SAMLungSegLib.models.base import ModelView
from SAMLungSegLib.structures import LUNGS
from SAMLungSegLib.training.data.cases import StudyCase, Windowing, study_cases, with_distinct_names
from SAMLungSegLib.training.data.manifest import read_manifest
from SAMLungSegLib.training.data.organs import MOST_ORGANS, DrawnOrgans
from SAMLungSegLib.training.data.splits import Split, split_cases
from SAMLungSegLib.volume.telling import many_images

if TYPE_CHECKING:
    from torch import Tensor

SLICES_EACH = 16
SMALLEST_PX = 100  # of an object in a slice, as in MedSAM
NEIGHBOURS_2D, NEIGHBOURS_3D = np.ones((3, 3), bool), np.ones((3, 3, 3), bool)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ObjectSlice:
    """One slice with the organs that its reference draws.

    Attributes:
        image: name of the image.
        number: of the slice in it, 0 at the inferior end.
        subset: name of the set that the image belongs to.
        patient: whose it is; empty where nobody says.
        grey_hw: uint8 (H, W), display orientation.
        labels_hw: uint8 (H, W): values of the data's organs, from 1; without objects that are too small.
        stack_nhw: uint8 (N, H, W), the slice amid its neighbours, for methods that look at several; None for others.
        stack_labels_nhw: their labels, uint8 (N, H, W), small objects included; None likewise.
        place: in the volume, for methods that look at all of it; None for others.
        weight: how often it is drawn, relative to the others.
        halves: its embedding by a frozen encoder, in float16 on the CPU; none where encoders learn.
    """

    image: str
    number: int
    subset: str
    patient: str
    grey_hw: np.ndarray
    labels_hw: np.ndarray
    stack_nhw: np.ndarray | None = None
    stack_labels_nhw: np.ndarray | None = None
    place: PlaceInVolume | None = None
    weight: float = 1.0
    halves: tuple[Tensor, ...] = ()

    @property
    def view(self) -> ModelView:
        """As models see it."""
        stack_nhw = self.grey_hw[np.newaxis] if self.stack_nhw is None else self.stack_nhw
        return ModelView.amid(stack_nhw, self.place)

    @property
    def organs(self) -> tuple[int, ...]:
        """Values of the organs in it, ascending."""
        present = np.flatnonzero(np.bincount(self.labels_hw.ravel(), minlength=2))
        return tuple(int(value) for value in present if value > 0)

    def examples(self) -> list[ObjectExample]:
        """One for each organ in it."""
        return [ObjectExample(self, organ) for organ in self.organs]


@dataclass(frozen=True, eq=False)
class ObjectExample:
    """One slice and one organ of it: what a training step is about."""

    slice: ObjectSlice
    organ: int

    @property
    def mask_hw(self) -> np.ndarray:
        """Bool (H, W)."""
        return self.slice.labels_hw == self.organ

    @property
    def name(self) -> str:
        """Names it among all of the data."""
        return f"{self.slice.subset}/{self.slice.image} {self.slice.number} {self.organ}"


@dataclass(frozen=True)
class ReadingOptions:
    """How data are read.

    Attributes:
        organs: that masks draw where the manifest does not say it, see `DrawnOrgans.parse`; lungs if empty.
        windowing: how slices become 8-bit.
        slices_each: of a volume, at most so many slices with objects are used, evenly spread.
        slices_per_input: how many neighbouring slices the method looks at, odd.
        smallest_px: objects of fewer pixels in a slice are left out.
        smallest_part_voxels: of volumes, connected parts of fewer voxels (26 neighbours) are left out of what is
            learned from.
        smallest_part_px: likewise parts of objects in a slice (8 neighbours).
        smallest_share: likewise objects of a smaller part of a slice's pixels.
        sees_volume: whether the method looks at the whole volume that a slice lies in.
    """

    organs: str = ""
    windowing: Windowing = field(default_factory=Windowing)
    slices_each: int = SLICES_EACH
    slices_per_input: int = 1
    smallest_px: int = SMALLEST_PX
    smallest_part_voxels: int = 0
    smallest_part_px: int = 0
    smallest_share: float = 0.0
    sees_volume: bool = False

    def __post_init__(self) -> None:
        if self.slices_each < 1 or self.smallest_px < 1:
            raise SettingsError(
                f"{self.slices_each} slices of each volume and objects of {self.smallest_px} pixels leave nothing to "
                "learn; give 1 or more of both."
            )


@dataclass(frozen=True, eq=False)
class AdaptationData:
    """What a model is adapted to.

    Attributes:
        organs: their keys, such as 'right_kidney', in the order of the labels' values; see `structures` for those that
            label sets have.
        training, validation, held_out: slices; no patient and no image is in two of these.
        cases: the images.
        split: their names by part.
        left_out: objects that were too small.
    """

    organs: tuple[str, ...]
    training: tuple[ObjectSlice, ...]
    validation: tuple[ObjectSlice, ...]
    held_out: tuple[ObjectSlice, ...]
    cases: tuple[StudyCase, ...] = ()
    split: Split | None = None
    left_out: int = 0


def read_data(data: Path, options: ReadingOptions | None = None) -> AdaptationData:
    """Slices with objects of all images.

    Args:
        data: a manifest (.csv, .json, .toml, see `training.data.manifest`), or a folder with 'images' and 'masks', a
            folder of such folders, or of images and masks side by side.
        options: how.
    Raises:
        VolumeError: too few images, a patient in two parts, a file that cannot be read, a part without objects.
        GeometryError: a mask on another grid than its image.
        SettingsError: the organs make no sense.
    """
    options = options or ReadingOptions()
    return data_of(read_cases(data, options.organs), options)


@many_images("reading")
def data_of(cases: Sequence[StudyCase], options: ReadingOptions) -> AdaptationData:
    """Slices with objects of some images; errors as of `read_data`."""
    split = split_cases(cases)
    organs = _all_organs(cases)
    reader = _Reader(organs, options)
    held_out = {*split.held_out}
    slices = {
        case.name: reader.slices(case, is_learned=case.name not in held_out)
        for case in tqdm(cases, desc="reading", unit="image", disable=None)
    }
    parts = {part: tuple(one for name in names for one in slices[name]) for part, names in vars(split).items()}
    for part, some in parts.items():
        if not some:
            raise VolumeError(
                f"The part {part} has no object of {options.smallest_px} pixels or more; give more images, or smaller "
                "objects (--smallest)."
            )
    _tell_of_organs(organs, parts)
    if reader.left_out:
        logger.info("%d objects of fewer than %d pixels were left out.", reader.left_out, options.smallest_px)
    return AdaptationData(organs, **parts, cases=tuple(cases), split=split, left_out=reader.left_out)


def _tell_of_organs(organs: Sequence[str], parts: Mapping[str, Sequence[ObjectSlice]]) -> None:
    """Warn of organs that cannot be learned or judged."""
    found = {part: {organs[value - 1] for one in some for value in one.organs} for part, some in parts.items()}
    held_out, learned, drawn = found["held_out"], found["training"], set().union(*found.values())
    for some, what in (
        ({*organs} - drawn, "in no slice that is used; check label values, --smallest and --slices"),
        (drawn - learned, "in no image that is learned from, but judged"),
        (learned - held_out, "in no held-out image, so that nothing is said of how well it is found"),
    ):
        if some:
            logger.warning("%s: %s.", listed([one for one in organs if one in some]), what)


def read_cases(data: Path, organs: str = "") -> list[StudyCase]:
    """The images of a manifest or a folder; `organs` are drawn where the manifest does not say it."""
    cases = read_manifest(data) if data.is_file() else with_distinct_names(study_cases(data), data)
    given = DrawnOrgans.parse(organs) if organs else None
    return [replace(case, organs=case.organs or given) for case in cases]


def _all_organs(cases: Sequence[StudyCase]) -> tuple[str, ...]:
    """Keys of the organs of all cases, in the order of their first appearance."""
    keys = tuple(dict.fromkeys(key for case in cases for key in _organs_of(case)))
    if len(keys) > MOST_ORGANS:
        raise SettingsError(f"{len(keys)} organs are too many; give {MOST_ORGANS} or fewer.")
    return keys


def _organs_of(case: StudyCase) -> tuple[str, ...]:
    return LUNGS.keys if case.organs is None else case.organs.keys


class _Reader:
    def __init__(self, organs: tuple[str, ...], options: ReadingOptions) -> None:
        self.organs, self.options, self.left_out = organs, options, 0

    def slices(self, case: StudyCase, *, is_learned: bool) -> list[ObjectSlice]:
        greys, labels, _ = case.read_organs(self.options.windowing)
        values = np.array([0, *(self.organs.index(key) + 1 for key in _organs_of(case))], np.uint8)
        drawn = [values[np.minimum(one, len(values) - 1)] for one in labels]
        kept = self._without_parts(drawn) if is_learned else drawn
        kept = [self._without_small(one, is_learned) for one in kept]
        volume = small_volume(greys) if self.options.sees_volume and len(greys) > 1 else None
        with_objects = [number for number, one in enumerate(kept) if one.any()]
        places = np.linspace(0, len(with_objects) - 1, min(self.options.slices_each, len(with_objects)))
        return [
            ObjectSlice(
                case.name, number, case.subset, case.patient, greys[number], kept[number],
                self._stack(greys, number), self._stack(drawn, number),
                None if volume is None else PlaceInVolume(volume, number, len(greys)), case.weight,
            )
            for number in (with_objects[place] for place in places.round().astype(int))
        ]  # fmt: skip

    def _without_small(self, labels_hw: np.ndarray, is_learned: bool) -> np.ndarray:
        sizes = np.bincount(labels_hw.ravel(), minlength=256)
        smallest = max(self.options.smallest_px, labels_hw.size * self.options.smallest_share * is_learned)
        small = np.flatnonzero((sizes > 0) & (sizes < smallest))
        small = small[small > 0]
        self.left_out += len(small)
        return np.where(np.isin(labels_hw, small), np.uint8(0), labels_hw) if small.size else labels_hw

    def _without_parts(self, labels_nhw: list[np.ndarray]) -> list[np.ndarray]:
        """As MedSAM prepares masks: small parts dropped, of volumes first and then of each slice."""
        if len(labels_nhw) > 1 and self.options.smallest_part_voxels > 1:
            labels_nhw = [*without_small_parts(np.stack(labels_nhw), self.options.smallest_part_voxels)]
        if self.options.smallest_part_px > 1:
            labels_nhw = [without_small_parts(one, self.options.smallest_part_px) for one in labels_nhw]
        return labels_nhw

    def _stack(self, planes: Sequence[np.ndarray], number: int) -> np.ndarray | None:
        if self.options.slices_per_input == 1:
            return None

        def neighbour(offset: int) -> np.ndarray | None:
            return planes[number + offset] if 0 <= number + offset < len(planes) else None

        return ModelView(planes[number], neighbour).stack(self.options.slices_per_input)


def without_small_parts(labels: np.ndarray, smallest: int) -> np.ndarray:
    """Labels without connected parts (all neighbours) of fewer than `smallest` pixels or voxels.

    Args:
        labels: uint8 (H, W) or (N, H, W).
    """
    structure = NEIGHBOURS_2D if labels.ndim == 2 else NEIGHBOURS_3D
    result = labels.copy()
    for value in np.unique(labels[labels > 0]):
        parts, _ = ndimage.label(labels == value, structure)
        sizes = np.bincount(parts.ravel())
        sizes[0] = smallest
        result[(sizes < smallest)[parts]] = 0
    return result


def all_examples(slices: Sequence[ObjectSlice]) -> Iterator[ObjectExample]:
    """Every object of some slices."""
    for one in slices:
        yield from one.examples()
