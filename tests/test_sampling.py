import numpy as np
import pytest

from unloc_jax.sampling import (
    center_crop,
    interpolate_features,
    linspace_indices,
    seconds_to_grid,
    span_of,
)


@pytest.mark.parametrize("num_stored", [1, 5, 8, 9, 100, 3001])
def test_frames_are_spread_evenly_from_first_to_last(num_stored):
    indices = linspace_indices(num_stored, 8)
    assert indices.shape == (8,) and indices.dtype == np.int64
    assert indices[0] == 0 and indices[-1] == num_stored - 1
    # No frame is farther than half a stored frame from where it should be.
    assert abs(indices - np.arange(8) * (num_stored - 1) / 7).max() <= 0.5


def test_as_many_frames_as_stored_are_all():
    np.testing.assert_array_equal(linspace_indices(8, 8), np.arange(8))


def test_a_short_video_repeats_frames():
    np.testing.assert_array_equal(linspace_indices(3, 5), [0, 0, 1, 2, 2])


@pytest.mark.parametrize("num_stored", [1, 5, 8, 9, 100])
def test_features_are_interpolated_linearly(num_stored):
    features = np.stack([3.0 * np.arange(num_stored), 7.0 - np.arange(num_stored)], axis=-1)
    position = np.arange(8) * (num_stored - 1) / 7
    found = interpolate_features(features, 8)
    np.testing.assert_allclose(found, np.stack([3 * position, 7 - position], axis=-1), rtol=1e-6, atol=1e-6)
    assert found.dtype == np.float32


def test_features_on_a_stored_frame_are_its_own():
    features = np.random.default_rng(0).normal(size=(15, 4)).astype(np.float32)
    np.testing.assert_array_equal(interpolate_features(features, 15), features)
    np.testing.assert_array_equal(interpolate_features(features, 8), features[::2])


def test_span_and_grid():
    span_s = span_of(41, 10)
    np.testing.assert_array_equal(span_s, np.array([0, 4], np.float32))
    # 17 frames: one every quarter of a second. What lies outside of the sampled span is cut off.
    grid = seconds_to_grid(np.array([[0.0, 1.0], [3.9, 4.08], [-1.0, 0.25]]), span_s, 17)
    np.testing.assert_allclose(grid, [[0, 4], [15.6, 16], [0, 1]], rtol=1e-6)
    assert grid.dtype == np.float32


def test_a_window_starts_later():
    np.testing.assert_allclose(seconds_to_grid(np.array([12.0, 13.0]), np.array([12.0, 14.0]), 5), [0, 2])


def test_a_video_of_one_frame_has_one_place():
    np.testing.assert_array_equal(seconds_to_grid(np.array([0.0, 0.0]), span_of(1, 10), 8), [0, 0])


def test_center_crop():
    frames = np.arange(2 * 7 * 10 * 3).reshape(2, 7, 10, 3)
    np.testing.assert_array_equal(center_crop(frames, 4), frames[:, 1:5, 3:7])
    np.testing.assert_array_equal(center_crop(frames[0], 7), frames[0, :, 1:8])
