"""The class token that names the organ of a mask, as an extension of SAM."""

from __future__ import annotations

from dataclasses import dataclass

from SAMLungSegLib.models.extensions.base import Extension, register_extension
from SAMLungSegLib.models.trainable import TrainableModel


@register_extension("organ-token")
@dataclass(frozen=True)
class OrganTokenExtension(Extension):
    """See `models.sam.organs`.

    Attributes:
        organs: keys or names, in the order of the head's logits.
    """

    organs: tuple[str, ...]

    def added_to(self, model: TrainableModel) -> TrainableModel:
        """The same model, whose predictions name their organ.

        Raises:
            ModelError: the model is no SAM, or the organs are fewer than two or named twice.
        """
        from SAMLungSegLib.models.sam.organs import add_organ_head  # torch takes seconds to import

        add_organ_head(model.network, self.organs)
        return model
