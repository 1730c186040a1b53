"""Slices with references to learn from, and their embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from tqdm import tqdm

from SAMLungSegLib.adapters.place import PlaceInVolume, small_volume
from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.intensity import Modality
from SAMLungSegLib.models.base import Embedding, ModelView, PromptableModel
from SAMLungSegLib.models.cached import cached
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG
from SAMLungSegLib.training.data.cases import StudyCase, Windowing, sides_are_plausible
from SAMLungSegLib.volume.telling import many_images

GRID = 256  # where the loss is taken, see Carvalho and Almeida (2024)
SLICES_EACH = 16


@dataclass(frozen=True, eq=False)
class Example:
    """One slice and its reference.

    Attributes:
        name: of the image.
        number: of the slice in it.
        grey_hw: uint8 (H, W).
        labels_hw: uint8 (H, W), 1 right and 2 left lung, or 1 alone where the reference does not tell.
        weight: how often it is drawn, relative to the others.
        modality: of the image.
        stack_nhw: uint8 (N, H, W), the slice amid its neighbours, for models that look at several; None for others.
        place: in the volume, for models that look at all of it; None for others.
    """

    name: str
    number: int
    grey_hw: np.ndarray
    labels_hw: np.ndarray
    weight: float = 1.0
    modality: Modality = "XRAY"
    stack_nhw: np.ndarray | None = None
    place: PlaceInVolume | None = None

    @property
    def view(self) -> ModelView:
        """As models see it."""
        stack_nhw = self.grey_hw[np.newaxis] if self.stack_nhw is None else self.stack_nhw
        return ModelView.amid(stack_nhw, self.place)

    @property
    def lung_hw(self) -> np.ndarray:
        """Both lungs, bool (H, W)."""
        return self.labels_hw > 0


@dataclass(frozen=True, eq=False)
class EncodedExample:
    """An example with what the frozen part of a model makes of it, computed once.

    Attributes:
        example: the slice.
        halves: its embedding in float16; none where the encoder learns.
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


@many_images("reading")
def read_examples(
    cases: Sequence[StudyCase],
    windowing: Windowing,
    *,
    slices_each: int = SLICES_EACH,
    side: int | None = None,
    slices_per_input: int = 1,
    sees_volume: bool = False,
) -> list[Example]:
    """The slices with lung of all cases.

    Args:
        cases: images and masks.
        windowing: how slices become 8-bit.
        slices_each: of a volume with more slices that have lung, so many are taken, evenly spread.
        side: draw every slice as `side` x `side` pixels, as the fine-tuning study does; None keeps their size.
        slices_per_input: how many slices the model looks at; neighbours keep their size.
        sees_volume: whether it looks at the whole volume.
    Raises:
        VolumeError: a mask is empty, or a file cannot be read.
        GeometryError: image and mask are on different grids.
    """
    examples = []
    for case in tqdm(cases, desc="reading", unit="image", disable=None):
        grey_slices, label_slices, modality = case.read_as_seen(windowing)
        with_lung = [number for number, labels in enumerate(label_slices) if labels.any()]
        if not with_lung:
            raise VolumeError(f"The mask {case.mask} is empty; leave out images without lung, or give their masks.")
        chosen = np.linspace(0, len(with_lung) - 1, min(slices_each, len(with_lung))).round().astype(int)
        volume = small_volume(grey_slices) if sees_volume and len(grey_slices) > 1 else None
        for number in (with_lung[place] for place in chosen):
            example = Example(case.name, number, grey_slices[number], label_slices[number], case.weight, modality)
            if slices_per_input > 1:
                example = replace(example, stack_nhw=_stack(grey_slices, number, slices_per_input))
            if volume is not None:
                example = replace(example, place=PlaceInVolume(volume, number, len(grey_slices)))
            examples.append(example if side is None else _resized(example, side))
    return examples


def _stack(grey_slices: Sequence[np.ndarray], number: int, count: int) -> np.ndarray:
    def neighbour(offset: int) -> np.ndarray | None:
        return grey_slices[number + offset] if 0 <= number + offset < len(grey_slices) else None

    return ModelView(grey_slices[number], neighbour).stack(count)


def _resized(example: Example, side: int) -> Example:
    return with_planes(example, resized_planes(example, (side, side)))


def resized_planes(example: Example, size_hw: tuple[int, int]) -> Tensor:
    """Grey, right and left lung of an example at another size, float32 (3, H, W) in 0..255."""
    planes = np.stack([example.grey_hw, *(255.0 * (example.labels_hw == lung) for lung in (RIGHT_LUNG, LEFT_LUNG))])
    return _resize(torch.from_numpy(planes.astype(np.float32)), size_hw)


def with_planes(example: Example, planes: Tensor) -> Example:
    """An example with other pixels, as `resized_planes` draws them."""
    grey, right, left = planes.numpy()
    labels_hw = np.where(right + left > 127.5, np.where(right >= left, RIGHT_LUNG, LEFT_LUNG), 0)
    grey_hw = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return replace(example, grey_hw=grey_hw, labels_hw=labels_hw.astype(np.uint8))


def _resize(planes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return F.interpolate(planes[None], size_hw, mode="bilinear", antialias=True, align_corners=False)[0]


def encode_examples(
    model: TrainableModel, examples: Sequence[Example], check: Callable[[], None] = lambda: None
) -> list[EncodedExample]:
    """Every example encoded once; the embeddings of slow encoders are kept on disk as well, for the next run.

    Args:
        model: whose encoder.
        examples: slices.
        check: called before each; what it raises stops the encoding.
    """
    encoder, encoded = cached(model), []
    for example in tqdm(examples, desc="encoding", unit="slice", disable=None):
        check()
        encoded.append(encoded_example(model, encoder, example))
    return encoded


def encoded_example(model: TrainableModel, encoder: PromptableModel, example: Example) -> EncodedExample:
    """An example encoded by a model, or by what keeps its embeddings."""
    (embedding,) = encoder.encode([example.view])
    halves = tuple(one.to("cpu", torch.float16, copy=True).contiguous() for one in embedding.features)
    return replace(with_targets(model, example), halves=halves)


def with_targets(model: TrainableModel, example: Example) -> EncodedExample:
    """An example with its target, not encoded."""
    rows, columns = model.size_in_frame(example.grey_hw.shape, GRID)
    planes = np.stack([example.labels_hw == lung for lung in (RIGHT_LUNG, LEFT_LUNG)]).astype(np.float32)
    small = _resize(torch.from_numpy(planes), (rows, columns)) > 0.5
    target = F.pad(small, (0, GRID - columns, 0, GRID - rows))
    return EncodedExample(example, (), target, _sides_are_known(example.labels_hw))


def _sides_are_known(labels_hw: np.ndarray) -> bool:
    """Whether 1 and 2 are two lungs, the patient's right at the left: some references number them the other way."""
    if not sides_are_plausible(labels_hw):
        return False
    right, left = (np.nonzero(labels_hw == lung)[1].mean() for lung in (RIGHT_LUNG, LEFT_LUNG))
    return bool(right < left)
