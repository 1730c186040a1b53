"""Which images are learned from, chosen by and tested on: always by a hash of their names, so that no list is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from SAMLungSegLib.errors import VolumeError

TEST_PERCENT, VALIDATION_PERCENT = 15, 10
SPLIT_SALT = "5"  # gives every set about these shares; chosen by counting, before any training
SPLIT_SETS = ("cxr_montgomery", "cxr_shenzhen", "ct_kmader")
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


def split_by_name(names: Sequence[str]) -> Split:
    """A fifth held out and a fifth for validation, at least 3 and 2 images, drawn by a hash of the names.

    Raises:
        VolumeError: there are fewer than 8 images.
    """
    if len(names) < FEWEST_IMAGES:
        raise VolumeError(
            f"There are {len(names)} images with masks; tuning needs at least {FEWEST_IMAGES}, of which "
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
