"""Intervals by the percentiles of a bootstrap over cases, or over patients who have several."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import nan
from typing import NamedTuple

import numpy as np

from SAMLungSegLib.errors import SettingsError

_DRAWS_AT_ONCE = 4_000_000  # clusters of resamples, to bound memory


class Interval(NamedTuple):
    """From `low` to `high`; NaN where fewer than two cases, or patients, tell nothing of the others."""

    low: float
    high: float


UNKNOWN = Interval(nan, nan)


@dataclass(frozen=True)
class Moments:
    """Of each resample, (R,): number of values, their mean and their standard deviation (sample)."""

    count: np.ndarray
    mean: np.ndarray
    sd: np.ndarray


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are computed.

    Attributes:
        resamples: how often cases are drawn again.
        seed: of the random numbers; the same seed gives the same intervals.
        confidence: share of the resamples inside the interval.
    Raises:
        SettingsError: fewer than 100 resamples, a negative seed, or a confidence that is no share.
    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13; clusters as a whole: Davison and
        Hinkley (1997), section 3.8.
    """

    resamples: int = 2000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise SettingsError(f"{self.resamples} resamples are too few for an interval; give 100 or more.")
        if self.seed < 0:
            raise SettingsError(f"Seed {self.seed} is negative; give zero or a positive number.")
        if not 0 < self.confidence < 1:
            raise SettingsError(f"Confidence {self.confidence:g} is no share; give a number between 0 and 1, as 0.95.")

    def of_mean(self, values: np.ndarray, clusters: Sequence[Hashable] | None = None) -> Interval:
        """Interval of the mean.

        Args:
            values: finite, (N,).
            clusters: the patient of each value; all values of a patient are drawn together. None: each its own.
        """
        values = np.asarray(values, float)
        numbers, count = numbered(clusters, len(values))
        if count < 2:
            return UNKNOWN
        if np.ptp(values) == 0:
            return Interval(float(values[0]), float(values[0]))
        means = self._moments(values, numbers, count).mean
        return self.percentiles(np.clip(means, values.min(), values.max()))  # rounding makes -1e-16 of zeros

    def moments(self, values: np.ndarray, clusters: Sequence[Hashable] | None = None) -> Moments:
        """Means and standard deviations of the resamples; arguments as for `of_mean`, of two clusters or more."""
        return self._moments(np.asarray(values, float), *numbered(clusters, len(values)))

    def percentiles(self, statistics: np.ndarray) -> Interval:
        """The interval that holds the middle of the resamples' statistics."""
        outside = (1 - self.confidence) / 2
        low, high = np.nanquantile(statistics, [outside, 1 - outside])
        return Interval(float(low), float(high))

    def _moments(self, values: np.ndarray, numbers: np.ndarray, count: int) -> Moments:
        """Of resamples of whole clusters, from each cluster's number of values, their sum and sum of squares."""
        centre = values.mean()  # squares of what is far from zero lose digits
        powers = np.stack([np.bincount(numbers, (values - centre) ** power, count) for power in range(3)])
        number, total, squares = np.concatenate([powers @ times.T for times in self._draws(count)], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = np.where(number > 1, (squares - total**2 / number) / (number - 1), nan)
        return Moments(number, centre + total / number, np.sqrt(np.maximum(variance, 0)))

    def _draws(self, count: int) -> Iterable[np.ndarray]:
        """Blocks (r, count) of how often each cluster is drawn in each resample."""
        blocks = _drawn(self.seed, self.resamples, count)
        return blocks if count * self.resamples > _DRAWS_AT_ONCE else _kept(self.seed, self.resamples, count)


def _drawn(seed: int, resamples: int, count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    block = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        numbers = rng.integers(0, count, (size, count)) + count * np.arange(size)[:, np.newaxis]
        yield np.bincount(numbers.ravel(), minlength=size * count).reshape(size, count).astype(float)


@lru_cache(maxsize=2)  # a summary has an interval for each metric and structure, most of as many cases
def _kept(seed: int, resamples: int, count: int) -> tuple[np.ndarray, ...]:
    return tuple(_drawn(seed, resamples, count))


def numbered(clusters: Sequence[Hashable] | None, length: int) -> tuple[np.ndarray, int]:
    """The cluster of each of `length` values as a number from 0, and how many clusters there are."""
    if clusters is None:
        return np.arange(length), length
    first_seen: dict[Hashable, int] = {}
    numbers = np.array([first_seen.setdefault(one, len(first_seen)) for one in clusters], np.int64)
    return numbers, len(first_seen)
