"""Every protocol on prediction files whose official scores are known, to the digits they are stored with."""

import numpy as np
import pytest

from tests.metrics.references import (
    ANNOTATIONS,
    ORACLES,
    load_json,
    needs_oracles,
    needs_the_oracles_processor,
)
from unloc_jax.metrics.checks import InputWarning
from unloc_jax.metrics.protocols.activitynet import evaluate_activitynet
from unloc_jax.metrics.protocols.moment_retrieval import evaluate_moment_retrieval
from unloc_jax.metrics.protocols.qvhighlights import evaluate_qvhighlights
from unloc_jax.metrics.protocols.segmentation import evaluate_segmentation
from unloc_jax.metrics.protocols.thumos14 import evaluate_thumos14

pytestmark = [needs_oracles, pytest.mark.filterwarnings("ignore::unloc_jax.metrics.checks.InputWarning")]

ANET = (ORACLES / "_shared/activitynet13_val_gt.json", ORACLES / "anet13_synth_fused/pred.json")
BLOCKED = ORACLES / "_shared/activitynet13_val_blocked_198.json"
THUMOS14 = (ORACLES / "thumos14_scnn/gt_with_ambiguous.json", ORACLES / "thumos14_scnn/pred_nms0.4.json")
CHARADES = (ORACLES / "charades_sta_synth/gt.jsonl", ORACLES / "charades_sta_synth/pred.jsonl")
COIN = (ORACLES / "coin_frame_accuracy_synth/pred_gt.json",) * 2
EXACT = {"rel": 1e-13, "abs": 1e-13}


def assert_maps(found, expected):
    """Of `expected`, shares of 1: {"average_mAP": …, "mAP": {"0.50": …}} or {"mAP@0.5": …, "recall@0.5@1": …}."""
    expected = expected | {f"mAP@{t}": value for t, value in expected.get("mAP", {}).items()}
    expected |= {
        f"recall@{t}@{k}": value
        for t, both in expected.get("recall_top1x_5x", {}).items()
        for k, value in zip((1, 5), both)
    }
    names = [name for name in expected if "@" in name or name == "average_mAP"]
    assert len(names) >= 6
    for name in names:
        kind, *numbers = name.split("@")
        ours = "@".join([kind, *[f"{float(numbers[0]):.2f}", *numbers[1:]]] if numbers else [kind])
        assert found[ours] == pytest.approx(100 * expected[name], **EXACT), name


def test_activitynet():
    found = evaluate_activitynet(*ANET)
    expected = load_json("anet13_synth_fused/expected.json")["activitynet_official"]
    assert_maps(found, expected)
    assert found["per_class_AP"].keys() == expected["per_class_AP"].keys()
    for label, values in expected["per_class_AP"].items():
        np.testing.assert_allclose(found["per_class_AP"][label], 100 * np.array(values), 1e-13, 1e-13)
    assert (found["videos"], found["ground_truth_segments"], found["predictions"]) == (4926, 7654, 29569)


@pytest.mark.parametrize(
    ("variant", "blocked", "name"),
    [
        ("opentad", None, "opentad_full"),
        ("opentad", BLOCKED, "opentad_blocked"),
        ("actionformer", None, "actionformer"),
    ],
)
def test_activitynet_as_others_count(variant, blocked, name):
    found = evaluate_activitynet(*ANET, variant=variant, blocked_videos=blocked)
    expected = load_json("anet13_synth_fused/expected.json")[name]
    assert_maps(found, expected)
    for ours, theirs in (("ground_truth_segments", "n_gt"), ("predictions", "n_pred")):
        assert found[ours] == expected.get(theirs, found[ours])


def test_activitynet_proposals():
    # No oracle holds these: what eval_proposal.py of activitynet/ActivityNet (in Python 3) prints for these files.
    found = evaluate_activitynet(*ANET, proposals=True)
    expected = {
        "AUC": 64.98014763522342,
        "AR@1": 16.785994251371832,
        "AR@5": 65.00914554481317,
        "AR@10": 66.35354063234911,
        "AR@100": 66.35354063234911,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, **EXACT)


@needs_the_oracles_processor
@pytest.mark.parametrize(
    ("variant", "name"),
    [("activitynet", "activitynet_official"), ("opentad", "opentad"), ("actionformer", "actionformer")],
)
def test_thumos14(variant, name):
    assert_maps(
        evaluate_thumos14(*THUMOS14, variant=variant),
        load_json("thumos14_scnn/expected_all_evaluators_nms0.4.json")[name],
    )


