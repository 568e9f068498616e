"""`unloc evaluate --zeroshot-clip`: answers that are known, and the files of a checkpoint's evaluation."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.pretrained.clip_tools import clip_with_all_words
from tests.tasks.toy_task import Share
from unloc_jax.errors import UserError
from unloc_jax.evaluation.evaluate import evaluate
from unloc_jax.evaluation.zeroshot_predictor import ClipPredictor
from unloc_jax.inference.zeroshot import ZeroShotLocalizer
from unloc_jax.pretrained.clip_model import save_clip
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import TASKS

COLORS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}
FPS = 10
# (video, color, start, end) in seconds; everything else is grey.
SHOWN = {
    "a": [("red", 2.0, 5.0), ("blue", 8.0, 11.0)],
    "b": [("green", 1.0, 6.0)],
    "c": [("blue", 3.0, 6.0), ("green", 9.0, 13.0)],
}


class FakeEncoder:
    """A CLIP that sees nothing but colours, and perfectly."""

    source = name = label = "colours"
    logit_scale, image_size, most_pieces, hears = 100.0, 16, 6, False

    def __init__(self):
        self.texts = []

    def check_texts(self):
        """It can read them."""

    def sees(self, fps):
        return f"{fps:g} colours per second"

    def num_pieces(self, text):
        return len(text.split())

    def encode_streams(self, streams):
        yield from map(self.encode_stream, streams)

    def encode_stream(self, frames):
        return np.array([self._of_color(frame.mean((0, 1)), 1.0) for frame in frames], np.float32)

    def encode_texts(self, texts):
        self.texts += texts
        named = (next(COLORS[c] for c in COLORS if c in text) for text in texts)
        return np.array([self._of_color(np.array(color), 0.0) for color in named], np.float32)

    def _of_color(self, color, rest):
        """Colours are at right angles to each other, and to grey."""
        return [*np.where(color > color.mean() + 20, color, 0), rest]


def records(with_frames: bool) -> list[VideoRecord]:
    made = []
    for name, shown in SHOWN.items():
        pictures = []
        for k in range(15 * FPS if with_frames else 0):
            color = next((COLORS[c] for c, start, end in shown if start <= k / FPS < end), (90, 90, 90))
            stored = io.BytesIO()
            Image.new("RGB", (24, 16), color).save(stored, "JPEG", quality=95)
            pictures.append(stored.getvalue())
        segments = np.array([(start, end) for _, start, end in shown], np.float32)
        texts = [color for color, _, _ in shown]
        made.append(VideoRecord(name, 15.0, "test", segments, texts, [{}] * len(shown), FPS, pictures))
    return made


def predictor(classes=(), name="activitynet", encoder=None, **settings) -> ClipPredictor:
    metadata = SimpleNamespace(name=name, fps=FPS, short_side=16, classes=list(classes), fingerprint="")
    dataset = SimpleNamespace(
        metadata=metadata, splits=("test",), left_out={}, records=lambda split: records(False)
    )
    settings = {"smoothing_s": 0.25} | settings
    return ClipPredictor(
        encoder or FakeEncoder(), dataset, "DIR", lambda split: iter(records(True)), **settings
    )


def test_moments(tmp_path):
    metrics = evaluate(predictor(), "test", tmp_path)
    assert metrics["recall"]["model"]["R1@0.7"] == 100
    assert metrics["recall"]["another query of the same video"]["R1@0.3"] == 0
    assert metrics["clip"] == "colours" and metrics["zeroshot"]["fps"] == 2
    assert "control: another query of the same video" in str(metrics)
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [line["query"] for line in lines] == ["red", "blue", "green", "blue", "green"]
    for line in lines:
        (best, *_), (truth,) = line["pred_relevant_windows"], line["relevant_windows"]
        np.testing.assert_allclose(best[:2], truth, atol=0.5 / 2 + 1e-6)  # half the time between two frames
        assert "pred_levels" not in line  # there is no pyramid


@pytest.mark.parametrize("task", ["moment_retrieval", "highlight_detection"])
def test_evaluate_finds_what_zeroshot_shows(task):
    """Of sentences, to the last bit; the pictures are those of the shards."""
    found = predictor(task=task).predict("test", [["red", "blue"], ["green"], ["blue", "green", "red"]])
    localizer = ZeroShotLocalizer(FakeEncoder(), smoothing_s=0.25)
    for v, record in enumerate(records(True)):
        pictures = np.stack([np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in record.frames])
        shown = localizer(pictures, found.texts[v], fps=FPS)
        assert shown.stretched
        for i, text in enumerate(shown):
            np.testing.assert_array_equal(found.curves[v][i], text.relevance)
            real = found.scores[v][i] > 0
            rows = np.array([(s.start_s, s.end_s, s.score) for s in text.segments], np.float32).reshape(-1, 3)
            np.testing.assert_array_equal(found.segments_s[v][i][real], rows[:, :2])
            np.testing.assert_array_equal(found.scores[v][i][real], rows[:, 2])


def test_actions_are_found_where_they_are_likely(tmp_path):
    encoder = FakeEncoder()
    metrics = evaluate(predictor(COLORS, encoder=encoder), "test", tmp_path)
    assert metrics["mAP"]["mAP@0.70"] == 100
    assert encoder.texts == [f"a video of {color}." for color in COLORS]
    results = json.loads((tmp_path / "predictions.json").read_text())["results"]
    for name, shown in SHOWN.items():
        best = [row["label"] for row in results[name] if row["score"] > 0.5]
        assert sorted(best) == sorted(color for color, _, _ in shown)


def test_other_tasks(tmp_path):
    scores = evaluate(predictor(COLORS, "coin"), "test", tmp_path / "s")["metrics"]
    assert scores["frame_accuracy_without_background"] == 100 and 40 < scores["frame_accuracy"] < 60
    scores = evaluate(predictor(name="qvhighlights"), "test", tmp_path / "h")["metrics"]
    assert scores["mAP@0.50"] == 100 and scores["HIT@1"] == 100
    scores = evaluate(predictor(COLORS, task="classification"), "test", tmp_path / "c")["metrics"]
    assert scores["top1"] == pytest.approx(200 / 3)  # in c the first label is not the longest one


def test_a_task_that_the_project_does_not_know(tmp_path, monkeypatch):
    """Places a text in the video by its own rule; the file has its own lines."""
    monkeypatch.setitem(TASKS, Share.name, Share)
    metrics = evaluate(predictor(task="share"), "test", tmp_path)
    assert metrics["metrics"]["mean_error"] < 100 * 3 / 15  # the best frame is one of the segment's
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [list(row["shares"]) for row in rows] == [["red", "blue"], ["green"], ["blue", "green"]]


def test_what_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"3 classes of this dataset, such as 'blue', are none of the voc"):
        evaluate(predictor(COLORS, vocabulary=["pink", "grey"]), "test", tmp_path)
    with pytest.raises(UserError, match=r"write \{\} once"):
        predictor(prompts=["a video"])
    with pytest.raises(UserError, match="needs a dataset with classes"):
        predictor(task="temporal_action_localization")
    with pytest.raises(UserError, match="fps must be above 0"):
        predictor(fps=0.0)


@pytest.mark.slow
def test_the_command(unloc, captions_dataset, activities_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_clip(clip_with_all_words(), tmp_path / "clip")
    words = ("evaluate", "--zeroshot-clip=clip")
    told = unloc(*words, f"--dataset={captions_dataset}", "--out=out").ok().out
    assert "control: best constant segment" in told and "wrote out/metrics.json" in told
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert all(line["pred_relevant_windows"] for line in lines)
    unloc(*words, f"--dataset={activities_dataset}", "--fps=1", "--prompt=a {}", "--prompt={}").ok()
    metrics = json.loads((tmp_path / "zeroshot" / "activities" / "test" / "metrics.json").read_text())
    assert metrics["zeroshot"] == {"fps": 1.0, "smoothing_s": 1.0, "prompts": ["a {}", "{}"]}
    for wrong, error in {
        ("--checkpoint=x",): "not allowed with argument",
        (): "--dataset is needed",
        (f"--dataset={tmp_path}",): "no finished dataset here",
        (f"--dataset={captions_dataset}", "--task=x"): "--task=x: the tasks are",
        (f"--dataset={captions_dataset}", "--config.evaluation.nms=hard"): "belongs to --checkpoint",
    }.items():
        assert error in unloc(*words, *wrong).err
    assert "--fps belongs to --zeroshot-clip" in unloc("evaluate", "--checkpoint=x", "--fps=1").error()
