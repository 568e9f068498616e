import json

import jax
import numpy as np
import pytest

from tests.golden_checks.nms import jitted, suppressed
from tests.localization.references import ORACLES, REPOSITORY, load_goldens, needs_oracles
from unloc_jax.config import EvaluationConfig
from unloc_jax.localization.nms import NMSConfig, vote

GOLDENS = load_goldens("nms")
SMALL = REPOSITORY / "tests/goldens/official/nms.json"  # of the cases beside the repository


def one_by_one(segments, scores, max_detections, sigma, score_threshold):
    """The definition read aloud, in float64: the slow peer of `suppress` for one problem."""
    remaining = dict(enumerate(scores.astype(np.float64)))
    found = []
    while remaining and len(found) < max_detections:
        best = max(remaining, key=remaining.get)
        score = remaining.pop(best)
        if score <= score_threshold:
            break
        found.append((best, score))
        for i in remaining:
            overlap = min(segments[i, 1], segments[best, 1]) - max(segments[i, 0], segments[best, 0])
            if overlap > 0:
                union = np.ptp(segments[i]) + np.ptp(segments[best]) - overlap
                remaining[i] *= np.exp(-((overlap / union) ** 2) / (2 * sigma))
    return found


def nms(max_detections: int, **settings) -> NMSConfig:
    return EvaluationConfig(**settings).suppression(max_detections)


def problems(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    segments = np.sort(rng.uniform(0, 20, (*shape, 2)), axis=-1).astype(np.float32)
    return segments, rng.uniform(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("name", GOLDENS)
def test_equals_the_reference(name):
    case = GOLDENS[name]
    settings = {key: case[key].item() for key in ("max_detections", "soft_nms_sigma", "score_threshold")}
    kept, decayed = suppressed(case["in/segments"], case["in/scores"], settings)
    np.testing.assert_allclose(decayed, case["out/scores"], atol=1e-6)
    np.testing.assert_array_equal(case["in/segments"][kept].reshape(-1, 2), case["out/segments"])
    np.testing.assert_array_equal(case["in/classes"][kept], case["out/classes"])


def cases_of(program: str, every: bool) -> list[dict]:
    """Small ones of the repository, or all that lie beside it."""
    if not every:
        return json.loads(SMALL.read_text())[program]
    name = "tf_cases.json" if program == "tensorflow" else "cases.json"
    return json.loads((ORACLES / "nms_1d" / name).read_text())


small_and_all = pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=needs_oracles)], ids=["small", "all"]
)


@small_and_all
def test_equals_tensorflow(every):
    """The IoU threshold of TensorFlow's op means nothing when sigma > 0, as here."""
    cases = [case for case in cases_of("tensorflow", every) if case["cfg"]["soft_nms_sigma"] > 0]
    assert len(cases) >= (12 if every else 6)
    # Together in one call; what fills up has score 0, and is not found.
    size = max(len(case["scores"]) for case in cases)
    segments, scores = np.zeros((len(cases), size, 2), np.float32), np.zeros((len(cases), size), np.float32)
    for i, case in enumerate(cases):
        assert case["cfg"] | {"iou_threshold": 0} == {
            "iou_threshold": 0, "score_threshold": 0.001, "soft_nms_sigma": 0.3, "max_output_size": 100
        }  # fmt: skip
        segments[i, : len(case["segs"])], scores[i, : len(case["scores"])] = case["segs"], case["scores"]
    _, found_scores, index = jax.device_get(
        jitted(segments, scores, nms(100, soft_nms_sigma=0.3, score_threshold=0.001))
    )
    for i, case in enumerate(cases):
        found = found_scores[i] > 0
        np.testing.assert_array_equal(index[i, found], case["indices"])
        np.testing.assert_allclose(found_scores[i, found], case["out_scores"], rtol=1e-5)


def test_a_batch_equals_one_by_one():
    segments, scores = problems(0, 2, 3, 12)
    found = jax.device_get(jitted(segments, scores, nms(8, soft_nms_sigma=0.2, score_threshold=0.1)))
    assert [x.shape for x in found] == [(2, 3, 8, 2), (2, 3, 8), (2, 3, 8)]
    for at in np.ndindex(2, 3):
        expected = one_by_one(segments[at], scores[at], 8, 0.2, 0.1)
        n = len(expected)
        np.testing.assert_array_equal(found[2][at][:n], [i for i, _ in expected])
        np.testing.assert_allclose(found[1][at][:n], [score for _, score in expected], rtol=1e-5)
        np.testing.assert_array_equal(found[0][at][:n], segments[at][[i for i, _ in expected]])
        for filled_up in found:
            np.testing.assert_array_equal(filled_up[at][n:], 0)


