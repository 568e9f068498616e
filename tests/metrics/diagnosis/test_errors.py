"""False positives by type and AP_N: DETAD's own numbers, and cases worked out by hand."""

import dataclasses

import numpy as np
import pytest

from tests.metrics.references import (
    DETAD_NAMES,
    ORACLES,
    load_json,
    needs_oracles,
    needs_the_oracles_processor,
)
from unloc_jax.errors import UserError
from unloc_jax.metrics.detection import GroundTruth, Predictions
from unloc_jax.metrics.diagnosis.bins import COVERAGE_EDGES, INSTANCE_EDGES, LENGTH_EDGES_S, bins_of
from unloc_jax.metrics.diagnosis.confusion import confused_pairs
from unloc_jax.metrics.diagnosis.errors import TYPES, find_errors
from unloc_jax.metrics.diagnosis.inputs import read_actions
from unloc_jax.metrics.diagnosis.matches import match_best
from unloc_jax.metrics.diagnosis.sensitivity import scores_by_bin


def columns(rows, width):
    """Rows (video, class, start, end[, score]) as arrays."""
    table = np.array(rows, float).reshape(-1, width)
    fields = [table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:4]]
    return GroundTruth(*fields) if width == 4 else Predictions(*fields, table[:, 4])


RUN, JUMP = 0, 1
TRUTH = columns([(0, RUN, 0, 10), (0, JUMP, 20, 30), (1, RUN, 0, 10)], 4)
FOUND = columns(
    [
        (0, RUN, 20, 30, 0.9),  # wrong class
        (0, RUN, 0, 10, 0.8),  # hit
        (0, RUN, 1, 10, 0.7),  # double detection
        (0, RUN, 5, 12, 0.6),  # localisation: 5 / 12
        (0, RUN, 25, 38, 0.5),  # confusion: 5 / 18
        (0, RUN, 50, 60, 0.4),  # background
        (2, RUN, 0, 10, 0.3),  # background: a video without segments
        (0, RUN, 30, 20, 0.2),  # background: reversed
        (1, JUMP, 70, 80, 0.6),  # background
        (0, JUMP, 20, 30, 0.5),  # hit
    ],
    5,
)


def test_every_type_by_hand():
    matches = match_best(TRUTH, FOUND, 2, 0.5)
    errors = find_errors(matches)
    assert [TYPES[t] for t in errors.type] == [
        "wrong class",
        "hit",
        "double detection",
        "localisation",
        "confusion",
        "background",
        "background",
        "background",
        "background",
        "hit",
    ]
    assert matches.is_found.tolist() == [True, True, False]
    np.testing.assert_allclose(errors.own_tiou[:4], [0, 1, 0.9, 5 / 12])
    assert errors.segment_any_tiou.tolist() == [1, 1, 0]
    # N = 3 segments / 2 classes. Running: recall 1/2, precision 0.75 / (0.75 + 1); jumping: 1.5 / (1.5 + 1).
    np.testing.assert_allclose(errors.ap_n, [0.5 * 3 / 7, 0.6])
    without = {"wrong class": (0.5 - 1.5 / 7) / 2, "background": (1 - 0.6) / 2}
    np.testing.assert_allclose(errors.gain, [without.get(name, 0) for name in TYPES], atol=1e-15)
    profile = errors.profile(matches.rank, matches.num_truth[matches.found.class_index])
    assert profile[0].tolist() == [1, 0, 1, 0, 0, 1], "G best: two of running, one of jumping"
    assert profile[1].tolist() == [1, 1, 0, 1, 0, 0]
    assert profile.sum() == 10


def test_only_the_best_of_each_class_count():
    matches = match_best(TRUTH, FOUND, 2, 0.5, multiples=1)
    assert matches.found.score.tolist() == [0.9, 0.8, 0.6]
    assert matches.row.tolist() == [0, 1, 8]
    with pytest.raises(UserError, match="no predictions of the ground truth's classes"):
        match_best(TRUTH, FOUND._replace(class_index=np.full(10, 2)), 2, 0.5)


