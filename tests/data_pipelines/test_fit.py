"""Annotations against the measured length of a video."""

import collections

import numpy as np
import pytest

from data_pipelines.annotations.problems import Problem
from data_pipelines.builders.fit_to_duration import fit_to_video
from unloc_jax.queries import queries_of
from unloc_jax.records import VideoRecord


def _record(duration_s: float, segments: list[list[float]]) -> VideoRecord:
    texts = [f"text {i}" for i in range(len(segments))]
    return VideoRecord(
        "v", duration_s, "train", np.array(segments, np.float32), texts, [{"n": text} for text in texts]
    )


def _counts(problems: list[Problem]) -> dict[str, int]:
    return dict(collections.Counter(problem.kind for problem in problems))


@pytest.mark.parametrize("measured_s", [20.0, 20.9, 19.1, 19.5])
def test_small_differences_change_nothing(measured_s):
    problems: list[Problem] = []
    fitted = fit_to_video(_record(20.0, [[0, 20], [5, 6]]), measured_s, problems)
    assert fitted.duration_s == 20.0
    np.testing.assert_array_equal(fitted.segments_s, [[0, 20], [5, 6]])
    assert not problems


def test_a_longer_video_is_only_reported():
    problems: list[Problem] = []
    fitted = fit_to_video(_record(20.0, [[0, 20]]), 30.0, problems)
    assert fitted.duration_s == 20.0
    assert _counts(problems) == {"duration differs from the video": 1}


def test_a_shorter_video_clips():
    problems: list[Problem] = []
    fitted = fit_to_video(_record(20.0, [[11, 12], [5, 20], [1, 2]]), 10.0, problems)
    assert fitted.duration_s == 10.0
    np.testing.assert_array_equal(fitted.segments_s, [[5, 10], [1, 2]])
    assert fitted.texts == ["text 1", "text 2"]
    # What the official metrics count is kept: the segment as annotated, and the one that cannot be found.
    not_shown = '[[11.0, 12.0, "text 0", {"n": "text 0"}]]'
    assert fitted.attributes == [
        {"n": "text 1", "annotated_s": "[5.0, 20.0]", "not_shown": not_shown},
        {"n": "text 2"},
    ]
    assert _counts(problems) == {
        "duration differs from the video": 1,
        "segment after the video's end": 1,
        "segment clipped to the video": 1,
    }


def test_a_segment_behind_a_slightly_shorter_video_shows_nothing():
    problems: list[Problem] = []
    assert fit_to_video(_record(20.0, [[19.6, 20]]), 19.5, problems) is None
    assert _counts(problems) == {"segment after the video's end": 1}


def test_a_video_of_an_evaluation_split_stays_although_all_its_segments_lie_behind_it():
    record = _record(20.0, [[19.6, 20], [19.7, 20]])
    record.split = "test"
    record.attributes = [
        {"qid": "1", "vid": "v.mp4", "not_shown": '[[3, 3, "empty", {"qid": "0"}]]'},
        {"qid": "2", "vid": "v.mp4", "annotated_s": "[19.7, 23.0]"},
    ]
    fitted = fit_to_video(record, 19.5, [])
    assert (fitted.segments_s.shape, fitted.texts, list(fitted.attributes[0])) == (
        (0, 2),
        [],
        ["vid", "not_shown"],
    )
    queries = queries_of(fitted)
    assert [(query.text, query.qid, query.windows_s.tolist()) for query in queries] == [
        ("text 0", 1, [[19.6, 20.0]]),
        ("text 1", 2, [[19.7, 23.0]]),
        ("empty", 0, [[3.0, 3.0]]),
    ]


def test_an_unknown_duration_is_measured():
    problems: list[Problem] = []
    fitted = fit_to_video(_record(0.0, [[1, 2], [3, 99]]), 10.0, problems)
    assert fitted.duration_s == 10.0
    np.testing.assert_array_equal(fitted.segments_s, [[1, 2], [3, 10]])
    assert _counts(problems) == {"segment clipped to the video": 1}


def test_a_record_without_segments_keeps_its_queries():
    problems: list[Problem] = []
    record = _record(20.0, [])
    record.segments_s = np.zeros((0, 2), np.float32)
    record.texts, record.attributes = ["a query"], [{}]
    fitted = fit_to_video(record, 10.0, problems)
    assert (fitted.duration_s, fitted.texts, fitted.attributes) == (10.0, ["a query"], [{}])
    assert fitted.segments_s.shape == (0, 2)
    assert _counts(problems) == {"duration differs from the video": 1}
