"""Tuned mask decoders and adapters: weights that belong on top of a base model, and the card that says how to use them.

The card is the JSON file beside the weights, of the same stem. It names the base model with the SHA-256 of its weights,
the adapter where there is one, the probability above which a pixel is lung, and the prompts of the tuning.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from SAMLungSegLib.documents import DocumentError, read_bytes, read_json
from SAMLungSegLib.errors import IntensityError, ModelError
from SAMLungSegLib.models.base import Embedding, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.models.wrapper import ModelWrapper
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt, PromptSet
from SAMLungSegLib.prompts.reference import tight_box

if TYPE_CHECKING:
    from SAMLungSegLib.intensity import Window

SCHEMA_NAME = "samlungseg-tuned-decoder"
SCHEMA = f"{SCHEMA_NAME}/1"
ADAPTER_SCHEMA_NAME = "samlungseg-adapter"
ADAPTER_SCHEMA = f"{ADAPTER_SCHEMA_NAME}/1"
ADAPTED_SCHEMA_NAME = "samlungseg-adapted"
ADAPTED_SCHEMA = f"{ADAPTED_SCHEMA_NAME}/1"
_SCHEMAS = {SCHEMA_NAME: SCHEMA, ADAPTER_SCHEMA_NAME: ADAPTER_SCHEMA, ADAPTED_SCHEMA_NAME: ADAPTED_SCHEMA}

PromptKind = Literal["none", "box", "points", "both"]
PROMPT_KINDS: tuple[PromptKind, ...] = ("none", "box", "points", "both")
MOST_POINTS = 100
_LONGEST_NAME_BYTES = 255
_CARD_FIELDS = {"base", "base_sha256", "base_file", "weights_sha256", "prompts", "threshold"}


@dataclass(frozen=True)
class PromptRecipe:
    """The prompts of both lungs together that a decoder was tuned with.

    Attributes:
        kind: nothing, a box round both lungs, points, or both of these.
        mean_points: positive points that fit all images, XY relative to the slice's size: 0 is its left or top border,
            1 its right or bottom one.
    """

    kind: PromptKind
    mean_points: tuple[tuple[float, float], ...] = ()

    @property
    def needs_box(self) -> bool:
        """Whether a box belongs to it, which somebody must find in each slice."""
        return self.kind in ("box", "both")

    def prompts(self, size_hw: tuple[int, int], box: BoxPrompt | None = None) -> PromptSet:
        """For a slice of that size; `box` is left out where it does not belong to the recipe."""
        height, width = size_hw
        points = tuple(PointPrompt((x * width - 0.5, y * height - 0.5)) for x, y in self.mean_points)
        return PromptSet(points, box if self.needs_box else None)


@dataclass(frozen=True)
class AdapterChoice:
    """Which adapter weights belong to: `method` of the registry of adapters, and its `settings`."""

    method: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class ExtensionChoice:
    """Which extension weights belong to: `name` of the registry of extensions, and its `settings`."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class TunedCard:
    """What loading tuned parts of a model, adapters or an extension has to know.

    Attributes:
        base: name of the model in the registry.
        base_sha256: of the weights that these were tuned on top of.
        base_file: name of their file.
        weights_sha256: of the tuned weights' own file.
        input_size: of SAM's frame while tuning; None for models that have no choice.
        recipe: prompts where none are given; None for what leaves that to the base.
        threshold: probability above which a pixel is lung, in (0, 1); None where there is no recipe.
        adapter: of the image encoder; None where there is none.
        extension: of the model; None where there is none.
    """

    base: str
    base_sha256: str
    base_file: str
    weights_sha256: str
    input_size: int | None
    recipe: PromptRecipe | None
    threshold: float | None
    adapter: AdapterChoice | None = None
    extension: ExtensionChoice | None = None

    @property
    def kind(self) -> str:
        """What messages call the weights."""
        return {SCHEMA: "decoder", ADAPTER_SCHEMA: "adapter"}.get(self.schema, "adaptation")

    @property
    def schema(self) -> str:
        """A decoder's own where that is all, with its prompts; adapters' own where they come without an extension."""
        if self.extension is not None or (self.adapter is None and self.recipe is None):
            return ADAPTED_SCHEMA
        return SCHEMA if self.adapter is None else ADAPTER_SCHEMA

    def to_fields(self) -> dict[str, Any]:
        """As it is written."""
        recipe = self.recipe
        fields = {
            "schema": self.schema,
            "base": self.base,
            "base_sha256": self.base_sha256,
            "base_file": self.base_file,
            "weights_sha256": self.weights_sha256,
            "trained": "mask_decoder" if self.adapter is None else "adapters",
            "input_size": self.input_size,
            "prompts": recipe and {"kind": recipe.kind, "mean_points": [list(xy) for xy in recipe.mean_points]},
            "threshold": self.threshold,
        }
        if self.adapter is not None:
            fields["adapter"] = {"method": self.adapter.method, "settings": dict(self.adapter.settings)}
        if self.extension is not None:
            fields["extension"] = {"name": self.extension.name, "settings": dict(self.extension.settings)}
        return fields

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> TunedCard:
        """From what was written. Raises KeyError, TypeError or ValueError for anything else."""
        size, adapter, extension = fields["input_size"], _adapter(fields), _extension(fields)
        if size is not None and (type(size) is not int or size < 1):
            raise ValueError("the input size is no number of pixels")
        base, base_sha256, base_file, weights_sha256 = (
            _text(fields, name) for name in ("base", "base_sha256", "base_file", "weights_sha256")
        )
        if Path(base_file).name != base_file or "\0" in base_file or len(base_file.encode()) > _LONGEST_NAME_BYTES:
            raise ValueError("base_file is no name of a file")
        is_optional = fields["schema"] != SCHEMA
        recipe, threshold = _recipe(fields["prompts"], fields["threshold"], is_optional=is_optional)
        return cls(base, base_sha256, base_file, weights_sha256, size, recipe, threshold, adapter, extension)


