"""Corrections carried to the slices around them: each moves the border of the automatic mask as it moved its own."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from SAMLungSegLib.interaction.propagation.field import CorrectionField, signed_distance_mm
from SAMLungSegLib.interaction.propagation.result import End, Reach
from SAMLungSegLib.masks import Box

DECAY_MM = 17.0
FARTHEST_MM = 40.0
INTERPOLATED_MM = 30.0
CONTRAST_SHARE = 0.05  # 40 HU between lung and what surrounds it


@dataclass
class CorrectedStack:
    """The stack with its corrections.

    Attributes:
        anchors: numbers of the slices that stay, ascending.
    """

    automatic: np.ndarray
    values: np.ndarray
    spacing: tuple[float, float, float]
    corrected: Mapping[int, np.ndarray]
    anchors: list[int]
    fields: dict[int, dict[int, CorrectionField]] = field(init=False)  # by label, by slice

    def __post_init__(self) -> None:
        present = {0, *np.unique(self.automatic), *(int(v) for one in self.corrected.values() for v in np.unique(one))}
        tolerance = self._tolerance()
        self.fields = {int(label): {} for label in sorted(present - {0})}
        for label, fields in self.fields.items():
            for index, labels_hw in self.corrected.items():
                masks = self.automatic[index] == label, labels_hw == label
                one = CorrectionField.of(*masks, self.values[index], self.spacing[1:], tolerance)
                if one is not None:
                    fields[index] = one

    def _tolerance(self) -> float:
        if not self.corrected:
            return 1.0
        index = max(self.corrected, key=lambda one: (np.count_nonzero(self.corrected[one]), -one))
        inside = self.corrected[index] > 0
        if not inside.any() or inside.all():
            return 1.0
        values = self.values[index]
        around = ndimage.binary_dilation(inside, iterations=5) & ~inside
        return max(CONTRAST_SHARE * abs(float(np.median(values[inside])) - float(np.median(values[around]))), 1e-3)

    def neighbours(self, index: int) -> tuple[int | None, int | None]:
        """The anchors before and after a slice that is none."""
        place = bisect_left(self.anchors, index)
        before = self.anchors[place - 1] if place else None
        return before, self.anchors[place] if place < len(self.anchors) else None

    def is_near_a_correction(self, index: int) -> bool:
        if index in self.anchors:
            return False
        return any(
            other in fields and abs(other - index) * self.spacing[0] <= FARTHEST_MM
            for other in self.neighbours(index)
            if other is not None
            for fields in self.fields.values()
        )

    def changed(self, index: int) -> np.ndarray:
        """Labels (H, W) of a slice."""
        before = self.automatic[index]
        after = before.copy()
        for label in self.fields:
            found = self._mask(index, label)
            if found is not None:
                box, mask = found
                was = before[box] == label
                after[box][was & ~mask & (after[box] == label)] = 0
        for label in self.fields:
            found = self._mask(index, label)
            if found is not None:
                box, mask = found
                after[box][mask & (after[box] == 0)] = label
        return after

    def _mask(self, index: int, label: int) -> tuple[Box, np.ndarray] | None:
        fields = self.fields[label]
        before, after = self.neighbours(index)
        sides = [one for one in (before, after) if one is not None and one in fields]
        if not sides:
            return None
        boxes = [fields[one].box for one in sides]
        box = tuple(slice(min(one[a].start for one in boxes), max(one[a].stop for one in boxes)) for a in range(2))
        mask = self.automatic[index][box] == label
        distance = signed_distance_mm(mask, self.spacing[1:])
        if before is not None and after is not None and (after - before) * self.spacing[0] <= INTERPOLATED_MM:
            share = (index - before) / (after - before)
            values = [self._anchored(one, label)[box] for one in (before, after)]
            signed = [signed_distance_mm(one, self.spacing[1:]) for one in values]
            score = (1 - share) * signed[0] + share * signed[1]
            zone = np.zeros(mask.shape, bool)
            for one in sides:
                part = _within(fields[one].box, box)
                zone[part] |= fields[one].shift_mm != 0
            new = np.where(zone, score > 0, mask)
        else:
            score = distance
            for one in sides:
                part = _within(fields[one].box, box)
                mm = abs(one - index) * self.spacing[0]
                weight = np.exp(-((mm / DECAY_MM) ** 2) / 2) * (mm <= FARTHEST_MM)
                alike = fields[one].alike(self.values[index][fields[one].box].astype(np.float32), self.spacing[1:])
                score[part] += np.float32(weight) * alike * fields[one].shift_mm
            new = score > 0
        changed = ndimage.binary_opening(new != mask, iterations=1)
        return box, mask ^ changed

    def _anchored(self, index: int, label: int) -> np.ndarray:
        return self.corrected.get(index, self.automatic[index]) == label

    def reaches(self, labels: Mapping[int, np.ndarray]) -> Iterator[Reach]:
        sources = sorted({index for fields in self.fields.values() for index in fields})
        for source in sources:
            for step in (-1, 1):
                yield self._reach(source, step, labels)

    def _reach(self, source: int, step: int, labels: Mapping[int, np.ndarray]) -> Reach:
        last, index = source, source + step
        end: End = "volume end"
        while 0 <= index < len(self.automatic):
            if index in self.anchors:
                end = "lock"
                break
            if abs(index - source) * self.spacing[0] > FARTHEST_MM:
                end = "distance"
                break
            if index not in labels:
                end = "image"
                break
            last, index = index, index + step
        return Reach(source, step, last, end)


def _within(inner: Box, outer: Box) -> Box:
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True))
