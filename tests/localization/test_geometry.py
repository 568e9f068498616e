import itertools
import math

import numpy as np
import pytest

from unloc_jax.errors import UserError
from unloc_jax.localization.geometry import (
    PyramidGeometry,
    default_regression_ranges,
    pyramid_geometry,
    ranges_from_lengths,
)


def geometry(num_frames=16, num_levels=3, stride=2):
    return PyramidGeometry(num_frames, num_levels, stride, default_regression_ranges(num_levels))


def test_points_are_level_after_level():
    pyramid = geometry(8, 3)
    assert pyramid.level_lengths == [8, 4, 2]
    assert pyramid.num_points == 14
    np.testing.assert_array_equal(pyramid.positions, [0, 1, 2, 3, 4, 5, 6, 7, 0, 2, 4, 6, 0, 4])
    np.testing.assert_array_equal(pyramid.strides, [1] * 8 + [2] * 4 + [4] * 2)
    np.testing.assert_array_equal(pyramid.ranges, [[0, 4]] * 8 + [[4, 8]] * 4 + [[8, np.inf]] * 2)


def test_stride_of_four():
    pyramid = geometry(32, 2, stride=4)
    np.testing.assert_array_equal(pyramid.positions[32:], [0, 4, 8, 12, 16, 20, 24, 28])


@pytest.mark.parametrize("axis", [1, -2])
def test_split_levels_undoes_concatenation(axis):
    pyramid = geometry(8, 3)
    levels = [np.random.default_rng(n).normal(size=(2, n, 3)) for n in pyramid.level_lengths]
    split = pyramid.split_levels(np.concatenate(levels, axis=1), axis=axis)
    for level, expected in zip(split, levels, strict=True):
        np.testing.assert_array_equal(level, expected)


def test_default_ranges():
    assert default_regression_ranges(1) == ((0, math.inf),)
    assert default_regression_ranges(4) == ((0, 4), (4, 8), (8, 16), (16, math.inf))


def test_frames_that_the_strides_do_not_divide():
    """Every level has a point for each of the level below, also for the one that is left over."""
    pyramid = geometry(11, 4)
    assert pyramid.level_lengths == [11, 6, 3, 2]
    levels = pyramid.split_levels(pyramid.positions, axis=0)
    for level, positions in enumerate(levels):
        np.testing.assert_array_equal(positions, np.arange(0, 11, 2**level))
    assert geometry(7, 2, stride=3).level_lengths == [7, 3]


@pytest.mark.parametrize("num_frames", [8, 7])
def test_a_point_is_real_where_its_frame_is(num_frames):
    pyramid = geometry(num_frames, 3)
    mask = np.ones((2, num_frames), bool)
    mask[1, 5:] = False
    found = pyramid.split_levels(pyramid.point_mask(mask), axis=1)
    for level, of_level in enumerate(found):
        np.testing.assert_array_equal(of_level, mask[:, :: 2**level])


def test_ranges_from_lengths_share_the_segments_evenly():
    """By the larger distance of points between a segment's centre and its ends, three quarters of its length."""
    lengths = np.random.default_rng(0).lognormal(2.5, 1.0, 4001)
    ranges = ranges_from_lengths(lengths, 4)
    assert (ranges[0][0], ranges[-1][1]) == (0, math.inf)
    assert all(high == low for (_, high), (low, _) in itertools.pairwise(ranges))
    counts = [((0.75 * lengths >= low) & (0.75 * lengths < high)).sum() for low, high in ranges]
    assert max(counts) - min(counts) < 10
    pyramid_geometry(64, 4, 2, ranges)


def test_ranges_from_lengths_are_ranges_however_alike_the_segments():
    for lengths in ([5.0] * 10, [0.0] * 10, [0.1, 0.2, 90.0]):
        ranges = ranges_from_lengths(np.array(lengths), 5)
        assert len(ranges) == 5
        # None is narrower than a grid unit; the finest level keeps something to do.
        assert all(high - low >= 1 for low, high in ranges)
        merged = ranges_from_lengths(np.array(lengths), 5, merge=True)
        assert len(merged) <= 5 and all(high - low >= 1 for low, high in merged)
    assert ranges_from_lengths(np.array([20.0] * 10), 5, merge=True) == ((0.0, 15.0), (15.0, math.inf))
    assert ranges_from_lengths(np.array([3.0]), 1) == ((0.0, math.inf),)


def test_one_regression_range_per_level():
    with pytest.raises(UserError, match=r"regression_ranges has 2 ranges for num_levels = 3"):
        PyramidGeometry(16, 3, 2, ((0, 4), (4, math.inf)))
