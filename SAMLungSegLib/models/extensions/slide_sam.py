"""Slide-SAM as an extension: a slice is seen with its neighbours and predicted with them, see `models.sam.slide`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.extensions.base import Extension, register_extension

if TYPE_CHECKING:
    from SAMLungSegLib.models.trainable import TrainableModel


@register_extension("slide-sam")
@dataclass(frozen=True)
class SlideSam(Extension):
    """Three slices in, three masks out."""

    def added_to(self, model: TrainableModel) -> TrainableModel:
        """A `SlideSamModel` with the same network.

        Raises:
            ModelError: the model is no plain SAM.
        """
        from SAMLungSegLib.models.sam.model import SamModel  # torch takes seconds to import
        from SAMLungSegLib.models.sam.slide import SlideSamModel

        if not isinstance(model, SamModel):
            raise ModelError(f"Slide-SAM is made of SAM, not of {model.name}; choose one such as sam-vit-b.")
        return SlideSamModel.of(model)
