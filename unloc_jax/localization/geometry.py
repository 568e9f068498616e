"""PyramidGeometry: the single definition of where the points of the feature pyramid are.

Targets, heads and decoding all use it, so they cannot disagree. P is the number of points, level after level.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from unloc_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class PyramidGeometry:
    """A pyramid over T sampled frames (paper section 3.3).

    Attributes:
      num_frames: T, the length of level 0.
      num_levels: Level l has ⌈T / stride**l⌉ points.
      stride: Downsampling factor from one level to the next.
      regression_ranges: Per level, in grid units: a point is responsible for a segment if the larger of its distances
        to start and end is in [low, high).
    """

    num_frames: int
    num_levels: int
    stride: int
    regression_ranges: tuple[tuple[float, float], ...]

    def __post_init__(self):
        if len(self.regression_ranges) != self.num_levels:
            raise UserError(
                f"model.pyramid.regression_ranges has {len(self.regression_ranges)} ranges for "
                f"num_levels = {self.num_levels}: give one (low, high) per level, or () for the default."
            )

    @property
    def level_lengths(self) -> list[int]:
        """Number of points of each level."""
        return [-(-self.num_frames // self.stride**level) for level in range(self.num_levels)]

    @property
    def num_points(self) -> int:
        """P, the number of points of all levels."""
        return sum(self.level_lengths)

    @functools.cached_property
    def strides(self) -> np.ndarray:
        """float32 [P], the stride of each point's level in grid units."""
        return np.repeat(
            [float(self.stride**level) for level in range(self.num_levels)], self.level_lengths
        ).astype(np.float32)

    @functools.cached_property
    def positions(self) -> np.ndarray:
        """float32 [P], the position of each point in grid units: 0, stride, 2·stride, … on every level."""
        return np.concatenate(
            [np.arange(n) * self.stride**level for level, n in enumerate(self.level_lengths)]
        ).astype(np.float32)

    @functools.cached_property
    def levels(self) -> np.ndarray:
        """int64 [P], the level of each point."""
        return np.repeat(np.arange(self.num_levels), self.level_lengths)

    def point_mask(self, frame_mask):
        """Maps bool [..., T] (True = real frame) to bool [..., P], True = the point is on a real frame.

        Accepts NumPy and JAX arrays.
        """
        return frame_mask[..., self.positions.astype(int)]

    @functools.cached_property
    def ranges(self) -> np.ndarray:
        """float32 [P, 2], the regression range of each point in grid units."""
        return np.repeat(np.array(self.regression_ranges, np.float32), self.level_lengths, axis=0)

    def split_levels(self, x, axis: int) -> list:
        """Splits an array, of size P along `axis`, into one array per level."""
        ends = list(itertools.accumulate(self.level_lengths))
        index = [slice(None)] * (axis % x.ndim)
        return [x[(*index, slice(end - n, end))] for end, n in zip(ends, self.level_lengths)]


def default_regression_ranges(num_levels: int) -> tuple[tuple[float, float], ...]:
    """Returns the reference's ranges in grid units: (0, 4), (4, 8), (8, 16), …, the last one open."""
    if num_levels == 1:
        return ((0.0, math.inf),)
    inner: Sequence[float] = [4.0 * 2**level for level in range(num_levels - 1)]
    return tuple(zip((0.0, *inner), (*inner, math.inf)))


def ranges_from_lengths(
    lengths: np.ndarray, num_levels: int, *, merge: bool = False
) -> tuple[tuple[float, float], ...]:
    """Returns regression ranges such that segments of these lengths are spread evenly over the levels.

    The larger of a point's distances to start and end lies between half a segment's length (at its centre) and all
    of it (at its ends). Three quarters of the length represent it.

    Args:
      lengths: float [n], in grid units, n ≥ 1.
      num_levels: Number of ranges; with `merge` the largest number.
      merge: Where many segments have the same length, a level may become narrower than one grid unit. True merges it
        with its neighbour; False, for a model whose number of levels is fixed, makes it one unit wide.
    """
    bounds = [0.0]
    for quantile in np.quantile(0.75 * np.asarray(lengths, float), np.arange(1, num_levels) / num_levels):
        if quantile >= bounds[-1] + 1.0:
            bounds.append(float(quantile))
        elif not merge or len(bounds) == 1:  # the finest level must not be empty
            bounds.append(bounds[-1] + 1.0)
    return tuple(itertools.pairwise([*bounds, math.inf]))


def pyramid_geometry(
    num_frames: int, num_levels: int, stride: int, regression_ranges: Sequence[tuple[float, float]] = ()
) -> PyramidGeometry:
    """Returns the pyramid over T frames, with default ranges if none are given.

    Raises:
      UserError: The number of ranges is not the number of levels.
    """
    ranges = tuple(regression_ranges) or default_regression_ranges(num_levels)
    return PyramidGeometry(num_frames, num_levels, stride, ranges)
