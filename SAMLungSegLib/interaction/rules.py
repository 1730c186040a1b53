"""What is written, and what stays: one rule for a slice, one for a volume, as functions of plain arrays.

Labels are those of one label set, uint8; a voxel that several segments claim has the lowest of their labels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from SAMLungSegLib.interaction.locks import Locks, Place, digest_of

if TYPE_CHECKING:
    from SAMLungSegLib.interaction.automatic import AutomaticLungs
    from SAMLungSegLib.interaction.prompts import Part, SlicePrompts
    from SAMLungSegLib.prompts import PointPrompt
    from SAMLungSegLib.volume import SlicePlane

MOST_AGAINST = 0.5  # of the pixels that points change; with more, the change is not what they ask for
INSTEAD = "Paint with the brush, draw a box, or choose another model."

UNKNOWN = 255  # in place of a label, where it is not known what our own hand wrote


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a model makes of the prompts on a slice.

    Attributes:
        prompts: of the slice; they may be none.
        labels_hw: uint8 (H, W).
        labels: the structures that it says something about; the others stay as they are.
        automatic_hw: uint8 (H, W), what is found in the slice without prompts; None where that is not known.
    """

    prompts: SlicePrompts
    labels_hw: np.ndarray
    labels: tuple[int, ...]
    automatic_hw: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        prompts: SlicePrompts,
        labels_hw: np.ndarray,
        labels: Sequence[int],
        automatic_hw: np.ndarray | None = None,
        *,
        needs_prompt: bool,
    ) -> Predicted:
        """With the structures that were wanted, or the prompted ones only.

        A model that `needs_prompt` says nothing about a structure that no prompt is in.
        """
        shown = tuple(label for label in labels if (labels_hw == label).any())
        is_partial = needs_prompt and not prompts.is_empty and 0 < len(shown) < len(labels)
        without_prompts_hw = labels_hw if prompts.is_empty else automatic_hw
        return cls(prompts, labels_hw, shown if is_partial else tuple(labels), without_prompts_hw)

    @property
    def objection(self) -> str:
        """Why this is no answer to the points on the slice, for people; empty where it is, or where it cannot be told.

        The place of a point has to have the label that the point says, and where all points say the same, most of what
        they change has to go their way.
        """
        if any(self._says(point) is False for point in self.prompts.points):
            return f"The model does not follow the points in this slice: nothing is taken from it. {INSTEAD}"
        if self._goes_against():
            return f"The model changes this slice mostly against its points: nothing is taken from it. {INSTEAD}"
        return ""

    def _goes_against(self) -> bool:
        ways = {point.positive for point in self.prompts.points}
        if self.automatic_hw is None or self.prompts.boxes or len(ways) != 1:
            return False
        is_lung, was_lung = self.labels_hw > 0, self.automatic_hw > 0
        wrong = was_lung & ~is_lung if ways == {True} else is_lung & ~was_lung
        return int(wrong.sum()) > MOST_AGAINST * int((is_lung != was_lung).sum())

    def _says(self, point: PointPrompt) -> bool | None:
        """Whether the place of a point has the label that it says; None where only one lung is looked for."""
        height, width = self.labels_hw.shape
        x, y = (int(np.clip(np.rint(v), 0, size - 1)) for v, size in zip(point.xy, (width, height), strict=True))
        is_lung = bool(self.labels_hw[y, x])
        return None if point.positive and not is_lung and len(self.labels) < 2 else is_lung == point.positive


@dataclass(frozen=True, eq=False)
class Proposal:
    """What accepting a prediction writes: a preview shows nothing else.

    Attributes:
        prompts: of the slice.
        before_hw: uint8 (H, W), the slice as it is.
        labels_hw: uint8 (H, W), the slice as it will be.
        inside_hw: bool (H, W), the pixels that may change.
        shown_hw: uint8 (H, W), the part of `labels_hw` that the prompts are about; all of it where something was drawn,
            so that what was erased is seen.
        labels: the structures that are written.
        kept_pixels: how many pixels would change, were what another hand has painted not kept.
        is_of_person: whether a person said how the slice is: it is locked once this is written.
    """

    prompts: SlicePrompts
    before_hw: np.ndarray
    labels_hw: np.ndarray
    inside_hw: np.ndarray
    shown_hw: np.ndarray
    labels: tuple[int, ...]
    kept_pixels: int
    is_of_person: bool


def propose(
    predicted: Predicted,
    present_hw: np.ndarray,
    written_hw: np.ndarray | None = None,
    *,
    editable_hw: np.ndarray | None = None,
    keep: bool = True,
    done: Collection[Part] = (),
) -> Proposal:
    """What a prediction changes in a slice.

    Only pixels change that the prompts are about. Of these, what another hand has painted since stays, but for patches
    with a point in them and for what boxes surround, which say themselves what is to be drawn anew.

    Args:
        predicted: of the slice.
        present_hw: uint8 (H, W), the slice as it is.
        written_hw: uint8 (H, W), the slice as our own hand wrote it, `UNKNOWN` where that is not known: there, what
            differs from what is found automatically stays where the prompts say nothing else. None where our hand has
            never written into this segmentation: nothing of it is painted then.
        editable_hw: bool (H, W), where anything may change at all; None for everywhere.
        keep: whether painted pixels stay.
        done: parts of the prompts that were accepted or discarded before.
    """
    prompts = predicted.prompts
    about_hw = prompts.changeable_hw(done) & prompts.reformat.inside_hw
    may_hw = about_hw if editable_hw is None else about_hw & editable_hw
    inside_hw = may_hw
    if keep and written_hw is not None:
        painted_hw = _painted(predicted, present_hw, written_hw) & ~prompts.boxed_hw()
        inside_hw = may_hw & ~_without_patches_at(prompts.points, painted_hw)
    labels_hw = written_over(present_hw, predicted.labels_hw, predicted.labels, inside_hw)
    anyway_hw = written_over(present_hw, predicted.labels_hw, predicted.labels, may_hw)
    seen_hw = prompts.reformat.inside_hw if prompts.drawn_hw().any() else about_hw
    shown_hw = np.where(seen_hw & np.isin(labels_hw, predicted.labels), labels_hw, 0).astype(np.uint8)
    kept_pixels = int((labels_hw != anyway_hw).sum())
    return Proposal(
        prompts, present_hw, labels_hw, inside_hw, shown_hw, predicted.labels, kept_pixels, not prompts.is_empty
    )


