"""Accuracies and the confusion matrix, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.evaluation.classification import Confusion

ORGANS = ("liver", "kidney", "pancreas", "spleen")
TRUE = ["liver"] * 5 + ["kidney"] * 3 + ["pancreas"] * 2
PREDICTED = ["liver"] * 4 + ["kidney"] + ["kidney", "kidney", "pancreas"] + ["liver", "spleen"]


def test_rows_are_true_classes_and_columns_predicted_ones():
    expected = [[4, 1, 0, 0], [0, 2, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]
    assert np.array_equal(Confusion.of(ORGANS, TRUE, PREDICTED).counts, expected)


def test_the_accuracy_of_a_class_is_the_share_of_its_objects_and_unknown_without_any():
    per_class = Confusion.of(ORGANS, TRUE, PREDICTED).per_class
    assert np.allclose(per_class, [4 / 5, 2 / 3, 0, np.nan], equal_nan=True)


def test_the_weighted_mean_is_plain_accuracy_and_the_macro_mean_takes_classes_that_occur_alike():
    confusion = Confusion.of(ORGANS, TRUE, PREDICTED)
    assert confusion.accuracy == 6 / 10
    weights = np.array([5, 3, 2])
    assert confusion.accuracy == pytest.approx((weights * confusion.per_class[:3]).sum() / 10)
    assert confusion.macro_accuracy == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)


def test_rows_of_shares_add_up_to_one():
    shares = Confusion.of(ORGANS, TRUE, PREDICTED).shares
    assert np.allclose(shares[0], [0.8, 0.2, 0, 0]) and np.allclose(shares[2], [0.5, 0, 0, 0.5])
    assert np.allclose(shares[:3].sum(axis=1), 1) and np.isnan(shares[3]).all()


def test_classes_that_do_not_occur_can_be_left_out():
    confusion = Confusion.of((*ORGANS, "aorta"), TRUE, PREDICTED)
    assert confusion.occurring.classes == ORGANS  # the spleen was predicted
    assert np.array_equal(confusion.occurring.counts, confusion.counts[:4, :4])


def test_nothing_is_known_of_no_objects():
    confusion = Confusion.of(ORGANS, [], [])
    assert np.isnan(confusion.accuracy) and np.isnan(confusion.macro_accuracy) and np.isnan(confusion.per_class).all()


@pytest.mark.parametrize(
    ("classes", "true", "predicted", "message"),
    [
        (ORGANS, ["liver"], ["lung"], "no class 'lung'; the classes are liver, kidney"),
        (ORGANS, ["liver"], [], "1 true and 0 predicted"),
        (("liver", "liver"), [], [], "name one twice"),
    ],
)
def test_what_cannot_be_counted_is_refused(classes, true, predicted, message):
    with pytest.raises(SettingsError, match=message):
        Confusion.of(classes, true, predicted)


def test_the_picture_is_drawn_whatever_was_counted(tmp_path):
    from SAMLungSegLib.evaluation.classification_figures import confusion_plot

    many = [f"organ {number}" for number in range(30)]
    some, none = Confusion.of(ORGANS, TRUE, PREDICTED), Confusion.of(ORGANS, [], [])
    for name, confusion in (("some", some), ("none", none), ("many", Confusion.of(many, many, many))):
        confusion_plot(tmp_path / f"{name}.png", confusion, title="organs")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
