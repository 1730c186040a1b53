"""What a click says stands in what users get, whichever cleaning follows."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib import segment
from SAMLungSegLib.models import load_model
from SAMLungSegLib.phantom import chest_ct, chest_xray
from SAMLungSegLib.postprocess import as_clicked, clean_up
from SAMLungSegLib.prompts.volume import VolumeBox, VolumePoint
from SAMLungSegLib.volume import Volume


def test_cleaning_leaves_an_island_and_a_hole_that_were_clicked():
    labels = np.zeros((3, 40, 60), np.uint8)
    labels[:, 5:35, 5:25], labels[:, 5:35, 35:55] = 1, 2
    labels[1, 10:13, 10:13] = 0  # a hole
    labels[1, 1:3, 29:31] = 1  # an island
    labels[1, 37:39, 29:31] = 1  # another
    cleaned, _ = clean_up(labels.copy(), (5.0, 1.0, 1.0), clicked={1: [(11, 11), (29.4, 1.6)]})
    assert not cleaned[1, 10:13, 10:13].any() and cleaned[1, 1:3, 29:31].all()
    assert not cleaned[1, 37:39, 29:31].any()
    plain, _ = clean_up(labels.copy(), (5.0, 1.0, 1.0))
    assert plain[1, 11, 11] == 1 and not plain[1, :, 29:31].any()


def test_a_click_in_a_lung_whose_side_was_told_otherwise_does_not_bring_the_other_side_back():
    raw, cleaned = np.full((4, 4), 2, np.uint8), np.full((4, 4), 1, np.uint8)
    assert np.array_equal(as_clicked(raw, cleaned, [(1, 1)]), cleaned)


@pytest.fixture(scope="module")
def ct() -> Volume:
    phantom = chest_ct(3, size_kji=(24, 128, 128), spacing_mm=(12.0, 3.0, 3.0))
    return Volume(phantom.hu_kji, phantom.ijk_to_ras, "chest", "CT")


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("number", [5, 11, 17])
def test_a_click_anywhere_in_a_ct_has_the_label_that_it_says_and_changes_no_distant_slice(ct, positive, number):
    model = load_model(device="cpu")
    before = segment(ct, model=model).labelmap_kji
    inside = np.zeros_like(before[number], bool)
    inside[24:104, 24:104] = True
    at = np.argwhere(((before[number] > 0) != positive) & inside)
    row, column = at[np.random.default_rng(number).integers(len(at))]
    click = VolumePoint((float(column), float(row), float(number)), positive)
    after = segment(ct, model=model, points=(click,)).labelmap_kji
    assert (after[number, row, column] > 0) == positive
    changed = np.flatnonzero((after != before).any((1, 2)))
    assert set(changed) <= {number - 1, number, number + 1}


def test_a_click_in_a_box_is_obeyed_in_slices_of_other_than_square_pixels():
    grey, _ = chest_xray(chest_ct(5, size_kji=(64, 96, 96), spacing_mm=(5.0, 4.0, 4.0)), (300, 260))
    image = Volume(grey[None, ::2].astype(np.int16), np.diag([-1.0, -2.0, 1.0, 1.0]), "chest", "XRAY")
    model = load_model(device="cpu")
    rows, columns = np.nonzero(segment(image, model=model).labelmap_kji[0] == 1)
    box = VolumeBox((columns.min() - 3.0, rows.min() - 3.0, 0.0), (columns.max() + 3.0, rows.max() + 3.0, 0.0))
    row = int(np.median(rows))
    column = int(columns[rows == row].max()) + 6  # beside its medial border
    for positive in (True, False):
        click = VolumePoint((float(column), float(row), 0.0), positive)
        labels = segment(image, model=model, boxes=(box,), points=(click,)).labelmap_kji[0]
        assert (labels[row, column] > 0) == positive
        assert np.isin(labels[rows, columns], (1,)).mean() > 0.9


@pytest.mark.parametrize("extent", ["visible", "whole"])
def test_clicks_on_an_xray_are_obeyed_all_together_and_leave_the_other_lung_alone(extent):
    grey, _ = chest_xray(chest_ct(5, size_kji=(64, 96, 96), spacing_mm=(5.0, 4.0, 4.0)), (300, 260))
    image = Volume(grey[None].astype(np.int16), np.diag([-1.0, -1.0, 1.0, 1.0]), "chest", "XRAY")
    model = load_model(device="cpu")
    before = segment(image, model=model, extent=extent).labelmap_kji[0]
    rng, points = np.random.default_rng(0), []
    for positive in (True, False, True):
        rows, columns = np.nonzero(before == 1)
        near = np.zeros_like(before, bool)  # around the right lung
        near[rows.min() : rows.max(), columns.min() : columns.max()] = True
        at = np.argwhere(near & ((before == 1) != positive) & (before != 2))
        row, column = at[rng.integers(len(at))]
        points.append(VolumePoint((float(column), float(row), 0.0), positive))
    after = segment(image, model=model, extent=extent, points=tuple(points)).labelmap_kji[0]
    for point in points:
        column, row = (int(value) for value in point.ijk[:2])
        assert (after[row, column] > 0) == point.positive
    lost = (before == 2) & (after != 2)
    assert lost.sum() < 0.02 * (before == 2).sum()
