"""A simulated person corrects generated chests with fewer corrections where these are carried to other slices."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_person import Case, Person, agreement

from SAMLungSegLib.interaction import propagate
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.pipeline import Options, segment_volume
from SAMLungSegLib.volume import Volume

LARGE, SMALL = (slice(0, 8), slice(0, 10)), (slice(10, 14), slice(12, 16))


def test_dice_counts_labels_and_not_only_lung():
    reference, labels = np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8)
    reference[:2, :2], labels[0, :2], labels[1, :2] = 1, 1, 2
    by_slice, volume = agreement(labels, reference)
    np.testing.assert_array_equal(by_slice, [1, 0, 1])
    assert volume == 0.5


@pytest.mark.parametrize(("work", "steps"), [(Person.redraw, 2), (Person.lasso, 3)])
def test_the_person_goes_on_until_the_volume_is_good(work, steps):
    """Slice 1 lacks two regions and slice 2 one: two slices to redraw, three strokes."""
    reference = np.zeros((4, 16, 16), np.uint8)
    reference[:, LARGE[0], LARGE[1]], reference[:, SMALL[0], SMALL[1]] = 1, 1
    automatic = reference.copy()
    automatic[1][LARGE], automatic[1][SMALL], automatic[2][LARGE] = 0, 0, 0
    person = Person(Case("small", automatic, reference, np.zeros(reference.shape), (5.0, 1.0, 1.0)), None)
    assert work(person) == steps
    assert person.steps[0].volume_dice == pytest.approx(2 * 208 / (208 + 384))
    assert person.steps[-1].volume_dice > 0.98


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "size_kji", "spacing_mm"), [(309, (100, 192, 192), (3.0, 2.0, 2.0))])
def test_propagation_halves_what_a_person_has_to_correct(model, seed, size_kji, spacing_mm):
    phantom = chest_ct(seed, size_kji=size_kji, spacing_mm=spacing_mm)
    found = segment_volume(Volume(phantom.hu_kji, phantom.ijk_to_ras, "chest"), model, Options(modality="CT"))
    shown = found.plane.to_display(phantom.labelmap_kji), found.plane.to_display(phantom.hu_kji)
    case = Case("chest", found.labelmap_nhw, *shown, spacing_mm)
    for work in (Person.redraw, Person.lasso):
        alone, helped = Person(case, None), Person(case, propagate)
        assert work(helped) <= 0.55 * work(alone)
        assert helped.steps[-1].better >= 10
        assert helped.steps[-1].worse <= 0.03 * helped.steps[-1].changed
