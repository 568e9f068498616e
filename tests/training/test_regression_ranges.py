"""Regression ranges that are chosen from the training segments of all tasks."""

import math

import numpy as np
import pytest

from tests.tiny import tiny_config
from unloc_jax.localization.geometry import ranges_from_lengths
from unloc_jax.records import VideoRecord
from unloc_jax.training.regression_ranges import with_ranges_from_data


class Segments:
    """A dataset of videos of 20 s with these segments (s); its other splits are ignored."""

    def __init__(self, *of_videos):
        self._videos = of_videos

    def records(self, split):
        assert split == "train"
        return [
            VideoRecord(
                "v", 20.0, split, np.array(segments, float), ["x"] * len(segments), [{}] * len(segments)
            )
            for segments in self._videos
        ]


SHORT, LONG = Segments([[0, 1], [3, 5]], [[2, 6]]), Segments([[0, 10], [1, 20]])


def ranges(config, **datasets):
    pyramid = with_ranges_from_data(config, datasets).model.pyramid
    assert not pyramid.ranges_from_data
    return pyramid.regression_ranges


def test_lengths_are_counted_in_grid_units():
    """81 frames: 80 grid units are 20 s."""
    config = tiny_config(
        data={"num_frames": 81}, model={"pyramid": {"ranges_from_data": True, "num_levels": 3}}
    )
    expected = ranges_from_lengths(np.array([4.0, 8.0, 16.0]), 3)
    found = ranges(config, moment_retrieval=SHORT)
    np.testing.assert_allclose(found, expected)
    assert found[0][0] == 0 and found[-1][1] == math.inf


def test_all_tasks_have_a_say():
    tasks = {"a": {"data": {"num_frames": 81}}, "b": {"data": {"num_frames": 21}}}
    config = tiny_config(tasks=tasks, model={"pyramid": {"ranges_from_data": True, "num_levels": 2}})
    expected = ranges_from_lengths(np.array([4.0, 8.0, 16.0, 10.0, 19.0]), 2)
    np.testing.assert_allclose(ranges(config, a=SHORT, b=LONG), expected)


@pytest.mark.parametrize("pyramid", [{}, {"type": "none", "ranges_from_data": True}])
def test_nothing_is_chosen_unless_asked_for(pyramid):
    config = tiny_config(model={"pyramid": pyramid})
    assert with_ranges_from_data(config, {}) is config
