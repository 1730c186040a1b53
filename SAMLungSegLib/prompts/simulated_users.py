"""Users who correct a prediction by clicks, simulated: one click at a time, or ClickSAM's, many in a round.

A user is a function `SimulatedUser` of a prediction, the reference and the clicks given so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log10
from typing import NamedTuple, Protocol

import numpy as np
from scipy import ndimage

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.prompts.simulated import corrective_click, spread_points
from SAMLungSegLib.prompts.types import Click

AREA_GRID = 256  # pixels of a slice's longer side in the rule for clicks
MOST_OF_COMPONENT, MOST_OF_KIND = 5, 10
FALSE_SHARE = 0.05

XY = tuple[float, float]


class SimulatedUser(Protocol):
    """Someone who looks at a prediction and clicks."""

    def __call__(self, prediction: np.ndarray, reference: np.ndarray, given: Sequence[Click]) -> tuple[Click, ...]:
        """All clicks that the next prediction gets.

        Args:
            prediction: bool (H, W).
            reference: bool (H, W).
            given: the clicks that the prediction had.
        Returns:
            The same as `given` where there is nothing to correct.
        """


def largest_error_user(prediction: np.ndarray, reference: np.ndarray, given: Sequence[Click]) -> tuple[Click, ...]:
    """One click more, in the middle of the largest wrong region."""
    click = corrective_click(prediction, reference)
    return (*given,) if click is None else (*given, click)


def clicksam_user(prediction: np.ndarray, reference: np.ndarray, given: Sequence[Click]) -> tuple[Click, ...]:
    """ClickSAM's clicks instead of those given; the latter where no wrong component is worth a click.

    Those in what was rightly found come first, then negative ones in what was wrongly taken, then positive ones in what
    was missed.
    """
    found = clicksam_clicks(prediction, reference)
    if not found.wrongly_taken and not found.missed:
        return (*given,)
    kinds = ((found.rightly_found, True), (found.wrongly_taken, False), (found.missed, True))
    return tuple((xy, positive) for places, positive in kinds for xy in places)


DEFAULT_USER = "largest-error"
SIMULATED_USERS: dict[str, SimulatedUser] = {DEFAULT_USER: largest_error_user, "clicksam": clicksam_user}


def simulated_user(name: str) -> SimulatedUser:
    """The one of `SIMULATED_USERS`.

    Raises:
        SettingsError: no such user; the message lists those there are.
    """
    if name not in SIMULATED_USERS:
        raise SettingsError(f"There is no simulated user {name!r}; choose one of {', '.join(SIMULATED_USERS)}.")
    return SIMULATED_USERS[name]


class ComponentClicks(NamedTuple):
    """Places XY of clicks, by what the components are that they lie in."""

    rightly_found: tuple[XY, ...]
    wrongly_taken: tuple[XY, ...]
    missed: tuple[XY, ...]


def clicksam_clicks(prediction: np.ndarray, reference: np.ndarray) -> ComponentClicks:
    """Clicks spread over the true-positive, false-positive and false-negative components of a prediction.

    Components are 8-connected; each kind begins with its largest, and ends with the first that gets no click or would
    give the kind more than 10. A component gets `clicks_of_area`; a false one that would get none gets one if its area
    is at least 5 % of that of all true-positive components with clicks. Clicks are spread evenly over their component
    (`spread_points`).

    Args:
        prediction: bool (H, W).
        reference: bool (H, W).
    Source: Guo et al. (2024), ClickSAM, arXiv:2402.05902, and its code; the paper's areas are of masks of 256 x 256
        pixels, which here are those of a slice whose longer side is 256.
    """
    scale = (AREA_GRID / max(prediction.shape)) ** 2
    right = [*_clicked(prediction & reference, scale, smallest=np.inf)]
    smallest = FALSE_SHARE * sum(float(component.sum()) for component, _ in right)
    kinds = (right, *(_clicked(wrong, scale, smallest) for wrong in (prediction & ~reference, reference & ~prediction)))
    return ComponentClicks(*(tuple(xy for part, count in kind for xy in spread_points(part, count)) for kind in kinds))


def clicks_of_area(area: float) -> int:
    """min(5, max(0, int(1 + 2 (log10(area) - 3)))): one from 1000 pixels on, five from 100000 on.

    Args:
        area: of a component, above 0, in pixels of a slice whose longer side is 256.
    """
    return min(MOST_OF_COMPONENT, max(0, int(1 + 2 * (log10(area) - 3))))


def _clicked(mask: np.ndarray, scale: float, smallest: float) -> Iterator[tuple[np.ndarray, int]]:
    """The components that get clicks, and how many; `smallest` is the area in pixels from which on one gets any."""
    components, _ = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(components.ravel())[1:]
    given = 0
    for index in np.argsort(-areas, kind="stable"):
        count = clicks_of_area(areas[index] * scale) or int(areas[index] >= smallest)
        given += count
        if count == 0 or given > MOST_OF_KIND:
            return
        yield components == index + 1, count
