import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unloc_jax.sampling import (
    Timeline,
    all_starts,
    center_crop,
    center_start,
    cut_segments,
    features_at,
    linspace_indices,
    random_start,
    seconds_to_grid,
    span_of,
    whole_video,
    window_at,
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


def _spread(features: np.ndarray, num_frames: int) -> np.ndarray:
    """Features at times spread evenly from the first row to the last."""
    timeline = Timeline(len(features), 0.0, 1.0)
    return features_at(features, timeline, np.linspace(0, timeline.last_s, num_frames))


@pytest.mark.parametrize("num_stored", [1, 5, 8, 9, 100])
def test_features_are_interpolated_linearly(num_stored):
    features = np.stack([3.0 * np.arange(num_stored), 7.0 - np.arange(num_stored)], axis=-1)
    position = np.arange(8) * (num_stored - 1) / 7
    found = _spread(features, 8)
    np.testing.assert_allclose(found, np.stack([3 * position, 7 - position], axis=-1), rtol=1e-6, atol=1e-6)
    assert found.dtype == np.float32


def test_features_on_a_stored_frame_are_its_own():
    features = np.random.default_rng(0).normal(size=(15, 4)).astype(np.float32)
    np.testing.assert_array_equal(_spread(features, 15), features)
    np.testing.assert_array_equal(_spread(features, 8), features[::2])


def test_span_and_grid():
    span_s = span_of(41, 10)
    np.testing.assert_array_equal(span_s, np.array([0, 4], np.float32))
    # 17 frames: one every quarter of a second. What is outside the sampled span is cut off.
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


def test_whole_video_is_what_linspace_says():
    window = whole_video(Timeline(41, 0.0, 0.1), 17)
    np.testing.assert_array_equal(window.indices, linspace_indices(41, 17))
    np.testing.assert_array_equal(window.span_s, span_of(41, 10))
    assert window.mask.all()
    np.testing.assert_allclose(window.times_s, np.arange(17) / 4, atol=1e-6)


def test_a_window_is_every_stride_th_frame():
    window = window_at(Timeline(100, 0.5, 0.25), 5, stride=3, start=10)
    np.testing.assert_array_equal(window.indices, [10, 13, 16, 19, 22])
    np.testing.assert_array_equal(window.span_s, np.array([3.0, 6.0], np.float32))
    assert window.mask.all() and window.video_s == (0.5, 25.25)


def test_behind_the_end_of_a_short_video_nothing_is_real():
    window = window_at(Timeline(4, 0.0, 0.5), 5, stride=2, start=0)
    np.testing.assert_array_equal(window.indices, [0, 2, 3, 3, 3])
    np.testing.assert_array_equal(window.mask, [True, True, False, False, False])
    np.testing.assert_array_equal(
        window.span_s, [0, 4]
    )  # a step of the grid lasts as long as in every window


def test_where_windows_start():
    # 10 frames, windows of 3 at stride 2 are 5 frames long: they start at 0 … 5.
    assert [random_start(10, 3, 2, u) for u in (0.0, 0.16, 0.17, 0.5, 0.99999)] == [0, 0, 1, 3, 5]
    assert center_start(10, 3, 2) == 2
    assert random_start(4, 3, 2, 0.9) == center_start(4, 3, 2) == 0
    np.testing.assert_array_equal(all_starts(10, 3, 2, hop=2), [0, 2, 4, 5])
    np.testing.assert_array_equal(all_starts(10, 3, 2, hop=5), [0, 5])
    np.testing.assert_array_equal(all_starts(3, 3, 2, hop=1), [0])


def test_segments_are_cut_to_the_window():
    # Frames at 10, 11, … 18 s of a long video.
    window = window_at(Timeline(100, 0.0, 1.0), 9, stride=1, start=10)
    segments_s = np.array(
        [
            [12.0, 14.5],  # inside
            [5.0, 13.0],  # cut at the start
            [17.0, 40.0],  # cut at the end
            [0.0, 99.0],  # shows all the time
            [2.0, 10.0],  # ends where the window starts
            [2.0, 10.4],  # less than half a step
            [2.0, 10.6],  # more than half a step
            [17.9, 18.1],  # short, half of it inside
            [17.95, 18.5],  # short, most of it outside
            [20.0, 25.0],  # after
        ]
    )
    grid, kept = cut_segments(segments_s, window)
    np.testing.assert_array_equal(kept, [1, 1, 1, 1, 0, 0, 1, 1, 0, 0])
    expected = [[2, 4.5], [0, 3], [7, 8], [0, 8], [0, 0.6], [7.9, 8]]
    np.testing.assert_allclose(grid[kept], expected, atol=1e-5)
    assert grid.dtype == np.float32


def test_segments_end_with_the_real_frames():
    window = window_at(Timeline(4, 0.0, 1.0), 8, stride=1, start=0)
    grid, kept = cut_segments(np.array([[1.0, 4.0], [3.0, 4.0], [6.0, 7.0]]), window)
    np.testing.assert_allclose(grid[:2], [[1, 3], [3, 3]])
    # As in the whole video, times behind the last stored frame show that frame.
    np.testing.assert_array_equal(kept, [True, True, True])


def test_the_whole_video_keeps_all_segments():
    timeline = Timeline(10, 0.0, 1.0)
    segments_s = np.array([[0.0, 0.01], [9.0, 10.0], [9.5, 10.0], [3.0, 3.0], [8.9, 12.0]])
    grid, kept = cut_segments(segments_s, whole_video(timeline, 16))
    assert kept.all()
    np.testing.assert_array_equal(grid, seconds_to_grid(segments_s, span_of(10, 1.0), 16))


@st.composite
def videos(draw):
    """A timeline of frames or feature rows, and the number of frames that a model sees."""
    timeline = Timeline(
        draw(st.integers(1, 4000)), draw(st.sampled_from([0.0, 0.05, 3.7])), 1 / draw(st.floats(0.2, 60))
    )
    return (
        timeline,
        draw(st.integers(2, 200)),
        draw(st.integers(1, 16)),
        draw(st.floats(0, 1, exclude_max=True)),
    )


def _to_seconds(grid, window):
    first_s, last_s = window.span_s.astype(np.float64)
    return first_s + grid * (last_s - first_s) / (len(window.mask) - 1)


@given(videos())
def test_a_place_shows_the_frame_of_its_time(video):
    timeline, num_frames, stride, uniform = video
    start = random_start(timeline.count, num_frames, stride, uniform)
    for window in (whole_video(timeline, num_frames), window_at(timeline, num_frames, stride, start)):
        assert window.mask[0] and window.indices.max() < timeline.count
        assert (np.diff(window.mask.astype(int)) <= 0).all()  # real, then not
        shown_s = timeline.time_s(window.indices[window.mask])
        said_s = _to_seconds(np.arange(num_frames), window)[window.mask]
        assert np.abs(shown_s - said_s).max() <= timeline.step_s / 2 + 1e-3
    # The window is as full as the video allows.
    assert window.mask.all() or (start == 0 and window.mask.sum() == -(-timeline.count // stride))


@given(videos(), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5))
def test_segments_come_back_at_the_right_second(video, ends):
    timeline, num_frames, stride, uniform = video
    start = random_start(timeline.count, num_frames, stride, uniform)
    segments_s = np.sort(timeline.first_s + np.array(ends) * timeline.count * timeline.step_s, axis=1)
    for window in (whole_video(timeline, num_frames), window_at(timeline, num_frames, stride, start)):
        grid, kept = cut_segments(segments_s, window)
        # Worked out another way: by which part of the segment's time the real places show.
        low_s, high_s = _to_seconds(np.flatnonzero(window.mask)[[0, -1]], window)
        expected_s = np.clip(segments_s, low_s, high_s)
        assert np.abs(_to_seconds(grid, window) - expected_s).max() <= timeline.step_s / 2 + 1e-3
        step_s = (window.span_s[1] - window.span_s[0]) / (num_frames - 1)
        lost = segments_s[~kept]
        lost_s = np.minimum(lost[:, 1], high_s) - np.maximum(lost[:, 0], low_s)
        assert (lost_s <= step_s / 2 + 2e-3).all()


@given(videos(), st.integers(1, 300))
def test_all_windows_show_the_whole_video(video, hop):
    timeline, num_frames, stride, _ = video
    starts = all_starts(timeline.count, num_frames, stride, hop)
    assert (np.diff(starts) > 0).all() and starts[0] == 0 and (np.diff(starts) <= hop).all()
    windows = [window_at(timeline, num_frames, stride, start) for start in starts.tolist()]
    last_shown = max(window.indices[window.mask].max() for window in windows)
    assert last_shown > timeline.count - 1 - stride  # no further place would fit
    if len(starts) > 1:
        assert all(window.mask.all() for window in windows) and last_shown == timeline.count - 1
    if hop <= num_frames * stride:  # no hole between windows
        ends = starts + (num_frames - 1) * stride
        assert (starts[1:] <= ends[:-1] + stride).all()


def test_features_at_the_times_of_frames():
    # Three rows at 1, 3 and 5 seconds.
    rows = np.array([[10.0, 0.0], [30.0, 4.0], [50.0, 0.0]])
    found = features_at(rows, Timeline(3, 1.0, 2.0), np.array([0.0, 1.0, 2.0, 4.5, 5.0, 9.0]))
    np.testing.assert_allclose(found, [[10, 0], [10, 0], [20, 2], [45, 1], [50, 0], [50, 0]])
    assert found.dtype == np.float32
