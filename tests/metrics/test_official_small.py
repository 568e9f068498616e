"""Every protocol and variant on small files of our own whose official scores are stored (tests/goldens/official)."""

import json

import numpy as np
import pytest

from tests.metrics.references import DETAD_NAMES, REPOSITORY
from unloc_jax.metrics.diagnosis.errors import find_errors
from unloc_jax.metrics.diagnosis.inputs import read_actions, read_moments
from unloc_jax.metrics.diagnosis.matches import match_best
from unloc_jax.metrics.diagnosis.moments import find_outcomes
from unloc_jax.metrics.protocols.activitynet import evaluate_activitynet
from unloc_jax.metrics.protocols.highlights import evaluate_tvsum, evaluate_youtube_highlights
from unloc_jax.metrics.protocols.moment_retrieval import evaluate_moment_retrieval
from unloc_jax.metrics.protocols.qvhighlights import evaluate_qvhighlights
from unloc_jax.metrics.protocols.segmentation import evaluate_segmentation
from unloc_jax.metrics.protocols.thumos14 import evaluate_thumos14

pytestmark = pytest.mark.filterwarnings("ignore::unloc_jax.metrics.checks.InputWarning")

FOLDER = REPOSITORY / "tests/goldens/official"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
ACTIONS = (FOLDER / "actions_truth.json", FOLDER / "actions_found.json")
MOMENTS = (FOLDER / "moments_truth.jsonl", FOLDER / "moments_found.jsonl")
SINGLE = (FOLDER / "single_moments_truth.jsonl", FOLDER / "single_moments_found.jsonl")
EXACT = {"rel": 1e-12, "abs": 1e-12}


def maps_of(found):
    return [value for name, value in found.items() if name.startswith("mAP@")]


def assert_as_actionformer(found, expected):
    """mAP and recall of the best n and 5n, counted without segments that are empty or there twice."""
    assert maps_of(found) == pytest.approx([100 * value for value in expected["mAP"]], **EXACT)
    assert found["average_mAP"] == pytest.approx(100 * expected["average_mAP"], **EXACT)
    for i, k in enumerate((1, 5)):
        recall = [
            value for name, value in found.items() if name.startswith("recall@") and name.endswith(f"@{k}")
        ]
        assert recall == pytest.approx([100 * both[i] for both in expected["recall"]], **EXACT)
    assert found["ground_truth_segments"] == expected["segments"]


def as_actionformer(expected):
    """OpenTAD's dict under ActionFormer's names."""
    maps = [value for name, value in expected.items() if name.startswith("mAP@")]
    return expected | {"mAP": maps}


def test_activitynet():
    found = evaluate_activitynet(*ACTIONS)
    expected = EXPECTED["actions"]["official"]
    assert maps_of(found) == pytest.approx([100 * value for value in expected["mAP"]], **EXACT)
    assert found["average_mAP"] == pytest.approx(100 * expected["average_mAP"], **EXACT)
    assert found["per_class_AP"].keys() == expected["per_class_AP"].keys()
    for label, values in expected["per_class_AP"].items():
        assert found["per_class_AP"][label] == pytest.approx([100 * value for value in values], **EXACT)
    # The files tell the variants apart: an empty segment that is hit, and one that is there twice.
    assert 0 < found["average_mAP"] < 100
    assert found["ground_truth_segments"] == EXPECTED["actions"]["opentad"]["segments"] + 2


@pytest.mark.parametrize("variant", ["opentad", "actionformer"])
def test_activitynet_as_others_count(variant):
    found = evaluate_activitynet(*ACTIONS, variant=variant)
    expected = EXPECTED["actions"][variant]
    assert_as_actionformer(found, as_actionformer(expected) if variant == "opentad" else expected)


def test_activitynet_proposals():
    found = evaluate_activitynet(*ACTIONS, proposals=True)
    assert {name: found[name] for name in EXPECTED["proposals"]} == pytest.approx(
        EXPECTED["proposals"], **EXACT
    )


def test_thumos14():
    found = evaluate_thumos14(*ACTIONS, subset="validation")
    expected = EXPECTED["thumos14"]["activitynet"]
    assert maps_of(found) == pytest.approx([100 * value for value in expected["mAP"]], **EXACT)
    assert found["average_mAP"] == pytest.approx(100 * expected["average_mAP"], **EXACT)


@pytest.mark.parametrize("variant", ["opentad", "actionformer"])
def test_thumos14_as_others_count(variant):
    found = evaluate_thumos14(*ACTIONS, subset="validation", variant=variant)
    expected = EXPECTED["thumos14"][variant]
    assert_as_actionformer(found, as_actionformer(expected) if variant == "opentad" else expected)


