"""Agreement of two measurements of the same quantity: bias and limits of agreement, with their intervals."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from scipy.stats import t as students_t
from scipy.stats import wilcoxon

from SAMLungSegLib.evaluation.intervals import UNKNOWN, Bootstrap, Interval, numbered

SD_MULTIPLE = 1.96


@dataclass(frozen=True)
class Agreement:
    """Differences of two measurements, in their unit.

    Attributes:
        count: of cases.
        clusters: how many patients they are of.
        bias: mean difference.
        sd: sample standard deviation of the differences.
        lower, upper: limits of agreement, between which 95 % of the differences are expected.
        bias_interval, lower_interval, upper_interval: of these, at the confidence that was asked for.
    """

    count: int
    clusters: int
    bias: float
    sd: float
    lower: float
    upper: float
    bias_interval: Interval = UNKNOWN
    lower_interval: Interval = UNKNOWN
    upper_interval: Interval = UNKNOWN


def limits_of_agreement(
    differences: np.ndarray,
    clusters: Sequence[Hashable] | None = None,
    *,
    sd_multiple: float = SD_MULTIPLE,
    bootstrap: Bootstrap | None = None,
) -> Agreement:
    """Bias and limits of agreement.

    Intervals are those of Bland and Altman, by Student's t with standard errors s / sqrt(n) and sqrt(3 / n) s; where a
    patient has several cases these would be too narrow, and a bootstrap over patients takes their place.

    Args:
        differences: finite, (N,).
        clusters: the patient of each difference; None: each its own.
        sd_multiple: standard deviations from the bias to the limits: 1.96, or 2 as in the paper of 1986.
        bootstrap: its confidence, and how it is done; by default 95 %.
    Source: Bland and Altman (1986), doi:10.1016/S0140-6736(86)90837-8.
    """
    differences, bootstrap = np.asarray(differences, float), bootstrap or Bootstrap()
    count, (_, patients) = len(differences), numbered(clusters, len(differences))
    bias = float(differences.mean()) if count else nan
    sd = float(differences.std(ddof=1)) if count > 1 else nan
    limits = bias - sd_multiple * sd, bias + sd_multiple * sd
    found = (count, patients, bias, sd, *limits)
    if patients < 2:
        return Agreement(*found)
    if patients == count:
        return Agreement(*found, *_by_students_t(bias, sd, limits, count, bootstrap.confidence))
    drawn = bootstrap.moments(differences, clusters)
    resampled = (drawn.mean, drawn.mean - sd_multiple * drawn.sd, drawn.mean + sd_multiple * drawn.sd)
    return Agreement(*found, *(bootstrap.percentiles(one) for one in resampled))


def _by_students_t(
    bias: float, sd: float, limits: tuple[float, float], count: int, confidence: float
) -> list[Interval]:
    quantile = float(students_t.ppf((1 + confidence) / 2, count - 1))
    errors = (sd / sqrt(count), *(sqrt(3 / count) * sd,) * 2)
    pairs = zip((bias, *limits), errors, strict=True)
    return [Interval(value - quantile * error, value + quantile * error) for value, error in pairs]


def signed_rank_test(differences: np.ndarray, clusters: Sequence[Hashable] | None = None) -> float:
    """Two-sided p value of Wilcoxon's signed-rank test of paired differences, by scipy; zeros are left out.

    Args:
        differences: finite, (N,).
        clusters: the patient of each difference; the test takes each patient's mean then, for it needs differences
            that do not depend on each other.
    Returns:
        NaN where no difference is other than zero.
    Source: Wilcoxon (1945), doi:10.2307/3001968.
    """
    numbers, count = numbered(clusters, len(differences))
    means = np.bincount(numbers, np.asarray(differences, float), count) / np.bincount(numbers, minlength=count)
    return float(wilcoxon(means).pvalue) if np.any(means) else nan
