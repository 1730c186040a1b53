"""Which images are learned from, chosen by and tested on: always by a hash of their names, so that no list is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.training.data.cases import StudyCase, image_sha256

TEST_PERCENT, VALIDATION_PERCENT = 15, 10
SPLIT_SALT = "5"  # gives every set about these shares; chosen by counting, before any training
SPLIT_SETS = ("cxr_montgomery", "cxr_shenzhen", "ct_kmader")
WHOLE_SETS = ("cxr_v7_covid", "cxr_kermany_paediatric")  # X-rays whose masks hold the lung behind heart and dome
PARTS = ("training", "validation", "held_out")
FEWEST_IMAGES = 8
HELD_OUT_SHARE, VALIDATION_SHARE = 0.2, 0.2
FEWEST_HELD_OUT, FEWEST_VALIDATION = 3, 2


@dataclass(frozen=True)
class Split:
    """Names of the images that are trained on, those that settings are chosen by, and those kept for the verdict."""

    training: tuple[str, ...]
    validation: tuple[str, ...]
    held_out: tuple[str, ...]


def split_of(name: str) -> str:
    """'train', 'validation' or 'test' by a hash of the image's name, so that no list has to be kept."""
    percent = int(hashlib.sha256(f"{SPLIT_SALT}:{name}".encode()).hexdigest(), 16) % 100
    if percent < TEST_PERCENT:
        return "test"
    return "validation" if percent < TEST_PERCENT + VALIDATION_PERCENT else "train"


def split_in_set(set_name: str, name: str, patient: str = "") -> str:
    """The part that an image of a public set belongs to: 'train' for all of a set that is not split.

    X-rays with masks of whole lungs are split by patient, others by the image's name.
    """
    if set_name in WHOLE_SETS:
        return split_of(f"{set_name}:{patient or name}")
    return split_of(name) if set_name in SPLIT_SETS else "train"


def split_cases(cases: Sequence[StudyCase]) -> Split:
    """The parts that the cases name, or else `split_by_name`; what belongs together stays together.

    All images of a patient, and images of the same content, are in one part.

    Raises:
        VolumeError: there are too few images or patients, or a given split puts an image or a patient into two parts.
    """
    if any(case.split for case in cases):
        split = Split(*(tuple(sorted(case.name for case in cases if case.split == part)) for part in PARTS))
        fewest = (1, FEWEST_VALIDATION, FEWEST_HELD_OUT)
        for part, names, least in zip(PARTS, (split.training, split.validation, split.held_out), fewest, strict=True):
            if len(names) < least:
                raise VolumeError(f"The part {part} has {len(names)} image(s); give it at least {least}.")
    else:
        split = _split_by_group(cases)
    check_disjoint(cases, split)
    return split


def _split_by_group(cases: Sequence[StudyCase]) -> Split:
    first_of: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    for case in cases:
        alike = first_of.setdefault(image_sha256(case.image), case.name)
        groups.setdefault(case.patient or alike, []).append(case.name)
    parts = split_by_name(list(groups), "patients" if any(case.patient for case in cases) else "images")
    kept = (parts.training, parts.validation, parts.held_out)
    return Split(*(tuple(sorted(name for key in part for name in groups[key])) for part in kept))


def check_disjoint(cases: Sequence[StudyCase], split: Split) -> None:
    """Refuse a split in which what is learned would be tested.

    Raises:
        VolumeError: an image, by its content, or a patient is in two parts.
    """
    part_of = {name: part for part in PARTS for name in getattr(split, part)}
    for what, key in (("image", lambda case: image_sha256(case.image)), ("patient", lambda case: case.patient)):
        first_of: dict[str, StudyCase] = {}
        for case in cases:
            first = first_of.setdefault(key(case), case) if key(case) else case
            if part_of[first.name] != part_of[case.name]:
                raise VolumeError(
                    f"{first.name} is in the part {part_of[first.name]}, and {case.name} of the same {what} in "
                    f"{part_of[case.name]}, so that a result would say nothing; put both into one part."
                )


def split_by_name(names: Sequence[str], what: str = "images") -> Split:
    """A fifth held out and a fifth for validation, at least 3 and 2 images, drawn by a hash of the names.

    Raises:
        VolumeError: there are fewer than 8 images.
    """
    if len(names) < FEWEST_IMAGES:
        raise VolumeError(
            f"There are {len(names)} {what} with masks; tuning needs at least {FEWEST_IMAGES}, of which "
            f"{FEWEST_HELD_OUT} are kept for the verdict."
        )
    order = sorted(names, key=lambda name: hashlib.sha256(f"tune:{name}".encode()).hexdigest())
    held_out = max(FEWEST_HELD_OUT, round(HELD_OUT_SHARE * len(order)))
    validation = held_out + max(FEWEST_VALIDATION, round(VALIDATION_SHARE * len(order)))
    parts = order[validation:], order[held_out:validation], order[:held_out]
    return Split(*(tuple(sorted(part)) for part in parts))


def fold_splits(names: Sequence[str], folds: int) -> list[Split]:
    """Test is fold i, validation the next fold, training all others; folds are drawn by a hash of the images' names.

    Raises:
        VolumeError: there are fewer than two images for each fold.
    """
    if len(names) < 2 * folds:
        raise VolumeError(
            f"{len(names)} images are too few for {folds} folds; give at least {2 * folds}, or fewer folds."
        )
    order = sorted(names, key=lambda name: hashlib.sha256(f"fold:{name}".encode()).hexdigest())
    parts = [tuple(sorted(order[fold::folds])) for fold in range(folds)]
    splits = []
    for fold in range(folds):
        following = (fold + 1) % folds
        rest = [name for other in range(folds) if other not in (fold, following) for name in parts[other]]
        splits.append(Split(tuple(sorted(rest)), parts[following], parts[fold]))
    return splits