def written_over(
    before: np.ndarray, predicted: np.ndarray, labels: Collection[int], inside: np.ndarray | None = None
) -> np.ndarray:
    """Labels in which those of `labels` are the predicted ones `inside` a mask, everywhere for None.

    Where two claim a voxel the lower one has it.
    """
    source = predicted if inside is None else np.where(inside, predicted, before)
    after = np.zeros(before.shape, np.uint8)
    for label in range(max(int(one.max(initial=0)) for one in (before, predicted)), 0, -1):
        for target, values in zip(_slices(after), _slices(source if label in labels else before), strict=True):
            target[values == label] = label
    return after


def _slices(array: np.ndarray) -> np.ndarray:
    """(N, H, W): worked on one by one, as other threads want the GIL, too."""
    return array.reshape(-1, *array.shape[-2:])


def _painted(predicted: Predicted, present_hw: np.ndarray, written_hw: np.ndarray) -> np.ndarray:
    """Bool (H, W): what another hand has changed, as far as that can be told."""
    is_known = written_hw != UNKNOWN
    painted_hw = is_known & (present_hw != written_hw)
    automatic_hw = predicted.automatic_hw
    if automatic_hw is not None and not is_known.all() and present_hw.any():
        painted_hw |= ~is_known & (present_hw != automatic_hw) & (predicted.labels_hw == automatic_hw)
    return painted_hw


def _without_patches_at(points: Sequence[PointPrompt], mask_hw: np.ndarray) -> np.ndarray:
    """A mask without its patches that have a point in them."""
    if not points or not mask_hw.any():
        return mask_hw
    from SAMLungSegLib.masks import components_at  # scipy takes a tenth of a second to import

    return mask_hw & ~components_at(mask_hw, [point.xy for point in points])


@dataclass(frozen=True, eq=False)
class MergedVolume:
    """An automatic result with the slices that are kept.

    Attributes:
        labelmap_kji: uint8, the volume as it will be.
        kept: how many slices would look otherwise were none kept.
        locks: as they are once this is written.
        plane: of the slices.
        kept_slices: numbers of those that stay as they are.
        kept_across: slices of other planes that stay as they are.
        editable_kji: bool, where anything could change at all; None for everywhere.
        automatic: what corrections are carried on from, once this is written.
    """

    labelmap_kji: np.ndarray
    kept: int
    locks: Locks
    plane: SlicePlane
    kept_slices: tuple[int, ...] = ()
    kept_across: tuple[Place, ...] = ()
    editable_kji: np.ndarray | None = None
    automatic: AutomaticLungs | None = None


def merge_volume(
    before_kji: np.ndarray | None,
    found_kji: np.ndarray,
    labels: Sequence[int],
    plane: SlicePlane,
    locks: Locks,
    *,
    keep: bool = True,
    editable_kji: np.ndarray | None = None,
    automatic: AutomaticLungs | None = None,
) -> MergedVolume:
    """Put an automatic result in the place of what is there, without locked slices where they are kept.

    Args:
        before_kji: uint8 (K, J, I), what is there; None where there is nothing.
        found_kji: likewise, the result.
        labels: the structures that are written; the others stay as they are.
        plane: of the slices that are kept or replaced.
        locks: of these slices (`Locks.of_grid`), and those held in other planes.
        keep: whether locked slices stay.
        editable_kji: bool (K, J, I), where anything may change at all; None for everywhere. A slice that it cuts counts
            as automatic as it then is, unless it was locked before.
        automatic: of the session, once this is written.
    """
    before = np.zeros(found_kji.shape, np.uint8) if before_kji is None else before_kji
    has_lungs = bool(before.any())
    across = locks.held_across(plane) if keep and before_kji is not None else ()
    after = written_over(before, found_kji, labels)
    wanted = after.copy() if across else after
    for place in across:
        wanted[place.where] = before[place.where]
    cut = wanted if editable_kji is None else np.where(editable_kji, wanted, before)
    kept, kept_slices, replaced = 0, [], {}
    kept += sum(bool((after[place.where] != before[place.where]).any()) for place in across)
    slices = zip(*(plane.to_display(one) for one in (before, wanted, cut)), strict=True)
    for index, (old, new, possible) in enumerate(slices):
        is_held = Place.of(plane, index) in locks.held
        is_locked = is_held or (has_lungs and locks.is_painted(index, old))
        if is_locked and keep:
            kept += digest_of(possible) != digest_of(old)
            kept_slices.append(index)
            possible[...] = old
        elif not is_locked or np.array_equal(possible, new):
            replaced[index] = possible
    locks = locks.with_automatic(replaced)
    if not keep:
        lifted = {Place.of(plane, index) for index in replaced}
        everywhere = locks.held_across(plane) if editable_kji is None else ()
        locks = locks.holding(removed=lifted.union(everywhere))
    return MergedVolume(cut, kept, locks, plane, tuple(kept_slices), across, editable_kji, automatic)
