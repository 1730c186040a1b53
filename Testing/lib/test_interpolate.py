"""Slices between those that a model has seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.postprocess import interpolate_slices


def bar(first: int, last: int, label: int = 1, width: int = 20) -> np.ndarray:
    """One slice of three rows; the middle one is labelled from column `first` to `last`."""
    labels = np.zeros((3, width), np.uint8)
    labels[1, first : last + 1] = label
    return labels


def stack_of(slices: dict[int, np.ndarray]) -> np.ndarray:
    labelmap = np.zeros((max(slices) + 1, 3, 20), np.uint8)
    for number, labels in slices.items():
        labelmap[number] = labels
    return labelmap


def test_an_outline_moves_evenly_from_one_known_slice_to_the_next():
    labelmap = np.zeros((5, 9, 40), np.uint8)
    labelmap[0, :, 4:24], labelmap[4, :, 8:28] = 1, 1
    filled = interpolate_slices(labelmap, [0, 4])
    assert [(one[4].argmax(), int(one[4].sum())) for one in filled] == [(4, 20), (5, 20), (6, 20), (7, 20), (8, 20)]


def test_slices_that_are_equal_are_repeated_between():
    filled = interpolate_slices(stack_of({0: bar(5, 9), 3: bar(5, 9)}), [0, 3])
    assert all(np.array_equal(one, bar(5, 9)) for one in filled)


def test_a_label_that_ends_reaches_half_way():
    filled = interpolate_slices(stack_of({0: bar(5, 9), 5: bar(0, -1)}), [0, 5])
    assert [bool(one.any()) for one in filled] == [True, True, True, False, False, False]


def test_two_labels_keep_apart():
    first, last = np.zeros((3, 20), np.uint8), np.zeros((3, 20), np.uint8)
    first[:, 2:8], first[:, 12:18] = 1, 2
    last[:, 4:10], last[:, 10:16] = 1, 2
    middle = interpolate_slices(np.stack([first, np.zeros_like(first), last]), [0, 2])[1]
    assert np.flatnonzero(middle[1] == 1).tolist() == [3, 4, 5, 6, 7, 8]
    assert np.flatnonzero(middle[1] == 2).tolist() == [11, 12, 13, 14, 15, 16]


def test_known_slices_and_those_outside_stay_as_they_are():
    labelmap = stack_of({0: bar(1, 2), 1: bar(5, 9), 3: bar(7, 11), 4: bar(0, 0)})
    filled = interpolate_slices(labelmap, [1, 3])
    assert np.array_equal(filled[[0, 1, 3, 4]], labelmap[[0, 1, 3, 4]])
    assert not labelmap[2].any()
    assert filled[2].any()


@pytest.mark.parametrize("known", [[3, 1], [0, 9], [1, 1], [-1, 2]])
def test_wrong_slice_numbers_are_refused(known):
    with pytest.raises(GeometryError, match="ascending"):
        interpolate_slices(np.zeros((4, 3, 20), np.uint8), known)


def slice_between(first_hw: np.ndarray, last_hw: np.ndarray) -> np.ndarray:
    """The slice half way, by distances in the whole slice."""

    def depth(mask: np.ndarray) -> np.ndarray:
        inside, outside = (ndimage.distance_transform_edt(part) for part in (mask, ~mask))
        return np.where(mask, inside - 0.5, 0.5 - outside)

    depths = [np.zeros(first_hw.shape), *((depth(first_hw == one) + depth(last_hw == one)) / 2 for one in (1, 2))]
    return np.argmax(depths, axis=0)


@pytest.mark.parametrize("seed", range(5))
def test_looking_only_where_labels_are_changes_nothing(seed):
    rough = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(3, 50, 60)), (1, 4, 4))
    labels = np.select([rough > 0.03, rough < -0.05], [1, 2]).astype(np.uint8)
    labels[:, :10] = labels[:, :, 40:] = 0  # at the other borders they go on to the edge
    assert np.array_equal(interpolate_slices(labels, [0, 2])[1], slice_between(labels[0], labels[2]))
