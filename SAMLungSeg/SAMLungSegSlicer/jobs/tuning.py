"""A model tuned on the slices that a person has accepted, adopted only where slices that it never saw get better."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import slicer

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.bridge.lungs import extentOf
from SAMLungSegSlicer.jobs.settings import Settings
from SAMLungSegSlicer.jobs.targets import segmentedVolume
from SAMLungSegSlicer.runtime.imports import keepTritonApart
from SAMLungSegSlicer.sessions import LOCKS_ATTRIBUTE, locksOf

if TYPE_CHECKING:
    from SAMLungSegLib.interaction import Locks
    from SAMLungSegLib.training import TuneResult
    from SAMLungSegLib.volume import SlicePlane

FEWEST_SLICES = 8


class Accepted(NamedTuple):
    """How many slices there are to learn from.

    Attributes:
        slices: with lung, accepted, locked or painted by a person.
        volumes: that these are of.
    """

    slices: int
    volumes: int


@dataclass(frozen=True, eq=False)
class AcceptedLungs:
    """The lungs of one segmentation as they were at a moment; any thread may look which slices are accepted."""

    volumeNode: slicer.vtkMRMLVolumeNode
    stored: bridge.StoredLungs
    locks: Locks
    plane: SlicePlane

    def read(self) -> tuple[np.ndarray, tuple[int, ...]]:
        """The labelmap, uint8 (K, J, I), and the numbers of the accepted slices that show lung."""
        from SAMLungSegLib.interaction.locks import numbers_with_lung

        labelmap_kji = self.stored.labelmap_kji()
        locked = self.locks.locked(labelmap_kji, self.plane)
        return labelmap_kji, numbers_with_lung(labelmap_kji, locked, self.plane)


def acceptedKey() -> tuple:
    """What changes when there may be other slices to learn from."""
    return tuple(
        (segmentationNode.GetID(), bridge.stampOf(segmentationNode), locks)
        for segmentationNode, _volumeNode, locks in _candidates()
    )


def acceptedLungs() -> list[AcceptedLungs]:
    """Those of all segmentations of the scene that this module has worked on; what cannot be read is left out.

    Whole lungs of X-rays are left out, too: what is tuned predicts the visible fields.
    """
    found = []
    for segmentationNode, volumeNode, _locks in _candidates():
        ids = bridge.findLungSegments(segmentationNode)
        if extentOf(segmentationNode.GetSegmentation(), ids.values()) == "whole":
            continue
        try:
            known = locksOf(volumeNode, segmentationNode)
            if known is not None:
                found.append(AcceptedLungs(volumeNode, bridge.storedLungs(segmentationNode, volumeNode), *known))
        except SAMLungSegError:
            continue
    return found


def countAccepted(lungs: Sequence[AcceptedLungs]) -> Accepted:
    """How many slices they have, on any thread."""
    counts = [len(one.read()[1]) for one in lungs]
    return Accepted(sum(counts), sum(map(bool, counts)))


class TuneJob:
    """Tunes the chosen model's mask decoder by PyTorch; nothing is kept before `keep`."""

    def __init__(self, lungs: Sequence[AcceptedLungs], settings: Settings) -> None:
        """Read the images.

        Args:
            lungs: of `acceptedLungs`.
            settings: whose model, own weights, device, window and modality count.
        Raises:
            SAMLungSegError: an image cannot be used.
        """
        self._lungs = [(one, bridge.volumeFromNode(one.volumeNode)) for one in lungs]
        self._settings = settings
        self._folder = TemporaryDirectory(prefix="SAMLungSeg-tuning-")

    def run(
        self, progress: Callable[[int, int], None] | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> TuneResult:
        """Tune, on any thread; progress is in epochs, of which the last ones may not be needed.

        Raises:
            CancelledError: `cancelled` said so.
            SAMLungSegError: too few slices, or the model cannot be tuned.
        """
        keepTritonApart()
        from SAMLungSegLib.intensity import parse_window
        from SAMLungSegLib.models.choice import BaseCheckpoint
        from SAMLungSegLib.training import TuneOptions, TuningConfig, tune
        from SAMLungSegLib.training.data.accepted import AcceptedSlices, write_cases
        from SAMLungSegLib.training.data.cases import Windowing
        from SAMLungSegLib.training.fine_tune import usual_kind
        from SAMLungSegLib.training.trainer import Watch

        folder, choice = Path(self._folder.name), self._settings.choice
        modality = self._settings.options().modality
        accepted = [AcceptedSlices(volume, *lungs.read(), modality) for lungs, volume in self._lungs]
        cases = write_cases(accepted, folder / "slices")
        base = BaseCheckpoint(choice.name, choice.weights)
        model = base.load(self._settings.device or "auto")
        options = TuneOptions(
            usual_kind(model),
            TuningConfig(learning_rate=model.capabilities.learning_rate),
            windowing=Windowing(parse_window(self._settings.window)),
        )
        return tune(model, base, cases, folder / "tuned", options, Watch(progress, cancelled))

    def keep(self, result: TuneResult, folder: Path) -> Path:
        """Copy the adopted weights into a folder, with their card and what they need; the file to use.

        Raises:
            OutputError: the folder takes no files.
        """
        from SAMLungSegLib.files import writable_folder, write_bytes

        writable_folder(folder)
        name = f"{result.weights.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        target = folder / f"{name}{result.weights.suffix}"
        for path in result.weights.parent.iterdir():
            if path.stem == result.weights.stem:
                write_bytes(path.read_bytes(), target.with_suffix(path.suffix))
            elif path.stem == self._settings.choice.path.stem:
                write_bytes(path.read_bytes(), folder / path.name)
        return target

    def discard(self) -> None:
        """Remove all that was written on the way."""
        self._folder.cleanup()


def _candidates() -> list[tuple[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLVolumeNode, str]]:
    """Segmentations that something is known of, with their volume and with what is known as text."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    found = [(node, segmentedVolume(node), node.GetAttribute(LOCKS_ATTRIBUTE)) for node in nodes]
    return [one for one in found if one[2] and one[1] is not None and one[1].GetImageData() is not None]
