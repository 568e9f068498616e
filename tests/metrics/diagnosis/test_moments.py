"""The kinds of error of a query's first window, by hand."""

import numpy as np
import pytest

from tests.metrics.references import ANNOTATIONS, ORACLES, load_json, needs_oracles
from unloc_jax.metrics.diagnosis.inputs import Moments, read_moments
from unloc_jax.metrics.diagnosis.moments import OUTCOMES, find_outcomes, moment_bins

# Windows of a query with its moment(s); all in videos of 100 s.
CASES = [
    ("hit", "a", [[0, 10]], [[0, 10]]),
    ("no prediction", "b", [[0, 10]], []),
    ("another query's moment", "a", [[50, 60]], [[0, 9], [50, 60]]),
    ("too long", "c", [[0, 10]], [[0, 30]]),
    ("too short", "d", [[0, 30]], [[0, 10], [0, 30]]),
    ("shifted", "e", [[0, 10]], [[6, 16]]),
    ("background", "f", [[0, 10]], [[9, 30]]),
    ("hit", "g", [[0, 10], [50, 60]], [[51, 60]]),
    ("background", "h", [[0, 20]], [[30, 20]]),
    ("background", "i", [[0, 10]], [[50, 60]]),
    ("hit", "i", [[50, 60]], [[50, 60]]),  # the query before is the same sentence: nobody is confused
]
MOMENTS = Moments(
    texts=[f"query {i if video != 'i' else 'i'}" for i, (_, video, _, _) in enumerate(CASES)],
    videos=[video for _, video, _, _ in CASES],
    truth_s=[np.array(truth, float) for _, _, truth, _ in CASES],
    windows=[np.array([[*w, 0.5] for w in windows]).reshape(-1, 3) for *_, windows in CASES],
    duration_s=np.array([100.0] * 9 + [25.0] * 2),
    level=None,
)


def test_outcomes():
    outcomes = find_outcomes(MOMENTS, 0.5)
    assert [OUTCOMES[i] for i in outcomes.outcome] == [name for name, *_ in CASES]
    assert outcomes.other[2] == 0
    assert (outcomes.other >= 0).sum() == 1
    assert outcomes.recall(1).sum() == 3
    assert outcomes.recall(5).sum() == 5, "two are found by their second window"
    assert outcomes.recall(1, 0.95).tolist() == [True] + [False] * 9 + [True]
    assert outcomes.nearest_s[7].tolist() == [50, 60]


def test_characteristics_of_several_windows():
    length, coverage, count, position = moment_bins(MOMENTS, "moment-retrieval")
    assert length.labels[length.index[7]] == "5–10 s", "mean length"
    assert coverage.labels[coverage.index[7]] == "5–20 %", "20 of 100 s together"
    assert count.labels[count.index[7]] == "2"
    assert position.labels[position.index[7]] == "20–40 %", "centre at 30 s"


@needs_oracles
def test_official_recall():
    """The numbers that bins and misses add up to are the official ones."""
    qvh = find_outcomes(
        read_moments(
            ANNOTATIONS / "qvhighlights_val_release.jsonl", ORACLES / "qvh_momentdetr_sample/pred.jsonl"
        ),
        0.5,
    )
    official = load_json("qvh_momentdetr_sample/expected_rerun.json")["brief"]
    for tiou in (0.5, 0.7):
        assert round(100 * qvh.recall(1, tiou).mean(), 2) == official[f"MR-full-R1@{tiou}"]
    folder = ORACLES / "charades_sta_synth"
    charades = find_outcomes(read_moments(folder / "gt.jsonl", folder / "pred.jsonl"), 0.5)
    official = load_json("charades_sta_synth/expected.json")["unloc_scenic_R@k"]
    for k in (1, 5):
        for tiou in (0.3, 0.5, 0.7):
            assert charades.recall(k, tiou).mean() == pytest.approx(official[f"R@{k},IOU={tiou}"], rel=1e-12)
