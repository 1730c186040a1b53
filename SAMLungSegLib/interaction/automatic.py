"""What was found automatically in a volume, kept small: corrections are propagated from it, not from what is there."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from SAMLungSegLib.errors import PromptError

_LEVEL = 1  # of zlib: fast; labels are mostly runs of the same


@dataclass(frozen=True)
class AutomaticLungs:
    """Labels and how good each slice is said to be.

    Attributes:
        size_nhw: of the volume as displayed slices, which stay what they are however the volume is stored.
        scores: predicted IoU of each displayed slice, NaN where the model was not used; empty where it is not known.
    """

    size_nhw: tuple[int, int, int]
    scores: tuple[float, ...]
    _packed: bytes = field(repr=False)

    @classmethod
    def of(cls, labelmap_nhw: np.ndarray, scores: Iterable[float] = ()) -> AutomaticLungs:
        """Compressed; a large volume takes some tenths of a second.

        Args:
            labelmap_nhw: uint8 (N, H, W), displayed slices.
            scores: predicted IoU of each displayed slice.
        """
        n, h, w = labelmap_nhw.shape
        packed = zlib.compress(np.ascontiguousarray(labelmap_nhw, np.uint8).data, _LEVEL)
        return cls((n, h, w), tuple(round(float(one), 4) for one in scores), packed)

    @classmethod
    def from_text(cls, text: str | None, size_nhw: tuple[int, int, int]) -> AutomaticLungs | None:
        """What `text` has written for a volume of that size; None where that is absent, damaged or of another."""
        try:
            fields = json.loads(text or "")
            scores = tuple(math.nan if one is None else float(one) for one in fields["scores"])
            automatic = cls(size_nhw, scores, base64.b64decode(fields["labels"], validate=True))
        except (ValueError, TypeError, KeyError):
            return None
        return automatic if list(size_nhw) == fields.get("size") else None

    @cached_property
    def text(self) -> str:
        """To be kept with the segmentation."""
        scores = [None if math.isnan(one) else one for one in self.scores]
        labels = base64.b64encode(self._packed).decode("ascii")
        return json.dumps({"size": list(self.size_nhw), "scores": scores, "labels": labels})

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return len(self._packed)

    def labelmap_nhw(self) -> np.ndarray:
        """Uint8 (N, H, W), of the caller's own.

        Raises:
            PromptError: what was kept with the segmentation is damaged.
        """
        try:
            return np.frombuffer(bytearray(zlib.decompress(self._packed)), np.uint8).reshape(self.size_nhw)
        except (ValueError, zlib.error) as error:
            raise PromptError(
                "What was found automatically is damaged in this segmentation; segment both lungs of the volume again."
            ) from error
