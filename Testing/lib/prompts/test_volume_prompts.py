"""Prompts in voxels of a volume, taken to the slices that they lie on."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.prompts.volume import VolumeBox, VolumePoint, VolumePrompts
from SAMLungSegLib.volume import Volume, axial_plane

FOUR_SLICES = Volume(np.zeros((4, 8, 8), np.int16), np.diag([-1.0, -1, 1, 1]), "four slices")


@pytest.mark.parametrize(
    ("k", "slice_number"), [(-0.5, 0), (0.4, 0), (0.6, 1), (2.4, 2), (3.0, 3), (3.5, 3)], ids=lambda value: f"{value:g}"
)
def test_a_point_is_on_the_nearest_slice_and_at_an_outer_face_on_the_outermost(k, slice_number):
    placed = VolumePrompts((VolumePoint((2, 3, k)),)).by_slice(axial_plane(FOUR_SLICES), FOUR_SLICES)
    assert {number: [point.xy for point in shown.points] for number, shown in placed.items()} == {
        slice_number: [(2.0, 3.0)]
    }


@pytest.mark.parametrize(("first", "last", "numbers"), [(1.0, 3.5, [1, 2, 3]), (3.5, 3.5, [3]), (-0.5, 0.5, [0])])
def test_a_box_that_ends_at_an_outer_face_is_on_the_outermost_slice(first, last, numbers):
    box = VolumeBox((1, 1, first), (5, 6, last))
    placed = VolumePrompts((), (box,)).by_slice(axial_plane(FOUR_SLICES), FOUR_SLICES)
    assert sorted(placed) == numbers
    assert {shown.boxes[0].xyxy for shown in placed.values()} == {(1.0, 1.0, 5.0, 6.0)}
