"""How dense the grid of points is, and which masks are kept."""

from __future__ import annotations

from dataclasses import dataclass, fields

from SAMLungSegLib.errors import PromptError, SettingsError
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.models.registry import MODELS

MOST_POINTS_PER_SIDE = 256
MOST_CROP_LAYERS = 4


@dataclass(frozen=True)
class AutomaticSettings:
    """What decides the masks; the defaults are those of segment_anything's `SamAutomaticMaskGenerator`.

    Attributes:
        points_per_side: of the grid, over the slice and over each crop.
        iou: masks must exceed this predicted intersection over union; 0 keeps all.
        stability: least intersection over union of the mask cut at logits of 1 and of -1; 0 keeps all.
        nms: of two masks whose boxes have an intersection over union above this, one is dropped.
        crop_layers: layer n predicts again on 2^n x 2^n overlapping crops of the slice; 0 for none.
        min_area_px: holes smaller than this are filled; parts smaller than this, and masks without a larger one,
            are dropped. 0 leaves masks as they are.
        max_share: masks that cover this share of the slice or more are dropped; 1 keeps all.
    Raises:
        SettingsError: a value is not possible.
    """

    points_per_side: int = 32
    iou: float = 0.88
    stability: float = 0.95
    nms: float = 0.7
    crop_layers: int = 0
    min_area_px: int = 100
    max_share: float = 0.95

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or not low <= value <= high:
                raise SettingsError(f"Setting {name} {value!r} is not possible; give a number from {low} to {high}.")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and int(value) != value:
                raise SettingsError(f"Setting {field.name} {value!r} is not possible; give a whole number.")


_LIMITS = {
    "points_per_side": (1, MOST_POINTS_PER_SIDE),
    "iou": (0, 1),
    "stability": (0, 1),
    "nms": (0, 1),
    "crop_layers": (0, MOST_CROP_LAYERS),
    "min_area_px": (0, 2**31),
    "max_share": (0, 1),
}

# A model with structures of its own, such as lung-compact, predicts one of them, or all together, at any point, so that
# a coarse grid is enough. Its predicted IoU ranks slices rather than masks; stability tells good masks from others.
_OF_STRUCTURES = AutomaticSettings(points_per_side=8, iou=0.5, stability=0.8)


def default_settings(model: str) -> AutomaticSettings:
    """The settings that suit a model, by its name; those of SAM for a model that is not in the registry.

    Raises:
        PromptError: the model accepts boxes only.
    """
    capabilities = MODELS[model].capabilities if model in MODELS else Capabilities()
    if not capabilities.accepts("points"):
        raise boxes_only(model)
    return AutomaticSettings() if capabilities.structures is None else _OF_STRUCTURES


def boxes_only(model: str) -> PromptError:
    """The error for a model that does not accept points."""
    return PromptError(
        f"Model {model} accepts boxes only, and automatic masks come of points; use lung-compact or sam-vit-b."
    )
