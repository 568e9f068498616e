import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden_checks.metrics import detections as inputs_of
from tests.metrics.references import GOLDENS, ORACLES, needs_oracles
from unloc_jax.errors import UserError
from unloc_jax.metrics.detection import (
    ACTIVITYNET_TIOU,
    THUMOS14_TIOU,
    GroundTruth,
    Predictions,
    detection_map,
)
from unloc_jax.metrics.protocols.action_files import read_annotations, read_results
from unloc_jax.metrics.tiou import segment_iou


def truth_of(*rows):
    """Rows (video, class, start, end)."""
    rows = np.array(rows, float).reshape(-1, 4)
    return GroundTruth(rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2:])


def predictions_of(*rows):
    """Rows (video, class, start, end, score)."""
    rows = np.array(rows, float).reshape(-1, 5)
    return Predictions(rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2:4], rows[:, 4])


def ap_one_by_one(truth, found, threshold, class_index):
    """The definition read aloud: the slow peer of `detection_map` for one class and threshold, in percent."""
    of_class = np.flatnonzero(found.class_index == class_index)
    positives = np.flatnonzero(truth.class_index == class_index)
    taken, hits = set(), []
    for i in of_class[found.score[of_class].argsort()[::-1]]:
        same_video = positives[truth.video_index[positives] == found.video_index[i]]
        candidates = [
            (segment_iou(found.segments_s[i], truth.segments_s[j]), j) for j in same_video if j not in taken
        ]
        iou, best = max(candidates, default=(-1.0, -1))
        hits.append(iou >= threshold)
        if hits[-1]:
            taken.add(best)
    precision = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    return 100 * sum(max(precision[n:]) / len(positives) for n, hit in enumerate(hits) if hit)


def test_by_hand():
    truth = truth_of([0, 0, 0, 10], [0, 0, 20, 30], [1, 0, 0, 10], [0, 1, 0, 10])
    found = predictions_of(
        [0, 0, 0, 8, 0.9],  # IoU 0.8 with the first
        [0, 0, 0, 10, 0.8],  # IoU 1 with the first: at 0.5 taken already, at 0.9 the first to hit it
        [1, 0, 0, 10, 0.7],  # hit in video 1
        [0, 1, 40, 50, 0.6],  # class 1: miss
        [0, 1, 0, 10, 0.5],  # class 1: hit
    )
    result = detection_map(truth, found, [0.5, 0.9])
    # Class 0 at 0.5: hit, miss, hit of 3. At 0.9: miss, hit, hit of 3.
    expected = [[(1 + 2 / 3) / 3, (2 / 3 + 2 / 3) / 3], [1 / 2, 1 / 2]]
    np.testing.assert_allclose(result["per_class_AP"], 100 * np.array(expected), rtol=1e-14)
    assert result["mAP@0.50"] == pytest.approx(100 * (5 / 9 + 1 / 2) / 2)
    assert result["mAP@0.90"] == pytest.approx(100 * (4 / 9 + 1 / 2) / 2)
    assert result["average_mAP"] == pytest.approx(100 * (5 / 9 + 4 / 9 + 1) / 4)


def test_a_prediction_falls_back_on_the_next_best_free_segment():
    truth = truth_of([0, 0, 0, 10], [0, 0, 4, 14])
    # The second prediction overlaps the first segment most, but that one is taken; then it takes the other.
    found = predictions_of([0, 0, 0, 10, 0.9], [0, 0, 1, 11, 0.8])
    assert detection_map(truth, found, [0.5])["mAP@0.50"] == 100
    assert detection_map(truth, found, [0.6])["mAP@0.60"] == 50


def test_of_two_segments_with_equal_tiou_the_later_is_taken():
    truth = truth_of([0, 0, 0, 10], [0, 0, 10, 20])
    # The first prediction is as near to both; the second one could only have hit the later.
    found = predictions_of([0, 0, 5, 15, 0.9], [0, 0, 12, 20, 0.8])
    assert detection_map(truth, found, [0.3])["mAP@0.30"] == 50


def test_a_chain_of_displacements_ends_as_one_by_one():
    # Each prediction prefers the segment that a better one takes: only all rounds together settle it.
    rows = np.arange(12)
    truth = truth_of(*[[0, 0, i, i + 20] for i in rows])
    found = predictions_of(*[[0, 0, i / 2, i / 2 + 20, 1 - i / 100] for i in rows])
    assert detection_map(truth, found, [0.7])["mAP@0.70"] == pytest.approx(
        ap_one_by_one(truth, found, 0.7, 0)
    )


