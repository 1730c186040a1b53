"""Lungs without a model: by a threshold, and grown from seeds."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.classical import grown_lungs, threshold_lungs
from SAMLungSegLib.errors import CancelledError
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.volume import Volume

METHODS = pytest.mark.parametrize("method", [threshold_lungs, grown_lungs])
TILTED = np.array([[0.96, -0.28, 0, 12], [0.28, 0.96, 0, -7], [0, 0, 1, 30], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def phantom():
    return chest_ct(seed=0, size_kji=(40, 128, 128), spacing_mm=(7.0, 3.0, 3.0))


def ct(array, matrix):
    return Volume(array, matrix, modality_hint="CT")


@METHODS
def test_both_lungs_of_a_chest_are_found_on_their_sides(phantom, method):
    found = method(ct(phantom.hu_kji, phantom.ijk_to_ras))
    overlap = [2 * np.sum((found == one) & (phantom.labelmap_kji == one)) for one in (1, 2)]
    sizes = [np.sum(found == one) + np.sum(phantom.labelmap_kji == one) for one in (1, 2)]
    assert min(np.divide(overlap, sizes)) > 0.85


@METHODS
def test_a_chest_that_is_stored_coronally_flipped_and_tilted_has_the_same_lungs(phantom, method):
    straight = method(ct(phantom.hu_kji, phantom.ijk_to_ras))
    size_k, _, size_i = phantom.hu_kji.shape
    stored = np.eye(4)
    stored[:3, 0], stored[:3, 1] = -phantom.ijk_to_ras[:3, 0], -phantom.ijk_to_ras[:3, 2]
    stored[:3, 2] = phantom.ijk_to_ras[:3, 1]
    stored[:3, 3] = phantom.ijk_to_ras[:3] @ [size_i - 1, 0, size_k - 1, 1]
    array = np.ascontiguousarray(phantom.hu_kji.transpose(1, 0, 2)[:, ::-1, ::-1])
    found = method(ct(array, TILTED @ stored))
    back = found[:, ::-1, ::-1].transpose(1, 0, 2)
    assert np.count_nonzero(back != straight) < 0.01 * np.count_nonzero(straight)  # ties of the watershed


@METHODS
def test_values_of_hu_plus_1024_make_no_difference(phantom, method):
    shifted = (np.clip(phantom.hu_kji, -1024, None) + 1024).astype(np.uint16)
    straight = method(ct(np.clip(phantom.hu_kji, -1024, None), phantom.ijk_to_ras))
    np.testing.assert_array_equal(method(ct(shifted, phantom.ijk_to_ras)), straight)


@METHODS
def test_a_body_without_air_has_no_lungs(method):
    hu = np.full((6, 40, 40), -1000, np.int16)
    hu[:, 5:35, 5:35] = 40
    assert not method(ct(hu, np.diag([-4.0, -4, 5, 1]))).any()


def test_seeds_claim_what_a_sharp_border_encloses():
    hu = np.full((9, 60, 80), -1000, np.int16)
    hu[:, 5:55, 5:75] = 40
    truth = np.zeros(hu.shape, np.uint8)
    truth[:, 15:45, 12:34], truth[:, 15:45, 46:68] = 1, 2
    hu[truth > 0] = -850
    found = grown_lungs(ct(hu, np.diag([-3.0, -3, 5, 1])))
    for label in (1, 2):
        assert 2 * np.sum((found == label) & (truth == label)) / (np.sum(found == label) + np.sum(truth == label)) > 0.9


def test_a_large_volume_is_grown_on_a_coarser_grid_and_comes_back_on_its_own(phantom, monkeypatch):
    monkeypatch.setattr("SAMLungSegLib.classical._MOST_VOXELS", 200_000)
    found = grown_lungs(ct(phantom.hu_kji, phantom.ijk_to_ras))
    assert found.shape == phantom.hu_kji.shape
    both = 2 * np.sum((found > 0) & (phantom.labelmap_kji > 0)) / (np.sum(found > 0) + np.sum(phantom.labelmap_kji > 0))
    assert both > 0.7


@METHODS
def test_both_can_be_stopped(phantom, method):
    with pytest.raises(CancelledError):
        method(ct(phantom.hu_kji, phantom.ijk_to_ras), cancelled=lambda: True)
