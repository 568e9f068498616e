"""Another program's video classifier: its file, and what it does to detections."""

import json

import numpy as np
import pytest

from tests.tiny_runs import COUNTS
from unloc_jax.errors import UserError
from unloc_jax.evaluation.classifier_scores import multiplied, read_classifier_scores
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import SplitPredictions

CLASSES = ["run", "jump", "throw"]
RECORDS = [VideoRecord(name, 9.0, "test", np.zeros((0, 2)), [], []) for name in ("v_a", "b", "c")]


def _write(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("form", ["cuhk", "names"])
def test_both_forms(form, tmp_path, capsys):
    by_name = {"a": {"jump": 0.5, "run": 0.25, "swim": 1}, "b": {"jump": 0, "run": 1, "swim": 0}}
    names = ["jump", "run", "swim"]
    cuhk = {"class": names, "results": {video: [of[name] for name in names] for video, of in by_name.items()}}
    scores = read_classifier_scores(
        _write(tmp_path / "scores.json", cuhk if form == "cuhk" else by_name), RECORDS, CLASSES
    )
    np.testing.assert_array_equal(scores, [[0.25, 0.5, 0], [1, 0, 0], [1, 1, 1]])
    notes = capsys.readouterr().err
    assert "no scores for 1 of 3 videos, such as c" in notes
    assert "1 classes of scores.json, such as 'swim', are none of the model's" in notes
    found = SplitPredictions([CLASSES] * 3, scores=[np.full((3, 4), 0.5, np.float32)] * 3)
    np.testing.assert_array_equal(multiplied(found, scores).scores[0][:, 0], [0.125, 0.25, 0])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1], "must be"),
        ({"a": [1, 2, 3]}, "must be"),
        ({"class": CLASSES, "results": {"b": [1, 2]}}, "b must have 3 scores"),
        ({"b": {"run": "high"}}, "b, 'run': 'high' is not a score"),
        ({"b": {"run": -1}}, "b, 'run': -1 is not a score"),
        ({"other": {"run": 1}}, "none of the videos"),
        ({"b": {"swim": 1}}, "none of the classes"),
    ],
)
def test_other_files_are_refused(content, told, tmp_path):
    with pytest.raises(UserError, match=told):
        read_classifier_scores(_write(tmp_path / "scores.json", content), RECORDS, CLASSES)


@pytest.mark.slow
def test_evaluate_multiplies(trained_on_classes, trained, tmp_path, unloc):
    """A classifier that knows one class leaves no detection of another."""
    names = [f"test_{i:05d}" for i in range(COUNTS["test"])]
    plain = tmp_path / "plain"
    unloc("evaluate", f"--checkpoint={trained_on_classes}", f"--out={plain}").ok()
    detections = json.loads((plain / "predictions.json").read_text())["results"]
    label = detections[names[0]][0]["label"]
    scores = _write(tmp_path / "scores.json", {name: {label: 0.5} for name in names})
    words = ("evaluate", f"--checkpoint={trained_on_classes}", f"--out={tmp_path / 'fused'}")
    unloc(*words, f"--classifier-scores={scores}").ok()
    fused = json.loads((tmp_path / "fused" / "predictions.json").read_text())["results"]
    assert {row["label"] for rows in fused.values() for row in rows} == {label}
    ours = sorted(row["score"] for row in fused[names[0]])[-1]
    assert ours == pytest.approx(detections[names[0]][0]["score"] / 2, abs=2e-5)
    other = unloc("evaluate", f"--checkpoint={trained}", f"--classifier-scores={scores}").error()
    assert "temporal_action_localization" in other or "dataset" in other
