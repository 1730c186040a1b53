"""What all cases of a run have in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from SAMLungSegLib.batch.cases import Case
from SAMLungSegLib.errors import PromptError, SAMLungSegError, SettingsError
from SAMLungSegLib.files import file_signature
from SAMLungSegLib.metrics import DEFAULT_TOLERANCE_MM
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.pipeline import Options
from SAMLungSegLib.results import FORMATS, OVERLAY_CHOICES, Overlays

_VERSION = 3  # of what a run measures and writes; another one makes all results anew


class BatchError(SAMLungSegError):
    """A run over many images cannot start, or cannot go on."""


@dataclass(frozen=True)
class Settings:
    """How every case is segmented and what is written.

    Attributes:
        options: modality, window, threshold, lungs, extent; prompts belong to the cases.
        model: which one predicts.
        device: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps'.
        format: of the labelmaps; None for PNG where the image is a picture and seg.nrrd elsewhere.
        overlays: pictures that are drawn: 'none', 'small' ones for the report, or 'full', large ones as well.
        tolerance_mm: of the surface Dice, where there are references.
    Raises:
        PromptError: prompts are given for all images alike.
        SettingsError: an unknown format or choice of pictures.
    """

    options: Options = field(default_factory=Options)
    model: ModelChoice = field(default_factory=ModelChoice)
    device: str = "auto"
    format: str | None = None
    overlays: Overlays = "small"
    tolerance_mm: float = DEFAULT_TOLERANCE_MM

    def __post_init__(self) -> None:
        if self.options.points or self.options.boxes:
            raise PromptError("Points and boxes are voxels of one image; give them in a list of images.")
        if self.format not in (None, *FORMATS):
            raise SettingsError(f"Results cannot be written as '{self.format}'; give one of {', '.join(FORMATS)}.")
        if self.overlays not in OVERLAY_CHOICES:
            raise SettingsError(f"Overlays {self.overlays!r} is not one of {', '.join(OVERLAY_CHOICES)}.")

    @property
    def pictures(self) -> tuple[str, ...]:
        """What the chosen pictures of a case are called in its row of the table."""
        return {"none": (), "small": ("overlay",), "full": ("overlay", "full_overlay")}[self.overlays]

    def options_of(self, case: Case) -> Options:
        """The options with the prompts of a case, and with its modality where it has one of its own."""
        modality = case.modality or self.options.modality
        return replace(self.options, modality=modality, points=case.points, boxes=case.boxes)

    def fingerprint(self, case: Case, weights_sha256: Mapping[str, str]) -> str:
        """What changes when the result of an unchanged image would; neither the device nor the pictures count."""
        options = asdict(self.options_of(case))
        if options["extent"] == "visible":  # as of all results before there was a choice, which stay
            del options["extent"]
        decides = {
            "version": _VERSION,
            "options": options,
            "model": asdict(replace(self.model, weights=None)),
            "weights": dict(weights_sha256),
            "format": self.format,
            "reference": [_stamp(case.reference), self.tolerance_mm] if case.reference else None,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def _stamp(path: Path) -> str:
    try:
        return file_signature([path])
    except OSError:
        return "absent"
