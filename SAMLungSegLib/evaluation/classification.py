"""How often the class of an object is predicted right: accuracies and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from SAMLungSegLib.errors import SettingsError


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often objects of each class were predicted to be of each class.

    Attributes:
        classes: names, C of them.
        counts: integer (C, C), the true class by row, the predicted one by column.
    """

    classes: tuple[str, ...]
    counts: np.ndarray

    @classmethod
    def of(cls, classes: Sequence[str], true: Sequence[str], predicted: Sequence[str]) -> Confusion:
        """Count objects.

        Args:
            classes: names of all classes, each once.
            true: the class of each object.
            predicted: the class that each was predicted to be of.
        Raises:
            SettingsError: a class is named twice or is not among `classes`, or the lists are not equally long.
        """
        if len(set(classes)) < len(classes):
            raise SettingsError(f"Classes {', '.join(classes)} name one twice; give each once.")
        if len(true) != len(predicted):
            raise SettingsError(f"{len(true)} true and {len(predicted)} predicted classes; give one pair an object.")
        unknown = sorted({*true, *predicted} - {*classes})
        if unknown:
            raise SettingsError(f"There is no class {unknown[0]!r}; the classes are {', '.join(classes)}.")
        number = {name: index for index, name in enumerate(classes)}
        counts = np.zeros((len(classes), len(classes)), np.int64)
        np.add.at(counts, ([number[one] for one in true], [number[one] for one in predicted]), 1)
        return cls(tuple(classes), counts)

    @property
    def occurring(self) -> Confusion:
        """Without the classes that no object is of or was predicted to be of."""
        kept = np.flatnonzero(self.counts.sum(axis=0) + self.counts.sum(axis=1))
        return Confusion(tuple(self.classes[index] for index in kept), self.counts[np.ix_(kept, kept)])

    @property
    def per_class(self) -> np.ndarray:
        """Accuracy of each class, (C,): the share of its objects that were predicted right; NaN where it has none."""
        return np.diagonal(self.shares).copy()

    @property
    def accuracy(self) -> float:
        """Share of all objects that were predicted right: the mean over classes, each weighted by its objects.

        NaN where there are none.
        """
        total = int(self.counts.sum())
        return int(np.trace(self.counts)) / total if total else nan

    @property
    def macro_accuracy(self) -> float:
        """Mean over the classes that have objects, each counting alike; NaN where there are none."""
        known = self.per_class[np.isfinite(self.per_class)]
        return float(known.mean()) if known.size else nan

    @property
    def shares(self) -> np.ndarray:
        """Counts by those of their row, (C, C): rows add up to 1, and are NaN where a class has no objects."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.divide(self.counts, totals, out=np.full(self.counts.shape, nan), where=totals > 0)