def test_threshold_sets():
    assert ACTIVITYNET_TIOU.tolist() == pytest.approx([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
    assert THUMOS14_TIOU.tolist() == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.7])
    keys = detection_map(truth_of([0, 0, 0, 1]), predictions_of(), THUMOS14_TIOU)
    assert [key for key in keys if key.startswith("mAP@")] == [f"mAP@0.{n}0" for n in range(3, 8)]


def test_without_predictions_everything_is_missed():
    result = detection_map(truth_of([0, 2, 0, 1]), predictions_of(), [0.5])
    assert result["mAP@0.50"] == result["average_mAP"] == 0
    assert (result["ignored_predictions"], result["tied_predictions"], result["empty_predictions"]) == (
        0,
        0,
        0,
    )


def test_classes_without_ground_truth_do_not_count_but_are_reported():
    truth = truth_of([0, 1, 0, 10])
    result = detection_map(
        truth, predictions_of([0, 1, 0, 10, 0.5], [0, 3, 0, 10, 0.9], [0, 3, 0, 9, 0.9]), [0.5]
    )
    assert result["mAP@0.50"] == 100
    np.testing.assert_array_equal(result["per_class_AP"], [[np.nan], [100], [np.nan], [np.nan]])
    assert result["ignored_predictions"] == 2


def test_predictions_in_videos_without_ground_truth_are_false_positives():
    found = predictions_of([0, 0, 0, 10, 0.5], [9, 0, 0, 10, 0.9])
    assert detection_map(truth_of([0, 0, 0, 10]), found, [0.5])["mAP@0.50"] == 50


def test_empty_segments():
    truth = truth_of([0, 0, 0, 10], [1, 0, 5, 5])
    # Official evaluator: an empty prediction hits the empty segment of its video, and nothing else.
    found = predictions_of([1, 0, 7, 7, 0.9], [1, 0, 4, 6, 0.8], [0, 0, 5, 5, 0.7], [0, 0, 9, 1, 0.6])
    result = detection_map(truth, found, [0.95])
    assert result["mAP@0.95"] == 50
    assert result["empty_predictions"] == 3


def test_counts_ties_within_classes():
    rows = [[0, 0, 0, 1, 0.5], [0, 1, 0, 1, 0.5], [1, 1, 0, 1, 0.5], [2, 1, 0, 1, 0.7], [3, 1, 0, 1, 0.5]]
    assert detection_map(truth_of([0, 0, 0, 1]), predictions_of(*rows), [0.5])["tied_predictions"] == 3


@pytest.mark.parametrize(
    ("truth", "found", "message"),
    [
        (truth_of(), predictions_of([0, 0, 0, 1, 1]), "ground truth is empty"),
        (
            truth_of([0, 0, 5, 1]),
            predictions_of(),
            "ground truth: segments_s starts after its end in 1 of 1 rows",
        ),
        (truth_of([0, -1, 0, 1]), predictions_of(), "ground truth: class_index is negative"),
        (
            truth_of([0, 0, 0, 1]),
            predictions_of([0, 0, 0, 1, 1], [0, 0, 0, 1, np.nan]),
            "predictions: score is not finite in 1 of 2 rows, first in row 1: nan",
        ),
        (
            truth_of([0, 0, 0, 1]),
            predictions_of([0, 0, 0, np.inf, 1])._replace(score=np.ones(2)),
            r"segments_s is not finite in 1 of 1 rows, first in row 0: \[0.0, inf\]",
        ),
        (
            truth_of([0, 0, 0, 1]),
            predictions_of([0, 0, 0, 1, 1])._replace(score=np.ones(2)),
            r"score has shape \(2,\), but 1 class indices need \(1,\)",
        ),
    ],
)
def test_refuses(truth, found, message):
    with pytest.raises(UserError, match=message):
        detection_map(truth, found)


times = st.integers(0, 12)
spans = st.tuples(times, st.integers(1, 12)).map(lambda s: (s[0], s[0] + s[1]))
labels = st.tuples(st.integers(0, 2), st.integers(0, 2))
truths = st.lists(st.builds(lambda label, span: (*label, *span), labels, spans), min_size=1, max_size=15).map(
    lambda rows: truth_of(*rows)
)