def test_all_are_found_once_when_there_is_room_for_more():
    segments, scores = problems(1, 5)
    _, found, index = jitted(segments, scores, nms(9, soft_nms_sigma=0.5, score_threshold=0.0))
    assert sorted(np.asarray(index[:5]).tolist()) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(found[5:], 0)


def test_equal_and_empty_segments():
    # The same segment twice decays by exp(-1 / (2 sigma)); segments of length 0 overlap with nothing.
    segments = np.array([[1, 3], [1, 3], [2, 2], [2, 2]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    _, found, index = jitted(segments, scores, nms(4, soft_nms_sigma=0.5, score_threshold=0.0))
    np.testing.assert_array_equal(index, [0, 2, 3, 1])
    np.testing.assert_allclose(found, [0.9, 0.7, 0.6, 0.8 * np.exp(-1)], rtol=1e-6)


KINDS = {
    1: "linear",
    2: "gaussian",
}  # OpenTAD's `method`; 3, BMN's gaussian from a length's threshold on, is not ours


@small_and_all
def test_equals_opentad_and_actionformer(every):
    """Gaussian, linear and hard suppression per class or of all classes, and voting. Their sigma is twice ours."""
    cases = cases_of("opentad and actionformer", every)
    cases = [case for case in cases if case["cfg"].get("method", 2) in KINDS]
    assert len(cases) == (30 if every else 15)
    for case in cases:
        _compare_with_other_programs(case)


def _compare_with_other_programs(case):
    config = case["cfg"]
    segments, scores, classes = (np.array(case[key], np.float32) for key in ("segs", "scores", "cls"))
    settings = NMSConfig(
        config["max_seg_num"],
        KINDS[config.get("method", 2)] if config["use_soft_nms"] else "hard",
        config["sigma"] / 2,
        config["iou_threshold"],
        config["min_score"],
        voting_threshold=0.0,
        voting_by_overlap=False,
    )
    groups = [classes == c for c in np.unique(classes)] if config["multiclass"] else [classes == classes]
    for program, by_overlap in (("opentad", False), ("actionformer", True)):
        if program not in case:
            continue
        found = []
        for group in groups:
            kept, lowered, index = jax.device_get(jitted(segments[group], scores[group], settings))
            if config["voting_thresh"] and not config["multiclass"]:
                moved = vote(kept, segments, scores, config["voting_thresh"], by_overlap)
                kept = np.asarray(moved)
            real = lowered > 0
            found += zip(lowered[real], kept[real].tolist(), classes[group][index[real]])
        found = sorted(found, key=lambda row: -row[0])[: config["max_seg_num"]]
        expected_segments, expected_scores, expected_classes = case[program]
        assert len(found) == len(expected_scores)
        np.testing.assert_allclose([row[0] for row in found], expected_scores, rtol=2e-5, atol=1e-7)
        np.testing.assert_allclose([row[1] for row in found], expected_segments, rtol=1e-4, atol=2e-4)
        np.testing.assert_array_equal([row[2] for row in found], expected_classes)


def test_linear():
    """Candidates from the threshold on lose the share that they overlap."""
    segments = np.array([[0, 4], [1, 5], [3, 7], [8, 9]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    _, found, index = jitted(
        segments, scores, nms(4, nms="linear", nms_iou_threshold=0.3, score_threshold=0.0)
    )
    # [1, 5] overlaps [0, 4] by 3 / 5; [3, 7] overlaps it by 1 / 7, below the threshold, and [1, 5] by 2 / 6.
    np.testing.assert_array_equal(index, [0, 2, 3, 1])
    np.testing.assert_allclose(found, [0.9, 0.7, 0.6, 0.8 * (1 - 3 / 5) * (1 - 2 / 6)], rtol=1e-6)


def test_a_segment_without_votes_stays():
    found, nobody = np.array([[1, 3], [0, 0]], np.float32), np.array([[8, 9]], np.float32)
    moved = vote(found, nobody, np.ones(1, np.float32), 0.5, by_overlap=False)
    np.testing.assert_array_equal(moved, found)
