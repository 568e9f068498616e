import math

import numpy as np
import pytest

from unloc_jax.errors import UserError
from unloc_jax.localization.geometry import PyramidGeometry, default_regression_ranges


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
    with pytest.raises(UserError, match=r"num_frames = 100 is not divisible by 8.*Use 96 or 104 frames"):
        geometry(100, 4)


def test_one_regression_range_per_level():
    with pytest.raises(UserError, match=r"regression_ranges has 2 ranges for num_levels = 3"):
        PyramidGeometry(16, 3, 2, ((0, 4), (4, math.inf)))