def test_map_n_of_a_part_of_the_ground_truth():
    """Hits of other bins do not count as errors; false positives do."""
    matches = match_best(TRUTH, FOUND, 2, 0.5)
    bins = bins_of("video", np.array([0.0, 0.0, 1.0]), (0, 0.5, 1), "s")
    first, second = scores_by_bin(matches, bins)
    assert (first.segments, first.found) == (2, 100)
    # Running has one segment now: recall 1, precision 1.5 / (1.5 + 1).
    assert first.map_n == pytest.approx(100 * (0.6 + 0.6) / 2)
    assert (second.segments, second.map_n, second.found) == (1, 0, 0)


def test_what_carries_two_labels_is_not_confused():
    truth = columns([(0, RUN, 0, 10), (0, JUMP, 0, 10), (0, JUMP, 20, 30), (1, RUN, 5, 9)], 4)
    # Both classes fit the first two; the third is running on a jump.
    found = columns(
        [(0, RUN, 0, 9, 0.9), (0, RUN, 0, 10, 0.8), (0, JUMP, 1, 9, 0.9), (0, RUN, 20, 29, 0.7)], 5
    )
    matches = match_best(truth, found, 2, 0.5)
    pairs = confused_pairs(matches, find_errors(matches))
    assert pairs == [(RUN, JUMP, 1, 0, 50.0)]


@needs_oracles
@needs_the_oracles_processor
@pytest.mark.filterwarnings("ignore::unloc_jax.metrics.checks.InputWarning")
@pytest.mark.parametrize("name", ["thumos14_scnn"])
def test_detad(name):
    expected = load_json("detad_thumos14/expected.json")[name]
    actions = read_actions(
        "thumos14",
        ORACLES / "detad_thumos14/gt_extra_characteristics.json",
        ORACLES / "thumos14_scnn/pred_nms0.4.json",
        subset="testing",
    )
    matches = match_best(actions.truth, actions.found, len(actions.classes), 0.5)
    errors = find_errors(matches)
    assert len(matches.row) == expected["n_pred_limited_10G"]
    assert np.nanmean(errors.ap_n) == pytest.approx(expected["average_mAP_N"], rel=1e-13)

    # DETAD compares the predictions of a video without segments with the segments of the video before it, by name:
    # 27 predictions here, all background for us. With its slip the numbers are its own.
    own = dict(zip(DETAD_NAMES, np.bincount(errors.type).tolist()))
    slip = {"Wrong Label Err": 2, "Confusion Err": 2, "Background Err": -4}
    assert {k: n + slip.get(k, 0) for k, n in own.items()} == expected["fp_error_counts"]["0.50"]
    elsewhere = matches.found.video_index >= len(actions.videos)
    before = max(video for video in actions.videos if video < "video_test_0001292")
    video = np.where(elsewhere, actions.videos.index(before), matches.found.video_index)
    errors = find_errors(dataclasses.replace(matches, found=matches.found._replace(video_index=video)))
    assert dict(zip(DETAD_NAMES, np.bincount(errors.type))) == expected["fp_error_counts"]["0.50"]
    for i, type_ in enumerate(DETAD_NAMES[1:], 1):
        assert errors.gain[i] == pytest.approx(expected["average_mAP_gain"][type_], rel=1e-12)

    length_s = np.diff(actions.truth.segments_s, axis=1)[:, 0]
    in_video = np.bincount(actions.truth.video_index)[actions.truth.video_index].astype(float)
    for key, values, edges, unit in (
        ("length", length_s, LENGTH_EDGES_S, "s"),
        ("coverage", length_s / actions.duration_s[actions.truth.video_index], COVERAGE_EDGES, "%"),
        ("num-instances", in_video, INSTANCE_EDGES, ""),  # theirs are of all classes
    ):
        bins = bins_of(key, values, edges["thumos14"], unit)
        assert sorted(mask.sum() for _, mask in bins.members()) == sorted(expected["gt_bins"][key].values())