def _adapter(fields: Mapping[str, Any]) -> AdapterChoice | None:
    if fields["schema"] != ADAPTER_SCHEMA and "adapter" not in fields:
        return None
    adapter = fields["adapter"]
    if not isinstance(adapter["method"], str) or not isinstance(adapter["settings"], dict):
        raise TypeError("the adapter has no method and settings")
    return AdapterChoice(adapter["method"], adapter["settings"])


def _extension(fields: Mapping[str, Any]) -> ExtensionChoice | None:
    if "extension" not in fields:
        return None
    extension = fields["extension"]
    if not isinstance(extension["name"], str) or not isinstance(extension["settings"], dict):
        raise TypeError("the extension has no name and settings")
    return ExtensionChoice(extension["name"], extension["settings"])


def _recipe(prompts: Any, threshold: Any, *, is_optional: bool) -> tuple[PromptRecipe | None, float | None]:
    if is_optional and prompts is None and threshold is None:
        return None, None
    if type(threshold) is not float or not 0 < threshold < 1:
        raise ValueError("the threshold is not between 0 and 1")
    recipe = PromptRecipe(prompts["kind"], _points(prompts["mean_points"]))
    if recipe.kind not in PROMPT_KINDS or (recipe.kind in ("points", "both")) != bool(recipe.mean_points):
        raise ValueError("the prompts are not possible")
    return recipe, threshold


def _text(fields: Mapping[str, Any], name: str) -> str:
    if not isinstance(fields[name], str) or not fields[name]:
        raise TypeError(f"{name} is no text")
    return fields[name]


