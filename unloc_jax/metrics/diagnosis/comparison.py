"""Test of whether a part of the ground truth does worse than the rest, beyond chance."""

from typing import NamedTuple

import numpy as np

# Smaller groups, or groups from fewer videos, are not reported.
LEAST_ITEMS, LEAST_VIDEOS = 20, 8
# Standard errors from 0. A table compares about five groups, and a page has four such tables: with 99.7 % each, one
# false alarm in twenty pages.
_SURE = 3.0


class Difference(NamedTuple):
    """Shares of successes, in [0, 1], of two groups that differ beyond chance."""

    inside: float
    outside: float

    @property
    def points(self) -> float:
        return 100 * (self.inside - self.outside)


def difference(success: np.ndarray, inside: np.ndarray, video: np.ndarray) -> Difference | None:
    """Returns the shares of `success` inside and outside of a group, or None if chance explains their difference.

    The standard error is clustered by video: items of one video succeed and fail together, so counting them
    as independent would make it too small (Cameron and Miller 2015, section II).

    Args:
      success: bool [n].
      inside: bool [n], the group.
      video: int [n] ≥ 0.
    """
    if min(inside.sum(), (~inside).sum()) < LEAST_ITEMS:
        return None
    if min(len(np.unique(video[inside])), len(np.unique(video[~inside]))) < LEAST_VIDEOS:
        return None
    shares = success[inside].mean(), success[~inside].mean()
    influence = np.where(
        inside, (success - shares[0]) / inside.sum(), -(success - shares[1]) / (~inside).sum()
    )
    error = np.sqrt((np.bincount(video, influence) ** 2).sum())
    found = Difference(float(shares[0]), float(shares[1]))
    return found if abs(found.inside - found.outside) > _SURE * error else None
