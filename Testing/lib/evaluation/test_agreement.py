"""Bland and Altman's own example, intervals by bootstrap against values known beforehand, Wilcoxon against scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.evaluation import agreement_figures
from SAMLungSegLib.evaluation.agreement import limits_of_agreement, signed_rank_test
from SAMLungSegLib.evaluation.agreement_figures import AgreementPanel, bland_altman_plot
from SAMLungSegLib.evaluation.intervals import Bootstrap

# Peak expiratory flow rate in l/min of 17 subjects, first readings: Bland and Altman (1986), table.
WRIGHT = np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427.0])
MINI_WRIGHT = np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451.0])


def test_the_example_of_bland_and_altman_comes_out_as_published():
    found = limits_of_agreement(WRIGHT - MINI_WRIGHT, sd_multiple=2)
    assert found.count == found.clusters == 17
    assert found.bias == pytest.approx(-2.1, abs=0.05)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    # From here on the paper goes on with rounded numbers.
    assert (found.lower, found.upper) == pytest.approx((-79.7, 75.5), abs=0.15)
    assert found.bias_interval == pytest.approx((-22.0, 17.8), abs=0.15)
    assert found.lower_interval == pytest.approx((-114.3, -45.1), abs=0.3)
    assert found.upper_interval == pytest.approx((40.9, 110.1), abs=0.3)


def test_limits_hold_ninety_five_per_cent_by_default():
    found = limits_of_agreement(np.array([-1.0, 1.0]))
    assert (found.lower, found.upper) == pytest.approx((-1.96 * np.sqrt(2), 1.96 * np.sqrt(2)))


def test_one_case_has_a_bias_and_no_limits():
    found = limits_of_agreement(np.array([3.0]))
    assert found.bias == 3
    assert np.isnan([found.sd, found.lower, found.upper, *found.bias_interval]).all()


def test_equal_differences_have_an_interval_of_no_width():
    assert Bootstrap().of_mean(np.full(7, 0.1)) == (0.1, 0.1)
    assert Bootstrap().of_mean(np.full(7, 0.1), list("aabbccc")) == (0.1, 0.1)


def test_the_interval_of_two_cases_ends_at_their_values():
    # Of the means of two drawn values, a quarter are the smaller and a quarter the larger value.
    assert Bootstrap().of_mean(np.array([1.0, 2.0])) == (1, 2)


def test_intervals_are_those_of_scipy():
    values = np.random.default_rng(1).normal(0.9, 0.05, 40)
    ours = Bootstrap(resamples=20_000).of_mean(values)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, random_state=2)
    assert ours == pytest.approx(theirs.confidence_interval, abs=4e-4)


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(1).normal(size=20)
    assert Bootstrap(seed=3).of_mean(values) == Bootstrap(seed=3).of_mean(values) != Bootstrap(seed=4).of_mean(values)


def test_values_far_from_zero_keep_their_spread():
    drawn = Bootstrap().moments(np.array([1e9, 1e9 + 1, 1e9 + 2, 1e9 + 3]))
    assert drawn.sd.max() == pytest.approx(np.sqrt(3))  # two of the least and two of the largest


def test_cases_of_a_patient_are_drawn_together():
    values, patients = np.array([0, 0, 0, 0, 1.0]), ["p", "p", "p", "p", "q"]
    drawn = Bootstrap().moments(values, patients)
    # Twice p has 8 values, twice q has 2, and one of each 5 with a mean of 1/5; nothing else can be drawn.
    assert set(zip(drawn.count, drawn.mean.round(12), strict=True)) == {(8, 0), (5, 0.2), (2, 1)}
    assert np.mean(drawn.count == 5) == pytest.approx(1 / 2, abs=0.05)


def test_copies_of_a_case_make_no_interval_narrower():
    values = np.random.default_rng(1).normal(size=12)
    patients = np.arange(12)
    once = Bootstrap().of_mean(values, patients)
    copied = np.repeat(values, 9)
    assert Bootstrap().of_mean(copied, np.repeat(patients, 9)) == pytest.approx(once)
    assert np.ptp(Bootstrap().of_mean(copied)) < 0.5 * np.ptp(once)


def test_intervals_of_many_cases_are_those_of_few_at_a_time(monkeypatch):
    values = np.random.default_rng(1).normal(size=30)
    at_once = Bootstrap(seed=5).moments(values)
    monkeypatch.setattr("SAMLungSegLib.evaluation.intervals._DRAWS_AT_ONCE", 700)
    in_blocks = Bootstrap(seed=5).moments(values)
    assert len(in_blocks.mean) == 2000
    np.testing.assert_allclose(in_blocks.mean, at_once.mean)


def test_one_patient_has_no_interval():
    assert np.isnan(Bootstrap().of_mean(np.array([1.0, 2.0]), ["p", "p"])).all()


def test_limits_of_patients_with_several_cases_take_their_intervals_from_the_bootstrap():
    values = np.random.default_rng(1).normal(size=12)
    copied = limits_of_agreement(np.repeat(values, 9), np.repeat(np.arange(12), 9))
    assert (copied.count, copied.clusters) == (108, 12)
    assert copied.bias_interval == pytest.approx(Bootstrap().of_mean(values))
    assert copied.lower_interval.low < copied.lower < copied.lower_interval.high


def test_the_signed_rank_test_is_that_of_scipy():
    differences = np.random.default_rng(1).normal(0.3, 1, 30)
    assert signed_rank_test(differences) == stats.wilcoxon(differences).pvalue
    assert signed_rank_test(WRIGHT - MINI_WRIGHT) == stats.wilcoxon(WRIGHT, MINI_WRIGHT).pvalue


def test_the_signed_rank_test_takes_one_difference_a_patient():
    differences = np.array([1, 3, -1, 5, 6, 7, 8, 9.0])
    patients = ["p", "p", "q", "r", "s", "t", "u", "v"]
    assert signed_rank_test(differences, patients) == stats.wilcoxon([2, -1, 5, 6, 7, 8, 9]).pvalue


def test_methods_that_never_differ_have_no_test():
    assert np.isnan(signed_rank_test(np.zeros(5)))


@pytest.mark.parametrize("wrong", [{"resamples": 10}, {"seed": -1}, {"confidence": 95}])
def test_settings_that_give_no_interval_are_refused(wrong):
    with pytest.raises(SettingsError, match="give"):
        Bootstrap(**wrong)


def test_an_interval_of_scores_does_not_go_below_the_lowest_one():
    scores = np.repeat([0.0, 1.0], [57, 56])
    patients = np.repeat(["p1", "p2", "p3", "p4"], [28, 29, 28, 28]).tolist()
    low, high = Bootstrap().of_mean(scores, patients)
    assert (low, high) == (0, pytest.approx(1))
    assert not np.signbit(low)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_the_names_of_the_lines_of_a_bland_altman_plot_do_not_overlap(tmp_path, monkeypatch, scale):
    drawn = []
    monkeypatch.setattr(agreement_figures, "save_figure", lambda figure, path: drawn.append(figure))
    panels = []
    for offset in (-400.0, 390.0):  # limits close to the bias, on a scale that shows both biases
        second = np.array([1500.0, 1700, 1900, 2000])
        differences = offset + np.array([1.0, -1, 2, -2]) * scale / 10
        agreement = limits_of_agreement(differences)
        panels.append(AgreementPanel(("A", "B"), "ml", second + differences, second, agreement))
    bland_altman_plot(tmp_path / "plot.png", panels)
    (figure,) = drawn
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert [text.get_text().split()[0] for text in axes.texts] == ["upper", "bias", "lower"]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
