"""The work on segmentations of the scene: what the library's session decides is read from and written into their nodes.

What was found automatically, and which slices are locked, is remembered in attributes of the segmentation node, which
are saved with the scene.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import slicer
import vtk

from SAMLungSegLib.boxes import IndexBox, box_of
from SAMLungSegLib.interaction import (
    AutomaticLungs,
    Locks,
    MergedVolume,
    Predicted,
    PreparedVolume,
    Proposal,
    Session,
    merge_volume,
    written_over,
)
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.bridge.history import historyOf

if TYPE_CHECKING:
    from SAMLungSegLib import Segmentation
    from SAMLungSegLib.provenance import Provenance
    from SAMLungSegLib.structures import ExtentChoice
    from SAMLungSegLib.volume import SlicePlane

LOCKS_ATTRIBUTE = "SAMLungSeg.automaticSlices"
_AUTOMATIC = "SAMLungSeg.automaticLungs"
_OFF_ROUND = 0.000217  # mm; places are mostly round numbers, which files change in their last digits
_MOST_SESSIONS = 3  # each keeps the voxels of a volume; that of a segmentation that was left is made again


class _Kept(NamedTuple):
    segmentation: slicer.vtkSegmentation | None
    session: Session


_sessions: dict[tuple[str, str], _Kept] = {}  # by ID of the segmentation node, or of the volume without one, and grid


def sessionOf(volumeNode: slicer.vtkMRMLVolumeNode, segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> Session:
    """The session of a segmentation on the grid of a volume, or, without one, of the segmentation that is to come.

    It is in the state that undo and redo of the segmentation's history have left, whoever pressed them.

    Raises:
        VolumeError: the segmentation is kept in a way that cannot be turned into voxels.
        GeometryError: a non-linear transform.
    """
    key, segmentation = _keyOf(volumeNode, segmentationNode), segmentationNode and segmentationNode.GetSegmentation()
    kept = _sessions.pop(key, None)
    if kept is None or kept.segmentation is not segmentation:
        kept = _Kept(segmentation, _newSession(volumeNode, segmentationNode))
        if segmentationNode is not None:
            historyOf(segmentationNode).mark = kept.session.mark
    _sessions[key] = kept
    gone = [one for one in _sessions if slicer.mrmlScene.GetNodeByID(one[0]) is None]
    for one in gone + list(_sessions)[:-_MOST_SESSIONS]:
        _sessions.pop(one, None)
    mark = kept.session.mark if segmentationNode is None else historyOf(segmentationNode).mark
    if mark != kept.session.mark:
        kept.session.go_to(mark)
        remember(segmentationNode, kept.session)
    return kept.session


def remember(segmentationNode: slicer.vtkMRMLSegmentationNode, session: Session) -> None:
    """Keep with the segmentation what its next session has to know."""
    segmentationNode.SetAttribute(LOCKS_ATTRIBUTE, session.locks.to_text(session.plane))
    if session.automatic is not None:
        segmentationNode.SetAttribute(_AUTOMATIC, session.automatic.text)


@contextmanager
def oneStep(
    volumeNode: slicer.vtkMRMLVolumeNode, segmentationNode: slicer.vtkMRMLSegmentationNode | None
) -> Iterator[tuple[slicer.vtkMRMLSegmentationNode, Session]]:
    """What is written within it is one step of undo; gives the segmentation, made if there was none, and its session.

    Raises:
        VolumeError, GeometryError: as `bridge.ensureSegmentation`.
    """
    session = sessionOf(volumeNode, segmentationNode)
    node = bridge.ensureSegmentation(volumeNode, segmentationNode)
    history = historyOf(node)
    if segmentationNode is None:
        del _sessions[_keyOf(volumeNode, None)]
        _sessions[_keyOf(volumeNode, node)] = _Kept(node.GetSegmentation(), session)
        history.mark = session.mark
    history.save()
    yield node, session
    history.mark = session.mark
    remember(node, session)


def followUndo(volumeNode: slicer.vtkMRMLVolumeNode, segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> bool:
    """Where another undo than ours has brought a slice back, as the Segment Editor's own does, the session goes along.

    Returns:
        Whether it has.
    Raises:
        VolumeError, GeometryError: as `sessionOf`.
    """
    if segmentationNode is None:
        return False
    session = sessionOf(volumeNode, segmentationNode)
    before = session.mark
    hasLungs = bool(bridge.stampOf(segmentationNode))
    session.follow(
        lambda cut: bridge.readCut(segmentationNode, cut, volumeNode) if hasLungs else np.zeros(cut.size_hw, np.uint8)
    )
    historyOf(segmentationNode).mark = session.mark
    return session.mark != before


def forgetSessions() -> None:
    """Drop all sessions, as when the scene closes."""
    _sessions.clear()


# ---- one slice


def proposed(
    session: Session,
    predicted: Predicted,
    volumeNode: slicer.vtkMRMLVolumeNode,
    segmentationNode: slicer.vtkMRMLSegmentationNode | None,
    *,
    keep: bool,
    pendingOnly: bool = False,
) -> Proposal:
    """What a prediction would write into a slice as it is now.

    Args:
        session: of the segmentation.
        predicted: of the slice.
        volumeNode, segmentationNode: None where the segmentation is to come.
        keep: whether painted pixels stay.
        pendingOnly: whether prompts that were accepted or discarded before play no part.
    """
    cut, lungs = predicted.prompts.reformat, bridge.lungsWord(predicted.labels)
    present_hw, editable_hw = np.zeros(cut.size_hw, np.uint8), None
    if segmentationNode is not None:
        if bridge.stampOf(segmentationNode):
            present_hw = bridge.readCut(segmentationNode, cut, volumeNode)
        editable_hw = bridge.editableCut(segmentationNode, cut, volumeNode, lungs)
    if pendingOnly:
        session.hold(predicted)
        return session.preview(present_hw, editable_hw, keep=keep)
    return session.proposal(predicted, present_hw, editable_hw, keep=keep)


def writeSlice(
    session: Session,
    proposal: Proposal,
    volumeNode: slicer.vtkMRMLVolumeNode,
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    provenance: Provenance | None,
    extent: ExtentChoice | None,
) -> None:
    """Write what was proposed, how it was found, and of which extent the lungs on an X-ray are."""
    from SAMLungSegLib.actions import Action

    cut, lungs = proposal.prompts.reformat, bridge.lungsWord(proposal.labels)
    isWhole = bool(proposal.inside_hw[cut.inside_hw].all())
    isDrawn = bool(proposal.prompts.drawn_hw().any())
    if provenance is not None or not isDrawn:  # what is only drawn is of the extent of what is there
        bridge.noteExtent(segmentationNode, lungs, extent)
    action = Action(provenance, cut, isWhole, proposal.kept_pixels, isDrawn)
    bridge.noteAction(segmentationNode, volumeNode, lungs, action)
    bridge.writeCut(segmentationNode, proposal.labels_hw, cut, volumeNode, lungs, proposal.inside_hw)
    present_kji = None
    if session.is_crossing(cut):
        present_kji = bridge.storedLungs(segmentationNode, volumeNode, copied=False).labelmap_kji()
    session.accept(proposal, present_kji)


# ---- the volume


class MergedLungs(NamedTuple):
    """An automatic result with what stays, worked out as far as another thread can.

    Attributes:
        volume: as it will be.
        box: outside of which no segment changes.
        prepared: what the session does then.
    """

    volume: MergedVolume
    box: IndexBox
    prepared: PreparedVolume

    @classmethod
    def of(
        cls, merged: MergedVolume, labels: Collection[int], stored: bridge.StoredLungs | None, session: Session
    ) -> MergedLungs:
        """What was merged over lungs that were stored at that time; None for none."""
        after = merged.labelmap_kji
        box = box_of(after) if stored is None else stored.boxOfChange(after, labels)
        return cls(merged, box, session.prepare_volume(merged))


@dataclass(frozen=True, eq=False)
class LungsBefore:
    """The lungs of a segmentation before an automatic result is written; any thread may merge the two."""

    grid: str
    session: Session
    stored: bridge.StoredLungs | None = None
    locks: Locks = field(default_factory=Locks)
    automatic: AutomaticLungs | None = None
    editable_kji: np.ndarray | None = None
    editableStamp: tuple = ()

    @classmethod
    def of(
        cls, volumeNode: slicer.vtkMRMLVolumeNode, segmentationNode: slicer.vtkMRMLSegmentationNode | None, lungs: str
    ) -> LungsBefore:
        """Those of a segmentation now.

        Raises:
            VolumeError, GeometryError: as `bridge.storedLungs`.
        """
        grid, session = _slicesOf(volumeNode, _planeOf(volumeNode)), sessionOf(volumeNode, segmentationNode)
        if segmentationNode is None:
            return cls(grid, session)
        stored = bridge.storedLungs(segmentationNode, volumeNode)
        editable_kji = bridge.editableVoxels(segmentationNode, volumeNode, lungs)
        stamp = bridge.editableStamp(segmentationNode, lungs)
        return cls(grid, session, stored, session.locks, session.automatic, editable_kji, stamp)

    def isOutdated(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None,
        lungs: str,
    ) -> bool:
        """Whether lungs, locks or editable area may have changed since."""
        if segmentationNode is None or self.stored is None:
            return False
        stamps = bridge.stampOf(segmentationNode), bridge.editableStamp(segmentationNode, lungs)
        hasChanged = stamps != (self.stored.stamp, self.editableStamp)
        return hasChanged or sessionOf(volumeNode, segmentationNode).locks != self.locks

    def merge(self, result: Segmentation, lungs: str, keep: bool) -> MergedLungs:
        """An automatic result on the grid of the volume, with the slices that are kept."""
        locks, plane = self.locks.of_grid(self.grid, result.plane.size_nhw[0]), result.plane
        before, labels = None if self.stored is None else self.stored.labelmap_kji(), bridge.lungLabels(lungs)
        merged = merge_volume(
            before,
            result.labelmap_kji,
            labels,
            plane,
            locks,
            keep=keep,
            editable_kji=self.editable_kji,
            automatic=AutomaticLungs.of(plane.to_display(self._found(result, labels, before)), result.scores),
        )
        return MergedLungs.of(merged, labels, self.stored, self.session)

    def _found(self, result: Segmentation, labels: tuple[int, ...], before: np.ndarray | None) -> np.ndarray:
        """With the lung that was not looked for as it was found before, or is."""
        earlier = before
        if self.automatic is not None:
            earlier = result.plane.from_display(self.automatic.labelmap_nhw())
        return result.labelmap_kji if earlier is None else written_over(earlier, result.labelmap_kji, labels)


def writeVolume(
    session: Session,
    lungsToWrite: MergedLungs,
    volumeNode: slicer.vtkMRMLVolumeNode,
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    lungs: str,
    provenance: Provenance | None,
    extent: ExtentChoice | None,
) -> None:
    """Write what was merged, how it was found, and of which extent the lungs on an X-ray are."""
    from SAMLungSegLib.actions import Action

    merged = lungsToWrite.volume
    action = Action(provenance, is_whole=merged.editable_kji is None, kept=merged.kept)
    if len(merged.kept_slices) < merged.plane.size_nhw[0]:
        bridge.noteExtent(segmentationNode, lungs, extent)
    bridge.noteAction(segmentationNode, volumeNode, lungs, action)
    area = merged.labelmap_kji, volumeNode, lungs, merged.editable_kji, lungsToWrite.box
    bridge.writeLabelmap(segmentationNode, *area)
    session.accept_volume(merged, lungsToWrite.prepared)


# ---- which session


def _keyOf(
    volumeNode: slicer.vtkMRMLVolumeNode, segmentationNode: slicer.vtkMRMLSegmentationNode | None
) -> tuple[str, str]:
    return (segmentationNode or volumeNode).GetID(), _gridOf(volumeNode)


def _newSession(
    volumeNode: slicer.vtkMRMLVolumeNode, segmentationNode: slicer.vtkMRMLSegmentationNode | None
) -> Session:
    plane = _planeOf(volumeNode)
    grid = _slicesOf(volumeNode, plane)
    known = Locks().of_grid(grid, plane.size_nhw[0])
    if segmentationNode is None or not bridge.stampOf(segmentationNode):
        return Session(np.zeros(plane.size_kji, np.uint8), known, plane)
    labelmap_kji = bridge.storedLungs(segmentationNode, volumeNode, copied=False).labelmap_kji()
    text = segmentationNode.GetAttribute(LOCKS_ATTRIBUTE)
    if text is None:
        return Session(labelmap_kji, known, plane)
    automatic = AutomaticLungs.from_text(segmentationNode.GetAttribute(_AUTOMATIC), plane.size_nhw)
    return Session.restored(labelmap_kji, Locks.from_text(text, plane), grid, plane, automatic)


def _planeOf(volumeNode: slicer.vtkMRMLVolumeNode) -> SlicePlane:
    """Of the slices that the volume is segmented by."""
    from SAMLungSegLib.volume.geometry import axial_plane_of

    return axial_plane_of(volumeNode.GetImageData().GetDimensions()[::-1], bridge.ijkToPatientMatrix(volumeNode))


def locksOf(
    volumeNode: slicer.vtkMRMLVolumeNode, segmentationNode: slicer.vtkMRMLSegmentationNode
) -> tuple[Locks, SlicePlane] | None:
    """What is known of the slices of a segmentation on the grid of a volume, and their plane; None where nothing is.

    Raises:
        GeometryError: a non-linear transform.
    """
    text = segmentationNode.GetAttribute(LOCKS_ATTRIBUTE)
    if text is None:
        return None
    plane = _planeOf(volumeNode)
    locks = Locks.from_text(text, plane)
    return (locks, plane) if locks.grid == _slicesOf(volumeNode, plane) else None


def _gridOf(volumeNode: slicer.vtkMRMLVolumeNode) -> str:
    """Of the voxels in the volume's own coordinates: a parent transform moves volume and lungs together."""
    return _digestOf(volumeNode.GetImageData().GetDimensions(), _ijkToRas(volumeNode))


def _slicesOf(volumeNode: slicer.vtkMRMLVolumeNode, plane: SlicePlane) -> str:
    """Likewise of the slices as they are displayed: Slicer may store the voxels of a volume in another order."""
    return _digestOf(plane.size_nhw, _ijkToRas(volumeNode) @ plane.nxy_to_ijk_matrix)


def _ijkToRas(volumeNode: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _digestOf(size: tuple[int, int, int], matrix: np.ndarray) -> str:
    place = np.round(matrix + _OFF_ROUND, 3)
    return hashlib.sha256(repr((tuple(size), place.tolist())).encode()).hexdigest()[:16]
