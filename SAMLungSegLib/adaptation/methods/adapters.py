"""Each adapter of `SAMLungSegLib.adapters` as a method: its settings, and whether the mask decoder learns too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from typing import ClassVar

from torch import nn

from SAMLungSegLib.adaptation.method import Method, register_method
from SAMLungSegLib.adapters import adapter_class, adapter_names
from SAMLungSegLib.adapters.base import Adapter
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.training.parts import ADAPTER_RATE

SOURCES = {
    "lora": "Hu et al. 2021, arXiv:2106.09685; on SAM as in SimAda, arXiv:2401.17803",
    "med-sa": "Wu et al., Medical SAM Adapter, arXiv:2304.12620",
    "mixed": "Song et al., SimAda, arXiv:2401.17803",
    "parallel": "Song et al., SimAda, arXiv:2401.17803",
    "segment-any-bone": "Gu et al., SegmentAnyBone, arXiv:2401.12974",
    "series": "Song et al., SimAda, arXiv:2401.17803",
}


@dataclass(frozen=True, kw_only=True)
class AdapterMethod(Method):
    """Trains new adapters; settings of the adapter are settings of the method.

    Attributes:
        with_decoder: whether the mask decoder learns too.
    """

    adapter_kind: ClassVar[type[Adapter]]

    learning_rate: float = ADAPTER_RATE
    with_decoder: bool = False

    def __post_init__(self) -> None:
        self.adapter()  # refuses settings that are not possible

    def adapter(self) -> Adapter:
        """With the settings.

        Raises:
            ModelError: they are not possible.
        """
        return self.adapter_kind(**{one.name: getattr(self, one.name) for one in fields(self.adapter_kind)})

    @property
    def parts(self) -> tuple[str, ...]:
        """The adapters, and the decoder if wished."""
        return ("adapters", "mask_decoder") if self.with_decoder else ("adapters",)

    @property
    def slices_per_input(self) -> int:
        """The adapter's."""
        return self.adapter().slices_per_input

    @property
    def sees_volume(self) -> bool:
        """The adapter's."""
        return self.adapter().sees_volume

    def prepare(self, model: TrainableModel, organs: Sequence[str]) -> nn.ModuleDict:
        """Injects the adapters."""
        self.adapter().inject(model.network)
        return super().prepare(model, organs)


def _register(name: str) -> None:
    kind = adapter_class(name)
    title = (kind.__doc__ or name).splitlines()[0].rstrip(".")
    texts = {"name": name, "title": title, "source": SOURCES.get(name, "docs/adapters.md")}
    settings = [(one.name, one.type, field(default=one.default)) for one in fields(kind)]
    method = make_dataclass(
        f"{kind.__name__}Method",
        settings,
        bases=(AdapterMethod,),
        namespace={**texts, "adapter_kind": kind, "__doc__": f"Trains the adapter '{name}'.", "__module__": __name__},
        frozen=True,
        kw_only=True,
    )
    register_method(method)


for _name in adapter_names():
    _register(_name)
