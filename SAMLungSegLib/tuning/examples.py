"""Slices with references to tune on, which part of them is used for what, and their embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from tqdm import tqdm

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.evaluation.pairs import pair_files
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.models.cached import cached
from SAMLungSegLib.models.checkpoints import file_sha256
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG
from SAMLungSegLib.studies.cases import Greys, StudyCase
from SAMLungSegLib.training.data import sides_are_plausible
from SAMLungSegLib.volume import given_name, image_name, is_image_path

GRID = 256  # where the loss is taken, see Carvalho and Almeida (2024)
SLICES_EACH = 16
FEWEST_IMAGES = 8
HELD_OUT_SHARE, VALIDATION_SHARE = 0.2, 0.2
FEWEST_HELD_OUT, FEWEST_VALIDATION = 3, 2


@dataclass(frozen=True, eq=False)
class Example:
    """One slice and its reference.

    Attributes:
        name: of the image.
        number: of the slice in it.
        grey_hw: uint8 (H, W).
        labels_hw: uint8 (H, W), 1 right and 2 left lung, or 1 alone where the reference does not tell.
    """

    name: str
    number: int
    grey_hw: np.ndarray
    labels_hw: np.ndarray

    @property
    def lung_hw(self) -> np.ndarray:
        """Both lungs, bool (H, W)."""
        return self.labels_hw > 0


@dataclass(frozen=True, eq=False)
class EncodedExample:
    """An example with what the frozen part of a model makes of it, computed once.

    Attributes:
        example: the slice.
        halves: its embedding in float16.
        target: bool (2, 256, 256), right and left lung in the network's frame.
        sides_known: whether these two are told apart.
    """

    example: Example
    halves: tuple[Tensor, ...]
    target: Tensor
    sides_known: bool

    def embedding(self, device: torch.device) -> Embedding:
        """In float32 on a device."""
        features = tuple(one.to(device, torch.float32) for one in self.halves)
        return Embedding(features, self.example.grey_hw.shape)


@dataclass(frozen=True)
class Split:
    """Names of the images that are trained on, those that settings are chosen by, and those kept for the verdict."""

    training: tuple[str, ...]
    validation: tuple[str, ...]
    held_out: tuple[str, ...]


def paired_cases(images: Path, masks: Path) -> list[StudyCase]:
    """The images of one folder with the masks of another, paired by name.

    Raises:
        VolumeError: not folders, no pairs, or a file without a partner.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise VolumeError(f"{folder} is not a folder; give one folder of images and one of masks.")
    found = [
        sorted(path for path in folder.iterdir() if is_image_path(path) and not path.name.startswith("."))
        for folder in (images, masks)
    ]
    pairs = pair_files(*found, roles=("image", "mask"))
    return [StudyCase(given_name(images), image_name(image), image, mask) for image, mask in pairs]


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


def read_examples(
    cases: Sequence[StudyCase], greys: Greys, *, slices_each: int = SLICES_EACH, side: int | None = None
) -> list[Example]:
    """The slices with lung of all cases.

    Args:
        cases: images and masks.
        greys: how slices become 8-bit.
        slices_each: of a volume with more slices that have lung, so many are taken, evenly spread.
        side: draw every slice as `side` x `side` pixels, as the fine-tuning study does; None keeps their size.
    Raises:
        VolumeError: a mask is empty, or a file cannot be read.
        GeometryError: image and mask are on different grids.
    """
    examples = []
    for case in tqdm(cases, desc="reading", unit="image", disable=None):
        grey_slices, label_slices = case.read(greys)
        with_lung = [number for number, labels in enumerate(label_slices) if labels.any()]
        if not with_lung:
            raise VolumeError(f"The mask {case.mask} is empty; leave out images without lung, or give their masks.")
        places = np.linspace(0, len(with_lung) - 1, min(slices_each, len(with_lung))).round().astype(int)
        for number in (with_lung[place] for place in places):
            example = Example(case.name, number, grey_slices[number], label_slices[number])
            examples.append(example if side is None else _resized(example, side))
    return examples


def _resized(example: Example, side: int) -> Example:
    planes = np.stack([example.grey_hw, *(255.0 * (example.labels_hw == lung) for lung in (RIGHT_LUNG, LEFT_LUNG))])
    small = _resize(torch.from_numpy(planes.astype(np.float32)), (side, side)).numpy()
    labels_hw = np.where(small[1:].sum(0) > 127.5, np.where(small[1] >= small[2], RIGHT_LUNG, LEFT_LUNG), 0)
    grey_hw = np.clip(np.rint(small[0]), 0, 255).astype(np.uint8)
    return Example(example.name, example.number, grey_hw, labels_hw.astype(np.uint8))


def _resize(planes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return F.interpolate(planes[None], size_hw, mode="bilinear", antialias=True, align_corners=False)[0]


def encode_examples(model: TrainableModel, examples: Sequence[Example]) -> list[EncodedExample]:
    """Every example encoded once; the embeddings of slow encoders are kept on disk as well, for the next run."""
    encoder = cached(model)
    bar = tqdm(examples, desc="encoding", unit="slice", disable=None)
    return [_encoded(model, encoder, example) for example in bar]


def _encoded(model: TrainableModel, encoder: PromptableModel, example: Example) -> EncodedExample:
    (embedding,) = encoder.encode([example.grey_hw])
    halves = tuple(one.to("cpu", torch.float16, copy=True).contiguous() for one in embedding.features)
    rows, columns = model.size_in_frame(example.grey_hw.shape, GRID)
    planes = np.stack([example.labels_hw == lung for lung in (RIGHT_LUNG, LEFT_LUNG)]).astype(np.float32)
    small = _resize(torch.from_numpy(planes), (rows, columns)) > 0.5
    target = F.pad(small, (0, GRID - columns, 0, GRID - rows))
    return EncodedExample(example, halves, target, _sides_are_known(example.labels_hw))


def _sides_are_known(labels_hw: np.ndarray) -> bool:
    """Whether 1 and 2 are two lungs, the patient's right at the left: some references number them the other way."""
    if not sides_are_plausible(labels_hw):
        return False
    right, left = (np.nonzero(labels_hw == lung)[1].mean() for lung in (RIGHT_LUNG, LEFT_LUNG))
    return bool(right < left)


def data_sha256(cases: Sequence[StudyCase]) -> str:
    """SHA-256 of the names and contents of all images and masks."""
    digest = hashlib.sha256()
    for case in sorted(cases, key=lambda case: case.name):
        digest.update(f"{case.name} {file_sha256(case.image)} {file_sha256(case.mask)}\n".encode())
    return digest.hexdigest()
