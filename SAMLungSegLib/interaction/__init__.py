"""What happens while a person works on a volume: prompts, previews, what accepting them writes, undo, locks; as values.

Whoever lets people work, a window, a console or a server, takes the rules from here, so that the same prompts write the
same voxels everywhere. Nothing here knows how segments are stored or shown.
"""

from SAMLungSegLib.interaction.automatic import AutomaticLungs
from SAMLungSegLib.interaction.boxes import SortedBoxes, with_flat_boxes
from SAMLungSegLib.interaction.changes import PreparedVolume, SliceChange, VolumeChange
from SAMLungSegLib.interaction.corrections import Corrections, PropagatedVolume
from SAMLungSegLib.interaction.locks import Locks, Place
from SAMLungSegLib.interaction.prompts import SlicePrompts
from SAMLungSegLib.interaction.propagation import End, Propagation, Propagator, Reach, propagate
from SAMLungSegLib.interaction.rules import MergedVolume, Predicted, Proposal, merge_volume, propose, written_over
from SAMLungSegLib.interaction.session import Session
from SAMLungSegLib.interaction.strokes import Patch, Stroke, nothing_found, with_patches
from SAMLungSegLib.interaction.timeline import Timeline

__all__ = [
    "AutomaticLungs",
    "Corrections",
    "End",
    "Locks",
    "MergedVolume",
    "Patch",
    "Place",
    "Predicted",
    "PreparedVolume",
    "PropagatedVolume",
    "Propagation",
    "Propagator",
    "Proposal",
    "Reach",
    "Session",
    "SliceChange",
    "SlicePrompts",
    "SortedBoxes",
    "Stroke",
    "Timeline",
    "VolumeChange",
    "merge_volume",
    "nothing_found",
    "propagate",
    "propose",
    "with_flat_boxes",
    "with_patches",
    "written_over",
]
