"""What a model can do, as data: in the registry for models that are not loaded yet, in a card where there is one.

Nothing outside `models` looks at the family of a model; it looks here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from SAMLungSegLib.errors import ModelError, SettingsError
from SAMLungSegLib.structures import EXTENTS, LUNGS, LabelSet, label_set

PROMPTS = ("points", "box", "mask")
NETWORK_PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")
PARTS = (*NETWORK_PARTS, "adapters")


@dataclass(frozen=True)
class Capabilities:
    """What a model accepts, predicts and costs.

    Attributes:
        prompts: the kinds it accepts, of `PROMPTS`.
        needs_prompt: whether it predicts nothing without one.
        structures: what it predicts beside the prompted object, each with logits of its own; None where it only
            segments what it is shown.
        extents: which lungs it predicts without a prompt on X-rays, of `structures.EXTENTS`.
        slices_per_input: how many neighbouring slices it looks at, the one to segment in the middle; odd.
        sees_volume: whether the whole volume that a slice lies in plays a part.
        encodes_slowly: whether reading an embedding from disk is faster than making it.
        encoder_bytes: memory that one more slice takes on its way through the encoder, about.
        trainable: its parts that training can change, of `PARTS`; 'adapters' where its encoder has points for them.
        window: preset of the CT window that it was trained with; None where it was not trained on CT.
        learning_rate: at which its mask decoder is usually tuned: 1e-5 for SAM, as in the paper; 5e-4 for
            lung-compact, at which it was trained (12 X-rays of a set that it had not seen, 12 epochs at 1e-4, 3e-4 and
            1e-3: Dice from 0.937 to 0.959, 0.965 and 0.973).
    Raises:
        ModelError: a value is not possible.
    """

    prompts: tuple[str, ...] = PROMPTS
    needs_prompt: bool = True
    structures: LabelSet | None = None
    extents: tuple[str, ...] = ("visible",)
    slices_per_input: int = 1
    sees_volume: bool = False
    encodes_slowly: bool = True
    encoder_bytes: int = 1 << 30
    trainable: tuple[str, ...] = NETWORK_PARTS
    window: str | None = None
    learning_rate: float = 1e-5

    def __post_init__(self) -> None:
        for name, possible in (("prompts", PROMPTS), ("extents", EXTENTS), ("trainable", PARTS)):
            if not set(getattr(self, name)) <= set(possible):
                raise ModelError(f"{name} {getattr(self, name)} are not possible; choose of {', '.join(possible)}.")
        if self.slices_per_input < 1 or self.slices_per_input % 2 == 0:
            raise ModelError(f"{self.slices_per_input} slices per input have no middle; give an odd number.")

    def accepts(self, kind: str) -> bool:
        """Whether prompts of a kind, one of `PROMPTS`, are accepted."""
        return kind in self.prompts

    def to_fields(self) -> dict[str, Any]:
        """As a card holds it."""
        return {
            "prompts": list(self.prompts),
            "needs_prompt": self.needs_prompt,
            "structures": self.structures and self.structures.name,
            "extents": list(self.extents),
            "slices_per_input": self.slices_per_input,
            "sees_volume": self.sees_volume,
            "encodes_slowly": self.encodes_slowly,
            "encoder_bytes": self.encoder_bytes,
            "trainable": list(self.trainable),
            "window": self.window,
            "learning_rate": self.learning_rate,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Capabilities:
        """From what a card holds; what it leaves out is as by default.

        Raises:
            ModelError: a field is unknown or has a value that is not possible.
        """
        from SAMLungSegLib.intensity import WINDOW_PRESETS  # models are listed without the image libraries

        values = dict(fields)
        default = cls()
        for name, value in values.items():
            if name not in default.__dataclass_fields__:
                raise ModelError(f"Capability '{name}' is not known; use {', '.join(default.__dataclass_fields__)}.")
            if name in ("prompts", "extents", "trainable"):
                if not isinstance(value, list):
                    raise ModelError(f"Capability {name} is no list: {value!r}.")
                values[name] = tuple(value)
            elif name == "structures":
                values[name] = _named(value)
            elif name == "window":
                if value not in (None, *WINDOW_PRESETS):
                    raise ModelError(f"Capability window {value!r} is no preset; use {', '.join(WINDOW_PRESETS)}.")
            elif type(value) is not type(getattr(default, name)):
                expected = getattr(default, name)
                raise ModelError(f"Capability {name} has the value {value!r}; expected one like {expected!r}.")
        return cls(**values)


def _named(name: Any) -> LabelSet | None:
    try:
        return None if name is None else label_set(name)
    except (SettingsError, TypeError) as error:
        raise ModelError(f"Capability structures: {error}") from error


# of memory a slice in ViT-H takes about 32 arrays of 4096 x 1280 floats in its attention (0.7 GB), and slack
SAM = Capabilities(trainable=PARTS)
SAM_TINY = Capabilities(
    encodes_slowly=False, encoder_bytes=64 << 20, trainable=PARTS, window="lung", learning_rate=1e-4
)
MEDSAM = Capabilities(prompts=("box",), trainable=PARTS, window="lung")
COMPACT = Capabilities(
    needs_prompt=False,
    structures=LUNGS,
    extents=EXTENTS,
    encodes_slowly=False,
    encoder_bytes=64 << 20,
    window="lung",
    learning_rate=5e-4,
)