def test_thumos14_as_its_devkit():
    found = evaluate_thumos14(*ACTIONS, subset="validation", variant="devkit")
    assert found["ambiguous_regions"] > 0
    for i, (threshold, expected) in enumerate(EXPECTED["thumos14"]["devkit"].items()):
        assert found[f"mAP@{threshold}0"] == pytest.approx(100 * expected["mAP"], **EXACT)
        own = {label: values[i] for label, values in found["per_class_AP"].items()}
        assert own == pytest.approx({label: 100 * value for label, value in expected["AP"].items()}, **EXACT)


def test_detad():
    expected = EXPECTED["detad"]
    found = FOLDER / "actions_found_in_known_videos.json"
    actions = read_actions("activitynet", ACTIONS[0], found)
    matches = match_best(actions.truth, actions.found, len(actions.classes), 0.5)
    errors = find_errors(matches)
    assert len(matches.row) == expected["predictions"]
    assert np.nanmean(errors.ap_n) == pytest.approx(expected["average_mAP_N"], **EXACT)
    counts = np.bincount(errors.type, minlength=len(DETAD_NAMES)).tolist()
    assert dict(zip(DETAD_NAMES, counts)) == expected["fp_error_counts"]
    assert all(counts), "every type of error occurs"
    gains = dict(zip(DETAD_NAMES, errors.gain.tolist()))
    assert {name: gains[name] for name in expected["average_mAP_gain"]} == pytest.approx(
        expected["average_mAP_gain"], **EXACT
    )


def test_qvhighlights():
    assert evaluate_qvhighlights(*MOMENTS) == EXPECTED["qvhighlights"]
    outcomes = find_outcomes(read_moments(*MOMENTS), 0.5)
    for tiou in (0.5, 0.7):
        official = EXPECTED["qvhighlights"]["brief"][f"MR-full-R1@{tiou}"]
        assert round(100 * outcomes.recall(1, tiou).mean(), 2) == official


def test_moment_retrieval():
    found = evaluate_moment_retrieval(*SINGLE)
    for name, value in EXPECTED["moments"]["unloc"].items():
        assert found[name.replace("R@", "R").replace(",IOU=", "@")] == pytest.approx(100 * value, **EXACT)
    by_hull = evaluate_moment_retrieval(*SINGLE, variant="moment-detr")
    official = EXPECTED["moments"]["moment-detr"]
    for threshold in ("0.5", "0.7"):
        assert round(by_hull[f"R1@{threshold}"], 2) == official["MR-R1"][threshold]
    assert evaluate_qvhighlights(*SINGLE)["full"] == official
    after_nms = evaluate_moment_retrieval(*SINGLE, variant="2d-tan", nms=0.49)
    for threshold, both in zip((0.3, 0.5, 0.7), EXPECTED["moments"]["2d-tan"]):
        assert [after_nms[f"R{k}@{threshold}"] for k in (1, 5)] == pytest.approx(both, **EXACT)


def test_didemo():
    found = evaluate_moment_retrieval(FOLDER / "didemo_truth.json", FOLDER / "didemo_found.jsonl")
    expected = EXPECTED["didemo"]
    own = {"rank1": found["Rank@1"], "rank5": found["Rank@5"], "miou": found["DiDeMo mIoU"]}
    assert own == pytest.approx({name: 100 * value for name, value in expected.items()}, **EXACT)


@pytest.mark.parametrize(
    ("name", "evaluate"), [("tvsum", evaluate_tvsum), ("youtube", evaluate_youtube_highlights)]
)
def test_highlights(name, evaluate):
    found = evaluate(FOLDER / f"{name}_truth.jsonl", FOLDER / f"{name}_found.jsonl")
    official = EXPECTED["highlights"][name]
    assert {domain: round(value / 100, 5) for domain, value in found["per_domain"].items()} == pytest.approx(
        official, abs=1.1e-5
    )
    assert found["mAP"] == pytest.approx(100 * np.mean(list(official.values())), abs=1e-3)


@pytest.mark.parametrize("background", ["0", "none"])
@pytest.mark.parametrize("variant", ["tcn", "ms-tcn"])
def test_action_segmentation(variant, background):
    path = FOLDER / "frames.jsonl"
    found = evaluate_segmentation(path, path, variant=variant, background=background)
    expected = EXPECTED["segmentation"][f"{variant}, background {background}"]
    assert len(expected) == 5
    assert {name: found[name] for name in expected} == pytest.approx(expected, **EXACT)


def test_coin():
    path = FOLDER / "frames_scored.jsonl"
    found = evaluate_segmentation(path, path)
    assert found["accuracy"] == pytest.approx(100 * EXPECTED["coin"]["frame_accuracy"], **EXACT)
