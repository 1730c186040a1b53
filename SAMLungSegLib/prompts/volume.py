"""A user's prompts in voxels of a volume, and where they lie on its slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.prompts.types import BoxPrompt, PointPrompt
from SAMLungSegLib.volume import ReformattedSlice, SlicePlane, Volume

MOST_PROMPTS = 1000  # of a kind in one image


@dataclass(frozen=True)
class VolumePoint:
    """A click at voxel `ijk` of a volume's own grid; of an image with one slice (i, j) is enough."""

    ijk: tuple[float, ...]
    positive: bool = True

    def __post_init__(self) -> None:
        _check_voxel(self.ijk)


@dataclass(frozen=True)
class VolumeBox:
    """A box between two voxel corners of a volume's own grid; slices outside every box stay empty."""

    first_ijk: tuple[float, ...]
    last_ijk: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_voxel(self.first_ijk)
        _check_voxel(self.last_ijk)


@dataclass
class PlacedPrompts:
    """What one slice shows of a volume's prompts, in its pixels."""

    points: list[PointPrompt] = field(default_factory=list)
    boxes: list[BoxPrompt] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.points) + len(self.boxes)

    def __iter__(self) -> Iterator[PointPrompt | BoxPrompt]:
        yield from self.points
        yield from self.boxes


@dataclass(frozen=True)
class VolumePrompts:
    """All prompts of a volume.

    Attributes:
        points, boxes: at most `MOST_PROMPTS` of each.
    Raises:
        PromptError: there are more.
    """

    points: tuple[VolumePoint, ...] = ()
    boxes: tuple[VolumeBox, ...] = ()

    def __post_init__(self) -> None:
        for kind, given in (("points", self.points), ("boxes", self.boxes)):
            if len(given) > MOST_PROMPTS:
                raise PromptError(f"{len(given)} {kind} were given; at most {MOST_PROMPTS} are possible in one image.")

    def by_slice(self, plane: SlicePlane, volume: Volume) -> dict[int, PlacedPrompts]:
        """Prompts by the number of the displayed slice; a box is one object on all slices that it spans.

        Raises:
            PromptError: a prompt is outside the volume, or a box is flat.
        """
        placed: dict[int, PlacedPrompts] = {}
        last = plane.size_nhw[0] - 1

        def slice_at(index: float) -> int:
            return min(round(index), last)  # the outer face of the last slice would be rounded away from it

        for point in self.points:
            index, x, y = plane.ijk_to_nxy(voxel_of(point.ijk, volume))
            on_slice = placed.setdefault(slice_at(index), PlacedPrompts())
            on_slice.points.append(PointPrompt((float(x), float(y)), point.positive))
        for box in self.boxes:
            corners = plane.ijk_to_nxy([voxel_of(corner, volume) for corner in (box.first_ijk, box.last_ijk)])
            low, high = corners.min(axis=0), corners.max(axis=0)
            rectangle = _rectangle((*low[1:].tolist(), *high[1:].tolist()), box)
            for index in range(slice_at(low[0]), slice_at(high[0]) + 1):
                placed.setdefault(index, PlacedPrompts()).boxes.append(rectangle)
        return placed

    def on(self, reformat: ReformattedSlice, volume: Volume) -> PlacedPrompts:
        """What a reformat shows: points whose voxels it has, and its part of each box.

        At a slanting border of the volume, points are moved to the nearest pixel.

        Raises:
            PromptError: as `by_slice`.
        """
        voxels = [(voxel_of(point.ijk, volume), point.positive) for point in self.points]
        shown = [(reformat.ijk_to_xy(ijk), positive) for ijk, positive in voxels if reformat.contains(ijk)]
        limit = np.array(reformat.size_hw[::-1]) - 0.5
        points = [PointPrompt(tuple(np.clip(xy, -0.5, limit).tolist()), positive) for xy, positive in shown]
        corners = [(voxel_of(box.first_ijk, volume), voxel_of(box.last_ijk, volume)) for box in self.boxes]
        parts = [(box, reformat.box_xyxy(*voxels)) for box, voxels in zip(self.boxes, corners, strict=True)]
        return PlacedPrompts(points, [_rectangle(xyxy, box) for box, xyxy in parts if xyxy is not None])


def voxel_of(ijk: tuple[float, ...], volume: Volume) -> tuple[float, ...]:
    """The three indices of a voxel of the volume.

    Raises:
        PromptError: it is outside, or has no k where there are several slices.
    """
    size_ijk = volume.size_kji[::-1]
    if len(ijk) == 2:
        if size_ijk[2] > 1:
            raise PromptError(f"Voxel {ijk} has no k, and {volume.name} has {size_ijk[2]} slices; give i,j,k.")
        ijk = (*ijk, 0.0)
    if not all(-0.5 <= value <= size - 0.5 for value, size in zip(ijk, size_ijk, strict=True)):
        given = ",".join(f"{value:g}" for value in ijk)
        last = ",".join(f"{size - 1}" for size in size_ijk)
        raise PromptError(f"Voxel {given} is outside {volume.name}, whose voxels i,j,k are 0,0,0 to {last}.")
    return ijk


def _rectangle(xyxy: tuple[float, float, float, float], box: VolumeBox) -> BoxPrompt:
    """The rectangle (left, top, right, bottom) of a slice that lies in `box`."""
    left, top, right, bottom = xyxy
    if right <= left or bottom <= top:
        raise PromptError(f"The box from voxel {box.first_ijk} to {box.last_ijk} is flat in the slice; widen it.")
    return BoxPrompt(xyxy)


def _check_voxel(ijk: tuple[float, ...]) -> None:
    if len(ijk) not in (2, 3) or not np.all(np.isfinite(ijk)):
        raise PromptError(f"Voxel {ijk} is not i,j,k; give two or three finite numbers.")
