"""Windows of a video become the video: one NMS, averaged curves, classes of frames."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from unloc_jax.config import EvaluationConfig
from unloc_jax.localization.decode import Detections
from unloc_jax.localization.nms import suppress
from unloc_jax.tasks import windows as windows_module
from unloc_jax.tasks.outputs import Output
from unloc_jax.tasks.windows import WindowOutput, merge_windows

T = 5
CONFIG = EvaluationConfig(max_detections=6, soft_nms_sigma=0.5, score_threshold=0.01)


def _window(first_s: float, step_s: float = 1.0, real: int = T, **parts) -> WindowOutput:
    span_s = np.array([first_s, first_s + step_s * (T - 1)], np.float32)
    return WindowOutput(Output(**parts), span_s, np.arange(T) < real)


def _candidates(rng, first_s: float) -> Detections:
    start = first_s + rng.uniform(0, 4, (1, 2, 7))
    segments = np.stack([start, start + rng.uniform(0.2, 2, start.shape)], -1).astype(np.float32)
    scores = rng.uniform(0.05, 1, start.shape).astype(np.float32)
    return Detections(segments, scores, np.tile(np.arange(7, dtype=np.int32), (1, 2, 1)))


def test_candidates_of_all_windows_go_through_one_nms():
    rng = np.random.default_rng(0)
    windows = [_window(first_s, detections=_candidates(rng, first_s)) for first_s in (0.0, 3.0, 6.0)]
    output, span_s = merge_windows(windows, CONFIG)
    np.testing.assert_array_equal(span_s, [0, 10])
    joined = [np.concatenate([w.output.detections[i] for w in windows], axis=2) for i in (0, 1)]
    segments, scores, index = suppress(*joined, CONFIG.suppression(21))
    np.testing.assert_allclose(output.detections.segments_s, segments, rtol=1e-6)
    np.testing.assert_allclose(output.detections.scores, scores, rtol=1e-6)
    np.testing.assert_array_equal(output.detections.point, np.asarray(index) % 7)


def test_the_same_event_seen_by_two_windows_is_found_once():
    seen = lambda score: Detections(
        np.full((1, 1, 1, 2), [3.0, 4.0], np.float32),
        np.full((1, 1, 1), score, np.float32),
        np.zeros((1, 1, 1), np.int32),
    )
    config = dataclasses.replace(CONFIG, soft_nms_sigma=0.05)  # exp(-1 / (2 · 0.05)) < 0.01
    output, _ = merge_windows([_window(0, detections=seen(0.8)), _window(2, detections=seen(0.9))], config)
    np.testing.assert_allclose(output.detections.scores[0, 0], [0.9, 0.0], atol=1e-6)


def test_many_texts_are_merged_as_each_alone(monkeypatch):
    monkeypatch.setattr(windows_module, "_AT_ONCE", 4)
    rng = np.random.default_rng(0)
    made = [[_candidates(rng, i) for i in range(2)] for _ in range(5)]  # 2 texts each
    joined = [jax.tree.map(lambda *x: np.concatenate(x, axis=1), *of_window) for of_window in zip(*made)]
    together, _ = merge_windows([_window(i, detections=x) for i, x in enumerate(joined)], CONFIG)
    alone = [
        merge_windows([_window(i, detections=x) for i, x in enumerate(of_text)], CONFIG)[0].detections
        for of_text in made
    ]
    expected = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *alone)
    chex.assert_trees_all_close(together.detections, expected, rtol=1e-6)


def test_curves_are_averaged_where_windows_overlap():
    first, second = np.array([[[0.0, 1, 2, 3, 4]]]), np.array([[[10.0, 11, 12, 13, 14]]])
    output, span_s = merge_windows([_window(0, curve=first), _window(3, curve=second)], CONFIG)
    np.testing.assert_array_equal(span_s, [0, 7])
    np.testing.assert_allclose(output.curve, [[[0, 1, 2, (3 + 10) / 2, (4 + 11) / 2, 12, 13, 14]]])


def test_places_behind_the_video_do_not_count():
    curve = np.array([[[0.1, 0.2, 0.3, 0.9, 0.9]]])
    output, span_s = merge_windows([_window(2, step_s=0.5, real=3, curve=curve)], CONFIG)
    np.testing.assert_allclose(span_s, [2, 3])
    np.testing.assert_allclose(output.curve, curve[..., :3], rtol=1e-6)


def test_a_last_window_between_the_others_places_is_interpolated():
    line = lambda first_s: (first_s + np.arange(T) * 1.0)[None, None]  # the curve tells the time
    output, span_s = merge_windows([_window(0, curve=line(0)), _window(3.4, curve=line(3.4))], CONFIG)
    np.testing.assert_allclose(span_s, [0, 7.4], rtol=1e-6)
    times_s = np.arange(8)
    # Where only the last window sees a place, or both do, the line continues.
    np.testing.assert_allclose(output.curve[0, 0], times_s, atol=0.21)
    np.testing.assert_allclose(output.curve[0, 0, 5:], times_s[5:], atol=1e-6)


@pytest.mark.parametrize("other_s", [-1e-5, 0.0, 1e-5])
def test_a_last_window_halfway_between_the_others_places(other_s):
    """Rounding of times changes nothing, and every place has a value."""
    curves = [np.array([[[1.0, 2, 3, 4, 5]]]), np.array([[[6.0, 7, 8, 9, 10]]])]
    windows = [_window(0, curve=curves[0]), _window(2.5 + other_s, curve=curves[1])]
    output, _ = merge_windows(windows, CONFIG)
    wanted = [1, 2, (3 + 6) / 2, (4 + 6.5) / 2, (5 + 7.5) / 2, 8.5, 9.5, 10]
    np.testing.assert_allclose(output.curve[0, 0], wanted, atol=1e-4)


def test_classes_are_read_from_the_merged_curves():
    first = np.array([[[0.9, 0.9, 0.2, 0.6, 0.1], [0.1, 0.1, 0.2, 0.1, 0.1]]])
    second = np.array([[[0.0, 0.1, 0.1, 0.1, 0.1], [0.7, 0.9, 0.3, 0.9, 0.9]]])
    unused = np.zeros((1, T), np.int32)
    windows = [_window(0, curve=first, frame_classes=unused), _window(3, curve=second, frame_classes=unused)]
    output, _ = merge_windows(windows, CONFIG)
    # Place 3: classes (0.6 + 0) / 2 and (0.1 + 0.7) / 2, none above a half; place 4: 0.1 and 0.5, no more likely.
    np.testing.assert_array_equal(output.frame_classes, [[0, 0, -1, -1, -1, -1, 1, 1]])


def test_scores_of_whole_windows_are_averaged():
    scores = [np.array([[1.0, 2.0]]), np.array([[3.0, 6.0]])]
    output, _ = merge_windows([_window(i, video_scores=x) for i, x in enumerate(scores)], CONFIG)
    np.testing.assert_array_equal(output.video_scores, [[2, 4]])


def test_everything_is_on_the_host():
    rng = np.random.default_rng(0)
    output, _ = merge_windows([_window(0, detections=_candidates(rng, 0), curve=np.zeros((1, 2, T)))], CONFIG)
    assert {type(x) for x in jax.tree.leaves(output)} == {np.ndarray}
