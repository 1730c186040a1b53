"""lung-compact on a generated X-ray: visible fields, whole lungs, and what the heart and the diaphragm hide."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from SAMLungSegLib import Options, VolumePoint, load_model, segment_volume
from SAMLungSegLib.phantom import chest_ct, chest_xray
from SAMLungSegLib.volume import Volume

RIGHT_FIELD, LEFT_FIELD, RIGHT_HIDDEN, LEFT_HIDDEN = 1, 2, 3, 4


@pytest.fixture(scope="module")
def found():
    """Labels (H, W) of an extent and points."""
    grey_hw, _ = chest_xray(chest_ct(seed=0, size_kji=(48, 64, 64), spacing_mm=(6.0, 6.0, 6.0)), (128, 128))
    volume = Volume(np.asarray(grey_hw)[None], np.diag([-1.0, -1, 1, 1]), "phantom", modality_hint="XRAY")
    model = load_model("lung-compact", device="cpu")

    def labels_hw(extent, *points):
        return segment_volume(volume, model, Options(extent=extent, points=points)).labelmap_kji[0]

    return labels_hw


def test_both_extents_are_the_fields_and_what_whole_lungs_have_beside_them(found):
    both, visible, whole = found("both"), found("visible"), found("whole")
    assert np.array_equal(np.where(both <= LEFT_FIELD, both, 0), visible)
    joined = np.where(both > LEFT_FIELD, both - LEFT_FIELD, both)
    rim = (whole > 0) & (joined == 0)  # by which two outlines of one chest wall differ
    assert np.array_equal(joined[~rim], whole[~rim])
    assert not rim[~ndimage.binary_dilation(joined > 0, np.ones((3, 3)), 2)].any()


def test_more_of_the_left_lung_is_hidden_and_it_lies_nearer_to_the_middle(found):
    both = found("both")
    columns = {label: np.nonzero(both == label)[1] for label in range(1, 5)}
    assert len(columns[LEFT_HIDDEN]) > len(columns[RIGHT_HIDDEN]) > 100
    assert np.median(columns[RIGHT_FIELD]) < np.median(columns[RIGHT_HIDDEN]) < 64
    assert 64 < np.median(columns[LEFT_HIDDEN]) < np.median(columns[LEFT_FIELD])


def test_a_negative_point_takes_hidden_lung_away_and_leaves_the_fields(found):
    before = found("both")
    rows, columns = np.nonzero(before == LEFT_HIDDEN)
    at = np.argmin((rows - np.median(rows)) ** 2 + (columns - np.median(columns)) ** 2)
    point = VolumePoint((float(columns[at]), float(rows[at])), positive=False)
    after = found("both", point)
    assert after[rows[at], columns[at]] == 0
    assert np.mean((after == LEFT_FIELD) == (before == LEFT_FIELD)) > 0.98