def test_thumos14_as_its_devkit():
    found = evaluate_thumos14(*THUMOS14, variant="devkit")
    for threshold, value in load_json("thumos14_scnn/expected_all_evaluators_nms0.4.json")[
        "th14_port"
    ].items():
        assert found[f"mAP@{threshold}0"] == pytest.approx(100 * value, **EXACT)
    # MATLAB's own run took another NMS threshold at each tIoU; at 0.5 it was that of the file.
    matlab = load_json("thumos14_scnn/expected_th14_matlab.json")["0.5"]
    assert found["mAP@0.50"] == pytest.approx(100 * matlab["matlab_stored_mAP"], **EXACT)
    at = found["tiou_thresholds"].index(0.5)
    assert {label: values[at] for label, values in found["per_class_AP"].items()} == pytest.approx(
        {label: 100 * value for label, value in matlab["matlab_AP"].items()}, **EXACT
    )


def test_charades_sta():
    expected = load_json("charades_sta_synth/expected.json")
    found = evaluate_moment_retrieval(*CHARADES)
    for name, value in expected["unloc_scenic_R@k"].items():
        assert found[name.replace("R@", "R").replace(",IOU=", "@")] == pytest.approx(100 * value, **EXACT)
    assert found["mIoU"] == pytest.approx(expected["mIoU_top1"], **EXACT)

    by_hull = evaluate_moment_retrieval(*CHARADES, variant="moment-detr")
    rounded = {threshold: round(by_hull[f"R1@{threshold}"], 2) for threshold in expected["moment_detr_R1"]}
    assert rounded == expected["moment_detr_R1"]
    # Its average precisions are QVHighlights'.
    assert evaluate_qvhighlights(*CHARADES)["full"]["MR-mAP"] == expected["moment_detr_mAP"]

    after_nms = evaluate_moment_retrieval(*CHARADES, variant="2d-tan", nms=0.49)
    for threshold, both in zip((0.3, 0.5, 0.7), expected["2dtan_with_nms0.49_strict_gt"]["recall@1,5"]):
        assert [after_nms[f"R{k}@{threshold}"] for k in (1, 5)] == pytest.approx(both, **EXACT)


def test_charades_sta_from_its_own_file():
    """Its queries have no qid and are found by their text; sentences that occur twice in a video too."""
    found = evaluate_moment_retrieval(ANNOTATIONS / "charades_sta_test.txt", CHARADES[1])
    assert found["queries"] == found["predicted_queries"] == 3720
    # 562 of its segments end after the video; the other file has them cut there.
    assert found["R1@0.5"] == pytest.approx(evaluate_moment_retrieval(*CHARADES)["R1@0.5"], abs=0.5)


@pytest.mark.parametrize("expected", ["expected_rerun.json", "expected_shipped.json"])
def test_qvhighlights(expected):
    found = evaluate_qvhighlights(
        ANNOTATIONS / "qvhighlights_val_release.jsonl", ORACLES / "qvh_momentdetr_sample" / "pred.jsonl"
    )
    assert found == load_json(f"qvh_momentdetr_sample/{expected}")


@pytest.mark.parametrize(
    "name",
    [
        "50Salads_eval/eval_video_SVM",
        "50Salads_mid/mid_video_ED-TCN_L2_C15",
        "GTEA/video_SVM",
        "GTEA/video_tCNN_C30",
        "JIGSAWS/sensors_ED-TCN_L2_C15",
    ],
)
def test_action_segmentation(name):
    path = ORACLES / "actionseg" / f"{name.replace('/', '__')}.json"
    expected = load_json("actionseg/expected.json")[name]
    background = "none" if expected["bg_class"] is None else str(expected["bg_class"])
    for variant, label, key in (
        ("tcn", background, "tcn_metrics"),
        ("ms-tcn", background, "mstcn_bg_excluded"),
        ("ms-tcn", "none", "mstcn_no_bg"),
    ):
        found = evaluate_segmentation(path, path, variant=variant, background=label)
        theirs = {
            name.replace("F1@0.", "F1@")
            .replace("acc", "accuracy")
            .replace("accuracyuracy", "accuracy"): value
            for name, value in expected[key].items()
        }
        assert len(theirs) == 5
        assert {name: found[name] for name in theirs} == pytest.approx(theirs, **EXACT)


def test_coin():
    expected = load_json("coin_frame_accuracy_synth/expected.json")
    pooled, per_video = (evaluate_segmentation(*COIN, variant=variant) for variant in ("ms-tcn", "tcn"))
    assert pooled["accuracy"] == pytest.approx(100 * expected["unloc_frame_accuracy"], **EXACT)
    assert pooled["accuracy_without_background"] == pytest.approx(100 * expected["fg_only_acc"], **EXACT)
    assert per_video["accuracy"] == pytest.approx(100 * expected["mean_per_video_acc"], **EXACT)
    assert (pooled["videos"], pooled["frames"]) == (expected["n_videos"], expected["n_frames"])


def test_warns_of_what_is_odd_in_them():
    with pytest.warns(InputWarning) as caught:
        evaluate_activitynet(*ANET)
    messages = [str(warning.message) for warning in caught]
    assert [message.split(": ")[0] for message in messages] == [
        "5 of 29569 predictions have no length",
        "1 of 29569 predictions are reversed, start after end; first",
        "1195 of 29569 predictions share their score with another one of their class",
    ]