@st.composite
def detections(draw, distinct_scores):
    rows = draw(st.lists(st.builds(lambda label, span: (*label, *span), labels, spans), max_size=25))
    scores = draw(st.permutations(range(len(rows)))) if distinct_scores else [draw(times) for _ in rows]
    return predictions_of(*[(*row, score) for row, score in zip(rows, scores)])


@settings(max_examples=100, deadline=None)
@given(truths, detections(distinct_scores=False), st.sampled_from([0.1, 0.3, 0.5, 0.7]))
def test_equals_one_by_one_matching(truth, found, threshold):
    ap = detection_map(truth, found, [threshold])["per_class_AP"][:, 0]
    for row in np.flatnonzero(~np.isnan(ap)):
        assert ap[row] == pytest.approx(ap_one_by_one(truth, found, threshold, row), abs=1e-9)
    assert set(np.flatnonzero(~np.isnan(ap))) == set(truth.class_index)


@settings(max_examples=50, deadline=None)
@given(truths, detections(distinct_scores=True), st.randoms())
def test_order_of_the_input_does_not_matter(truth, found, random):
    shuffled = list(range(len(found.score)))
    random.shuffle(shuffled)
    again = detection_map(truth, Predictions(*(np.asarray(field)[shuffled] for field in found)))
    for key, value in detection_map(truth, found).items():
        np.testing.assert_array_equal(again[key], value)


@settings(max_examples=50, deadline=None)
@given(truths, detections(distinct_scores=True))
def test_perfect_predictions_score_100_whatever_comes_after_them(truth, found):
    perfect = predictions_of(*[(*row, 100) for row in np.column_stack(truth)])
    both = Predictions(*(np.concatenate(fields) for fields in zip(perfect, found)))
    result = detection_map(truth, both)
    assert result["average_mAP"] == pytest.approx(100)
    assert np.nanmin(result["per_class_AP"]) == pytest.approx(100)


@settings(max_examples=50, deadline=None)
@given(truths, detections(distinct_scores=True), st.floats(0.01, 100))
def test_duplicates_never_raise_the_average_precision(truth, found, distance):
    # Each event in its own hour, so that a prediction overlaps one at most and its copy is a false positive.
    truth = truth._replace(segments_s=truth.segments_s + 3600.0 * np.arange(len(truth.class_index))[:, None])
    found = found._replace(segments_s=found.segments_s + 3600.0 * np.arange(len(found.score))[:, None])
    copies = found._replace(score=found.score - distance)
    both = Predictions(*(np.concatenate(fields) for fields in zip(found, copies)))
    once, twice = (detection_map(truth, p, [0.1, 0.5])["per_class_AP"] for p in (found, both))
    assert (np.nan_to_num(twice) <= np.nan_to_num(once) + 1e-9).all()


@pytest.mark.parametrize("case", range(3))
def test_equals_the_reference(case):
    golden = {key.split("/")[1]: GOLDENS[key] for key in GOLDENS if key.startswith(f"map{case}/")}
    truth, found = inputs_of(golden)
    thresholds = np.arange(1, 20) * 0.05
    result = detection_map(truth, found, thresholds)
    # The reference sums in float32.
    got = [result[f"mAP@{threshold:.2f}"] for threshold in thresholds]
    np.testing.assert_allclose(got, 100 * golden["expected"], atol=5e-6)
    per_class = result["per_class_AP"].mean(axis=1)
    np.testing.assert_allclose(per_class, 100 * golden["expected_per_class"], atol=5e-6)
    for thresholds, name in ((ACTIVITYNET_TIOU, "activitynet"), (THUMOS14_TIOU, "thumos14")):
        average = detection_map(truth, found, thresholds)["average_mAP"]
        assert average == pytest.approx(100 * golden[f"expected_average_{name}"], abs=5e-6)


@needs_oracles
@pytest.mark.filterwarnings("ignore::unloc_jax.metrics.checks.InputWarning")
def test_real_detections_equal_one_by_one_matching():
    """30 % of S-CNN's scores are tied, so that this order has to be the official one too."""
    annotations = read_annotations(ORACLES / "thumos14_scnn/gt_with_ambiguous.json", "test")
    found = read_results(ORACLES / "thumos14_scnn/pred_nms0.4.json", annotations)
    result = detection_map(annotations.truth, found, [0.5])
    assert result["tied_predictions"] == 7270
    row = annotations.classes["BasketballDunk"]
    expected = ap_one_by_one(annotations.truth, found, 0.5, row)
    assert result["per_class_AP"][row, 0] == pytest.approx(expected, rel=1e-12)
