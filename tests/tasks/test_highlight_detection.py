"""Highlight detection: moment retrieval whose queries have several segments, and a curve that is scored."""

import numpy as np
import pytest

from tests.tiny import random_batch, tiny_task
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import SplitPredictions

TASK = tiny_task("highlight_detection", data={"max_queries": 1})


def record(video_id: str, segments, texts) -> VideoRecord:
    return VideoRecord(video_id, 8.0, "test", np.array(segments, float), texts, [{}] * len(texts))


RECORDS = [record("a", [[0, 2], [6, 8]], ["x", "x"]), record("b", [[2, 6]], ["y"])]


def test_a_query_with_several_segments_is_one_text():
    assert TASK.evaluation_texts(RECORDS) == [["x"], ["y"]]


def test_all_segments_of_a_query_are_targets():
    batch = random_batch(TASK.config).replace(
        segments=np.array([[[0, 1], [5, 7], [0, 0]]] * 2, np.float32),
        segment_text=np.array([[0, 0, -1], [-1, -1, -1]], np.int32),
    )
    level_0 = TASK.targets(batch).relevance[..., :8]
    np.testing.assert_array_equal(level_0, [[[1, 1, 0, 0, 0, 1, 1, 1]], [[0] * 8]])


def found(segments, scores, curves) -> SplitPredictions:
    of_video = lambda rows: [np.array(row, float)[None] for row in rows]
    return SplitPredictions(
        [["x"], ["y"]],
        spans_s=[np.array([0.0, 8.0])] * 2,
        segments_s=of_video(segments),
        scores=of_video(scores),
        curves=of_video(curves),
    )


GOOD = found(
    [[[0, 2], [6, 8], [3, 4]], [[2, 6], [0, 0], [0, 0]]],
    [[0.9, 0.8, 0.1], [0.7, 0, 0]],
    [[1, 0.9, 0, 0, 0, 0, 0.1, 0.8, 1], [0, 0, 0.2, 1, 1, 1, 0.2, 0, 0]],
)


def test_what_is_right_scores_full():
    assert TASK.compute_metrics(RECORDS, GOOD) == {
        "mAP": pytest.approx(100), "mAP@0.50": pytest.approx(100), "mAP@0.75": pytest.approx(100),
        "HL-mAP": pytest.approx(100), "HIT@1": pytest.approx(100), "MR-mAP": pytest.approx(100),
        "MR-mAP@0.5": pytest.approx(100), "MR-mAP@0.75": pytest.approx(100),
        "MR-R1@0.5": pytest.approx(100), "MR-R1@0.7": pytest.approx(100),
    }  # fmt: skip


def test_a_query_is_searched_in_its_own_video():
    """The right segments of the other video's query are wrong; half of the curves are right."""
    swapped = found(
        [[[2, 6]], [[0, 2]]], [[0.9], [0.8]], [[1, 0.9, 0, 0, 0, 0, 0, 0.8, 1], [1, 1, 0, 0, 0, 0, 0, 0, 0]]
    )
    result = TASK.compute_metrics(RECORDS, swapped)
    assert result["mAP@0.50"] == 0 and result["HIT@1"] == pytest.approx(50)
    # Clips of 2 s with their middles at 1, 3, 5 and 7 s: of "y" those at 3 and 5 s are positive, and tie with 7 s.
    assert result["HL-mAP"] == pytest.approx(100 * (1 + 0.5) / 2)


def test_segments_are_ranked_over_all_videos():
    """Scores 0.9 (right), 0.8 (wrong), 0.7 (right), and one of three is not found: 1/3 + 1/3 · 2/3."""
    some = found([[[0, 2], [3, 5]], [[2, 6], [0, 0]]], [[0.9, 0.8], [0.7, 0]], [np.zeros(9), np.zeros(9)])
    assert TASK.compute_metrics(RECORDS, some)["mAP@0.50"] == pytest.approx(100 * (1 / 3 + 2 / 9))


def test_nothing_found():
    nothing = found([[[0, 0]], [[0, 0]]], [[0], [0]], [np.zeros(9), np.zeros(9)])
    assert TASK.compute_metrics(RECORDS, nothing)["mAP"] == 0


def test_datasets_without_segments_are_scored_by_their_annotators():
    """TVSum: the curve rises, and so do one annotator's scores; the other's fall."""
    rising = np.arange(10)[:, None] / 2.0
    saliency = {"dogs": np.concatenate([rising, rising[::-1]], axis=1)}
    record = VideoRecord("a", 20.0, "test", np.zeros((0, 2), np.float32), ["dogs"], [{}], saliency=saliency)
    found = SplitPredictions(
        [["dogs"]],
        spans_s=[np.array([0, 20], np.float32)],
        segments_s=[np.zeros((1, 2, 2), np.float32)],
        scores=[np.zeros((1, 2), np.float32)],
        curves=[np.linspace(0, 1, 8)[None]],
    )
    # Above the median are the last five clips for one, which are the best five: AP 1; for the other the first five.
    assert TASK.compute_metrics([record], found) == {
        "mAP": pytest.approx(50),
        "mAP_over_videos": pytest.approx(50),
    }


def test_hidden_ground_truth_is_no_ground_truth():
    """Queries without segments and scores cannot be scored; beside others they change nothing."""
    hidden = VideoRecord("c", 8.0, "test", np.zeros((0, 2), np.float32), ["z"], [{}])
    assert not TASK.has_ground_truth([hidden]) and TASK.has_ground_truth([*RECORDS, hidden])
    wrong = found([[[0, 8]]], [[1.0]], [np.ones(9)])
    with_hidden = SplitPredictions(
        [*GOOD.texts, ["z"]],
        spans_s=[*GOOD.spans_s, wrong.spans_s[0]],
        segments_s=[*GOOD.segments_s, wrong.segments_s[0]],
        scores=[*GOOD.scores, wrong.scores[0]],
        curves=[*GOOD.curves, wrong.curves[0]],
    )
    assert TASK.compute_metrics([*RECORDS, hidden], with_hidden) == TASK.compute_metrics(RECORDS, GOOD)
