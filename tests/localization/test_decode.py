import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.golden_checks.postprocess import decode_points, jitted
from tests.localization.references import load_goldens
from unloc_jax.config import EvaluationConfig
from unloc_jax.localization.decode import Localization, grid_to_seconds
from unloc_jax.localization.geometry import PyramidGeometry, default_regression_ranges
from unloc_jax.sampling import seconds_to_grid, span_of

GOLDENS = load_goldens("postprocess")


def pyramid(num_frames: int, num_levels: int) -> PyramidGeometry:
    return PyramidGeometry(num_frames, num_levels, 2, default_regression_ranges(num_levels))


@pytest.mark.parametrize("name", GOLDENS)
def test_points_to_seconds_equal_the_reference(name):
    case = GOLDENS[name]
    num_frames, seconds = int(case["num_frames"]), float(case["secs_per_timestep"])
    geometry = pyramid(num_frames, 3 if case["pyramid"] else 1)
    offsets = case["in/displacements"]
    if not case["normalize_by_stride"]:
        offsets = offsets / geometry.strides[:, None]
    span_s = span_of(int(case["total_frames"]), 1 / seconds)
    segments, scores = decode_points(case["in/probs"], offsets, np.ones(num_frames, bool), span_s, geometry)
    # The reference masks points at random, and masked captions; and cuts segments off at the end of the video,
    # one frame after the last one that was sampled, which is our end.
    real = np.ix_(case["in/caption_mask"] > 0, case["in/mask"] > 0)
    assert (case["out/segments"] > span_s[1]).any()
    np.testing.assert_allclose(
        segments[real], np.minimum(case["out/segments"], span_s[1]), rtol=2e-6, atol=2e-6
    )
    np.testing.assert_allclose(scores[real], case["out/scores"], rtol=1e-5)


def test_points_on_padded_frames_are_dropped():
    geometry = pyramid(8, 2)
    frame_mask = np.array([1, 1, 1, 1, 1, 0, 0, 0], bool)
    _, scores = decode_points(np.full((1, 12), 0.5), np.ones((1, 12, 2)), frame_mask, (0, 7), geometry)
    np.testing.assert_array_equal(scores[0] > 0, [1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0])


@hypothesis.given(
    real=st.lists(st.integers(1, 8), min_size=2, max_size=2),
    values=hypothesis.extra.numpy.arrays(np.float32, (3, 2, 14), elements=st.floats(0, 40, width=32)),
    start_s=st.sampled_from([0.0, 0.5, 977.3]),
)
def test_no_segment_leaves_the_video(real, values, start_s):
    """A window of 8 places may be longer than the video: segments end with its last frame."""
    geometry = pyramid(8, 3)
    frame_mask = np.arange(8) < np.array(real)[:, None]
    relevance, *offsets = values[:, :, None]
    span_s = np.array([[start_s, start_s + 14]] * 2, np.float32)
    found = jitted(
        Localization(relevance - 20, np.stack(offsets, axis=-1)), frame_mask, span_s, geometry,
        EvaluationConfig().suppression(5),
    )  # fmt: skip
    for video, count in enumerate(real):
        segments = np.asarray(found.segments_s[video][found.scores[video] > 0])
        assert (segments[:, 0] <= segments[:, 1]).all()
        assert (segments[:, 0] >= span_s[video, 0] - 1e-3).all()
        assert (segments[:, 1] <= start_s + 2 * (count - 1) + 1e-3).all()


def test_a_window_of_a_video_has_the_videos_times():
    geometry = pyramid(8, 2)
    offsets = np.zeros((1, 12, 2))
    offsets[0, 3], offsets[0, 9], offsets[0, 11] = (1, 2), (0.5, 1), (0, 5)
    segments, _ = decode_points(np.full((1, 12), 0.5), offsets, np.ones(8, bool), (10, 24), geometry)
    # Two seconds from frame to frame. Point 9 is frame 2 and point 11 is frame 6 of level 1, whose stride is 2.
    np.testing.assert_allclose(segments[0, [3, 9, 11]], [[14, 20], [12, 18], [22, 24]])


def test_suppression_works_in_every_video_and_text_alone():
    geometry = pyramid(4, 1)
    relevance = np.array([[[2, 1, 0, -1], [-1, 0, 1, 2]], [[0, 0, 3, 0], [9, 9, 9, 9]]], np.float32)
    offsets = np.full((2, 2, 4, 2), 1, np.float32)
    found = jitted(
        Localization(relevance, offsets), np.ones((2, 4), bool),
        np.array([[0, 3], [0, 6]], np.float32), geometry,
        EvaluationConfig(soft_nms_sigma=0.1, score_threshold=0.3).suppression(2),
    )  # fmt: skip
    assert found.segments_s.shape == (2, 2, 2, 2) and found.point.dtype == np.int32
    np.testing.assert_array_equal(found.point[:, :, 0], [[0, 3], [2, 0]])
    np.testing.assert_allclose(found.segments_s[1, 0, 0], [2, 6])
    # Each second best overlaps with the best; frames 0 and 3 of the last text do not.
    np.testing.assert_allclose(found.scores[0, 0], [1 / (1 + np.exp(-2)), 0.5], rtol=1e-6)
    np.testing.assert_array_equal(found.point[0, 0], [0, 2])


def test_seconds_and_grid_units_are_inverse():
    span_s = np.array([[2.0, 33.0], [0.0, 5.0]], np.float32)
    grid = np.random.default_rng(0).uniform(0, 31, (2, 3, 5, 2)).astype(np.float32)
    seconds = np.asarray(grid_to_seconds(grid, span_s, 32))
    for row, row_seconds, row_span in zip(grid, seconds, span_s, strict=True):
        np.testing.assert_allclose(seconds_to_grid(row_seconds, row_span, 32), row, atol=1e-4)


def test_one_frame_is_at_the_first_time():
    seconds = grid_to_seconds(np.zeros((1, 2)), np.array([[3.0, 3.0]]), 1)
    np.testing.assert_array_equal(seconds, [[3, 3]])
