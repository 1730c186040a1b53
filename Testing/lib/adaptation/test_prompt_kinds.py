"""The five kinds of prompts of the multi-organ study, on small masks, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.adaptation.prompts import PROMPT_KINDS, prompts_of
from SAMLungSegLib.errors import PromptError, SettingsError


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


WIDE = mask_of(
    "............",
    ".####.......",
    ".#####......",
    ".####.......",
    "............",
)  # of 5 x 12 pixels: rows 1 to 3, columns 1 to 5
AT_THE_BORDER = mask_of(
    "##...",
    "##...",
    "##...",
    ".....",
)


def drawn(mask: np.ndarray, kind: str, seed: int = 0):
    return prompts_of(mask, kind, np.random.default_rng(seed))


def test_the_centre_is_the_pixel_deepest_inside_and_the_first_of_equals():
    (point,) = drawn(WIDE, "centre").points
    assert point.xy == (2.0, 2.0) and point.positive  # two pixels from outside; so is (3, 2), which comes later


def test_what_lies_beyond_the_slice_is_outside_of_the_mask():
    (point,) = drawn(AT_THE_BORDER, "centre").points
    assert point.xy == (0.0, 0.0)  # all six pixels are one from outside


def test_random_points_lie_in_the_mask_and_are_those_of_the_seed():
    for kind, count in (("point", 1), ("points", 3)):
        for seed in range(20):
            points = drawn(WIDE, kind, seed).points
            assert len(points) == count == len({one.xy for one in points})
            assert all(WIDE[int(one.xy[1]), int(one.xy[0])] and one.positive for one in points)
        assert drawn(WIDE, kind, 3) == drawn(WIDE, kind, 3) != drawn(WIDE, kind, 4)


def test_every_pixel_can_be_drawn():
    seen = {drawn(AT_THE_BORDER, "point", seed).points[0].xy for seed in range(100)}
    assert seen == {(float(x), float(y)) for x in (0, 1) for y in (0, 1, 2)}


def test_three_points_of_two_pixels_repeat_one():
    points = drawn(mask_of("##."), "points").points
    assert len(points) == 3 and {one.xy for one in points} <= {(0.0, 0.0), (1.0, 0.0)}


def test_the_tight_box_ends_one_pixel_beyond_the_mask():
    prompts = drawn(WIDE, "box")
    assert prompts.box.xyxy == (1.0, 1.0, 6.0, 4.0) and not prompts.points
    assert drawn(AT_THE_BORDER, "box").box.xyxy == (0.0, 0.0, 2.0, 3.0)


def test_the_larger_box_has_five_pixels_more_on_each_side_within_the_slice():
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:45] = True
    assert drawn(mask, "larger-box").box.xyxy == (25.0, 5.0, 50.0, 25.0)
    assert drawn(WIDE, "larger-box").box.xyxy == (0.0, 0.0, 11.0, 5.0)  # 5 x 12 pixels hold no more
    assert drawn(AT_THE_BORDER, "larger-box").box.xyxy == (0.0, 0.0, 5.0, 4.0)


@pytest.mark.parametrize("kind", PROMPT_KINDS)
def test_an_empty_mask_has_no_prompts(kind):
    with pytest.raises(PromptError, match="empty mask"):
        drawn(np.zeros((4, 4), bool), kind)


def test_other_kinds_are_refused():
    with pytest.raises(SettingsError, match="no kind of prompts 'circle'; choose of centre, point"):
        drawn(WIDE, "circle")