def _points(given: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(given, list) or len(given) > MOST_POINTS:
        raise ValueError(f"mean_points is no list of at most {MOST_POINTS} points")
    points = tuple((float(x), float(y)) for x, y in given)
    if not all(0 <= value <= 1 for xy in points for value in xy):
        raise ValueError("a mean point lies outside the slice")
    return points


def card_path(weights: Path) -> Path | None:
    """The card beside `weights`, if there is one of a tuned decoder or of adapters.

    Raises:
        ModelError: it is damaged.
    """
    return None if _card_fields(weights) is None else weights.with_suffix(".json")


def read_card(weights: Path, *, is_decoder: bool = False) -> TunedCard | None:
    """The card of a tuned decoder or of adapters; None if there is none beside `weights`.

    Args:
        weights: their file.
        is_decoder: whether they hold no encoder of their own. What lies beside whole weights may be anybody's JSON; a
            file beside a decoder that cannot be read would take its threshold and its prompts along.
    Raises:
        ModelError: it is damaged or of another version of this program.
    """
    fields = _card_fields(weights, is_decoder=is_decoder)
    if fields is None:
        return None
    path = weights.with_suffix(".json")
    expected = _SCHEMAS[_schema_name(fields)]
    if fields["schema"] != expected:
        raise ModelError(
            f"{path} has the schema {fields['schema']}, expected {expected}; tune again with this version."
        )
    try:
        return TunedCard.from_fields(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, repr(error)) from error


def _card_fields(weights: Path, *, is_decoder: bool = False) -> dict[str, Any] | None:
    """What is written in the JSON file beside `weights`, if it says that it is a card of `_SCHEMAS`."""
    path = weights.with_suffix(".json") if weights.name else weights
    if not os.path.lexists(path):
        return None
    try:
        fields = read_json(path)
    except DocumentError as error:
        if is_decoder or _names_schema(path):
            raise _damaged(path, str(error)) from error
        return None
    if isinstance(fields, dict) and _schema_name(fields) in _SCHEMAS:
        return fields
    if is_decoder and (not isinstance(fields, dict) or len(_CARD_FIELDS & fields.keys()) > 1):
        raise _damaged(path, "it does not say that it is one")
    return None


def learned_window(weights: Path) -> tuple[Window, bool] | None:
    """The CT window that weights of any kind were trained with, and whether slices were stretched to their extremes.

    None where the card beside them does not say it.
    """
    from SAMLungSegLib.intensity import Window  # models are listed without the image libraries

    try:
        said = _said_beside(weights)["windowing"]
        return Window(float(said["level"]), float(said["width"])), bool(said.get("stretched"))
    except (IntensityError, KeyError, TypeError, ValueError, AttributeError):
        return None


def learned_organs(weights: Path) -> tuple[str, ...]:
    """The organs that weights of any kind were adapted to; empty where the card beside them does not say it."""
    try:
        return tuple(str(one) for one in _said_beside(weights)["adaptation"]["organs"])
    except (KeyError, TypeError):
        return ()


def _said_beside(weights: Path) -> Any:
    try:
        return read_json(weights.with_suffix(".json"))
    except (DocumentError, ValueError):  # ValueError of a path without a name
        return {}


def _schema_name(fields: Mapping[str, Any]) -> str:
    return str(fields.get("schema", "")).rpartition("/")[0]


def _names_schema(path: Path) -> bool:
    try:
        content = read_bytes(path)
        return any(name.encode() in content for name in _SCHEMAS)
    except DocumentError:
        return False


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(f"The card {path} is damaged ({reason}); get it again together with its weights.")


class TunedModel(ModelWrapper):
    """A model with tuned weights: its logits exceed 0 above the tuned threshold; it prompts itself as it was tuned.

    Where no prompt is given, mean points are put in. A box is taken from what the model predicts without a prompt, if
    it predicts anything then, and otherwise from a coarse labelmap, see `template_prompts`.
    """

    def __init__(self, model: PromptableModel, recipe: PromptRecipe, threshold: float) -> None:
        """Wrap a model that has the tuned weights already."""
        super().__init__(copy.copy(model))
        self.model.capabilities = replace(model.capabilities, needs_prompt=False)  # what is needed is decided here
        self._capabilities = replace(
            model.capabilities, needs_prompt=model.capabilities.needs_prompt and recipe.needs_box
        )
        self._recipe = recipe
        self._logit = float(np.log(threshold / (1 - threshold)))

    @property
    def capabilities(self) -> Capabilities:
        """The base model's, but that mean points replace a prompt."""
        return self._capabilities

    def decode(self, embedding: Embedding, prompts: PromptSet) -> Prediction:
        """Predict the mask of one prompt set; an empty one stands for both lungs, prompted as was tuned.

        Raises:
            PromptError: as the base model.
        """
        self.check_prompts(prompts, embedding.size_hw)
        if prompts.is_empty and self._recipe.needs_box:
            own = self.model.decode(embedding, prompts)
            box = _box_round(own.logits > 0)
            if box is None:
                return self._shifted(own)
            prompts = replace(self._recipe.prompts(embedding.size_hw, box), extent=prompts.extent)
        elif prompts.is_empty:
            prompts = replace(self._recipe.prompts(embedding.size_hw), extent=prompts.extent)
        return self._shifted(self.model.decode(embedding, prompts))

    def decode_points(self, embedding: Embedding, points_xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The base model's predictions, above the tuned threshold."""
        logits, iou = self.model.decode_points(embedding, points_xy)
        return logits - np.float32(self._logit), iou

    def template_prompts(self, coarse_hw: np.ndarray) -> PromptSet | None:
        """The recipe with a box round the lungs of a coarse labelmap, where a box belongs to it."""
        box = _box_round(coarse_hw > 0)
        if box is None or not self._recipe.needs_box:
            return None
        return self._recipe.prompts(coarse_hw.shape, box)

    def check_prompts(self, prompts: PromptSet, size_hw: tuple[int, int]) -> None:
        """As of any model, by its own capabilities."""
        PromptableModel.check_prompts(self, prompts, size_hw)

    def _shifted(self, prediction: Prediction) -> Prediction:
        shift = np.float32(self._logit)
        return replace(
            prediction,
            logits=prediction.logits - shift,
            low_res_logits=prediction.low_res_logits - shift,
            structure_logits={key: logits - shift for key, logits in prediction.structure_logits.items()},
        )


def _box_round(mask: np.ndarray) -> BoxPrompt | None:
    return tight_box(mask) if mask.any() else None
