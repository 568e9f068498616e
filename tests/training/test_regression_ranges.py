"""Regression ranges that are chosen from the training segments of all tasks."""

import math

import numpy as np
import pytest

from tests.tiny import tiny_config
from unloc_jax.localization.geometry import ranges_from_lengths
from unloc_jax.training.regression_ranges import with_ranges_from_data


class Lengths:
    """A dataset whose training segments have these lengths, in sampled frames."""

    def __init__(self, *lengths):
        self._lengths = np.array(lengths)

    def training_lengths(self):
        return self._lengths


SHORT, LONG = Lengths(4.0, 8.0, 16.0), Lengths(10.0, 19.0)


def ranges(config, **datasets):
    pyramid = with_ranges_from_data(config, datasets).model.pyramid
    assert not pyramid.ranges_from_data
    return pyramid.regression_ranges


def test_the_levels_share_the_training_segments():
    config = tiny_config(
        data={"num_frames": 81}, model={"pyramid": {"ranges_from_data": True, "num_levels": 3}}
    )
    expected = ranges_from_lengths(np.array([4.0, 8.0, 16.0]), 3)
    found = ranges(config, moment_retrieval=SHORT)
    np.testing.assert_allclose(found, expected)
    assert found[0][0] == 0 and found[-1][1] == math.inf


def test_no_segment_is_longer_than_a_window():
    config = tiny_config(
        data={"num_frames": 17, "sampling": "window"},
        model={"pyramid": {"ranges_from_data": True, "num_levels": 2}},
    )
    expected = ranges_from_lengths(np.array([4.0, 8.0, 16.0]), 2)
    np.testing.assert_allclose(ranges(config, moment_retrieval=Lengths(4.0, 8.0, 300.0)), expected)


def test_all_tasks_have_a_say():
    tasks = {"a": {"data": {"num_frames": 81}}, "b": {"data": {"num_frames": 21}}}
    config = tiny_config(tasks=tasks, model={"pyramid": {"ranges_from_data": True, "num_levels": 2}})
    expected = ranges_from_lengths(np.array([4.0, 8.0, 16.0, 10.0, 19.0]), 2)
    np.testing.assert_allclose(ranges(config, a=SHORT, b=LONG), expected)


@pytest.mark.parametrize("pyramid", [{}, {"type": "none", "ranges_from_data": True}])
def test_nothing_is_chosen_unless_asked_for(pyramid):
    config = tiny_config(model={"pyramid": pyramid})
    assert with_ranges_from_data(config, {}) is config
