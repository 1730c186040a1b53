"""Corrections of a volume, whatever made them: which slices a person corrected, which must stay, and what follows.

Propagation starts from what was found automatically and from the corrected slices, never from what an earlier
propagation wrote, so that doing it again after one more correction does not drift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.interaction.automatic import AutomaticLungs
from SAMLungSegLib.interaction.locks import Locks, Place
from SAMLungSegLib.interaction.propagation import Propagation, Propagator, propagate
from SAMLungSegLib.interaction.rules import UNKNOWN, MergedVolume

if TYPE_CHECKING:
    from SAMLungSegLib.options import Progress
    from SAMLungSegLib.volume import SlicePlane

ADDED, REMOVED = 1, 2  # of `PropagatedVolume.changes_kji`


@dataclass(frozen=True, eq=False)
class Corrections:
    """What was corrected in the slices of one plane, and what nothing may change.

    Attributes:
        plane: of the slices that are corrected and propagated to: any of the three.
        corrected: labels, uint8 (H, W), by the number of the slice in `plane`.
        locked: numbers of all locked slices of `plane`, the corrected ones among them.
        kept: slices in any plane that stay as they are.
        locks: with the slices of `plane` that another hand corrected as held ones.
    """

    plane: SlicePlane
    corrected: Mapping[int, np.ndarray]
    locked: tuple[int, ...]
    kept: tuple[Place, ...]
    locks: Locks
    _automatic: AutomaticLungs
    _found_kji: np.ndarray
    _present_kji: np.ndarray
    _segmented: SlicePlane

    @classmethod
    def of(
        cls,
        present_kji: np.ndarray,
        written_kji: np.ndarray,
        automatic: AutomaticLungs | None,
        locks: Locks,
        segmented: SlicePlane,
        plane: SlicePlane,
    ) -> Corrections:
        """Those of a volume as it is now.

        Args:
            present_kji: uint8 (K, J, I), the labels.
            written_kji: likewise, what the session wrote (`Session.labels_kji`), 255 where that is not known.
            automatic: of the session.
            locks: of the session.
            segmented: the plane of the slices that the volume was segmented by, and locks tell by digests.
            plane: whose corrections are to be propagated.
        Raises:
            PromptError: the volume was never segmented, or no slice of the plane was corrected.
        """
        if automatic is None:
            raise PromptError("There is nothing that was found automatically yet; segment the volume first.")
        painted = _painted_across(present_kji, written_kji, locks, segmented, plane)
        unpainted_kji = present_kji.copy() if painted else present_kji
        for place in painted:
            unpainted_kji[place.where] = written_kji[place.where]
        kept = [Place.of(segmented, n) for n in locks.locked(unpainted_kji, segmented)]
        locks = locks.holding(painted)
        kept += locks.held_across(segmented)
        locked = tuple(sorted(one.number_in(plane) for one in kept if one.axis == plane.axes[0]))
        found_kji = segmented.from_display(automatic.labelmap_nhw())
        found_nhw, present_nhw = plane.to_display(found_kji), plane.to_display(present_kji)
        corrected = {n: present_nhw[n] for n in locked if (present_nhw[n] != found_nhw[n]).any()}
        if not corrected:
            raise PromptError(
                "No slice of this plane was corrected since the volume was segmented; correct one with points, a box, "
                "a brush or in the Segment Editor, then propagate."
            )
        return cls(plane, corrected, locked, tuple(kept), locks, automatic, found_kji, present_kji, segmented)

    def propagated(
        self,
        values_kji: np.ndarray,
        *,
        propagator: Propagator = propagate,
        editable_kji: np.ndarray | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> PropagatedVolume:
        """What the volume becomes: as it was found, with the corrections carried on; nothing is written.

        Args:
            values_kji: (K, J, I), Hounsfield units or grey.
            propagator: what carries them on.
            editable_kji: bool, where anything may change at all; None for everywhere.
            progress: called with (slices done, slices in all).
            cancelled: polled between slices.
        Raises:
            CancelledError: `cancelled` returned true.
            GeometryError: shapes differ.
        """
        plane = self.plane
        area = None if editable_kji is None else np.broadcast_to(editable_kji, plane.size_kji)
        propagation = propagator(
            plane.to_display(self._found_kji),
            plane.to_display(values_kji),
            (plane.slice_spacing_mm, *plane.spacing_hw_mm),
            self.corrected,
            self.locked,
            editable_nhw=None if area is None else plane.to_display(area),
            progress=progress,
            cancelled=cancelled,
        )
        after = self._found_kji.copy()
        for number, labels_hw in propagation.labels.items():
            plane.to_display(after)[number] = labels_hw
        for place in self.kept:
            after[place.where] = self._present_kji[place.where]
        if editable_kji is not None:
            after = np.where(editable_kji, after, self._present_kji)
        changed = after != self._present_kji
        changes = np.where(after > 0, np.uint8(ADDED), np.uint8(REMOVED)) * changed
        return PropagatedVolume(self._merged(after, editable_kji), propagation, plane, changes)

    def _merged(self, after_kji: np.ndarray, editable_kji: np.ndarray | None) -> MergedVolume:
        segmented = self._segmented
        kept = tuple(sorted(one.number_in(segmented) for one in self.kept if one.axis == segmented.axes[0]))
        across = tuple(one for one in self.kept if one.axis != segmented.axes[0])
        slices = enumerate(segmented.to_display(after_kji))
        locks = self.locks.with_automatic({n: labels_hw for n, labels_hw in slices if n not in kept})
        return MergedVolume(after_kji, len(self.kept), locks, segmented, kept, across, editable_kji, self._automatic)


@dataclass(frozen=True, eq=False)
class PropagatedVolume:
    """A volume with its corrections carried on, to be looked at and accepted (`Session.accept_volume`).

    Attributes:
        merged: what is written.
        propagation: what became of the corrections.
        plane: of its slices.
        changes_kji: uint8 (K, J, I), `ADDED` where a voxel becomes a lung, or the other one, `REMOVED` where it is none
            any more, 0 elsewhere.
    """

    merged: MergedVolume
    propagation: Propagation
    plane: SlicePlane
    changes_kji: np.ndarray

    @cached_property
    def changed_slices(self) -> tuple[int, ...]:
        """Numbers in `plane` of the slices that become another than they are."""
        return tuple(n for n, changes_hw in enumerate(self.plane.to_display(self.changes_kji)) if changes_hw.any())


def _painted_across(
    present_kji: np.ndarray, written_kji: np.ndarray, locks: Locks, segmented: SlicePlane, plane: SlicePlane
) -> list[Place]:
    """Slices of a plane across the segmented ones that another hand has painted in: its marks lie in fewer of these."""
    if plane.axes[0] == segmented.axes[0]:
        return []
    painted = (present_kji != written_kji) & (written_kji != UNKNOWN)
    for place in locks.held:
        painted[place.where] = False
    along, across = (_slices_with(painted, one.axes[0]) for one in (plane, segmented))
    return [Place(plane.axes[0], int(at)) for at in along] if 0 < len(along) < len(across) else []


def _slices_with(mask_kji: np.ndarray, axis: int) -> np.ndarray:
    """Positions along an array axis where a mask has voxels."""
    return np.flatnonzero(mask_kji.any(axis=tuple(one for one in range(3) if one != axis)))
