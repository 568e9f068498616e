"""From a checkpoint and a video file to segments: what `unloc predict` does."""

import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import pytest

from data_pipelines.reading.dataset import ShardedDataset
from tests.tiny import random_params
from tests.tiny_runs import FPS, run_child
from unloc_jax.errors import UserError
from unloc_jax.inference.loaded_model import LoadedModel, load_model
from unloc_jax.inference.localizer import Localizer

pytestmark = pytest.mark.slow

SENTENCES = ["a red circle moves to the left", "the blue square", "a dog barks"]


@pytest.fixture(scope="module")
def model(trained) -> LoadedModel:
    return load_model(trained)


@pytest.fixture(scope="module")
def localizer(model) -> Localizer:
    return Localizer(model)


def _video(tiny_videos, number=0):
    return tiny_videos / "videos" / f"test_{number:05d}.mp4"


def _with_data(config, dataset):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, dir=str(dataset)))


def test_a_file_gives_what_the_shards_give(model, tiny_videos, captions_dataset):
    """The same video from the mp4 and from its shard: same times, and scores that differ by JPEG alone."""
    # The output of a model of 10 steps hardly depends on the video: a random one's does.
    model = dataclasses.replace(model, params=random_params(model.task))
    localizer, detect = Localizer(model), jax.jit(model.task.detect)
    dataset = ShardedDataset(_with_data(model.task.config, captions_dataset))
    (batch,) = dataset.evaluation_batches("test")
    tokens = np.tile(model.task.encoding(SENTENCES), (4, 1, 1, 1))
    output = jax.device_get(detect(model.params, batch, tokens))
    detections, curves = output.detections, output.curve
    for row, record in enumerate(dataset.records("test")):
        prediction = localizer(tiny_videos / "videos" / f"{record.video_id}.mp4", SENTENCES)
        assert prediction.duration_s == pytest.approx(record.duration_s, abs=1 / FPS)
        assert [text.text for text in prediction.texts] == SENTENCES
        curve = np.stack([text.relevance for text in prediction.texts])
        assert np.abs(curve - curves[row]).max() < 0.05
        assert np.abs(curve - curves).mean((1, 2)).argmin() == row  # and no other video's shard is as near
        times_s = np.linspace(*batch.span_s[row], curve.shape[1])
        for i, text in enumerate(prediction.texts):
            np.testing.assert_allclose(text.relevance_times_s, times_s, rtol=1e-6)
            best = text.segments[0]
            assert best.score == pytest.approx(detections.scores[row, i, 0], abs=0.05)
            # Near ties may swap: the best segment is among the shard's first ones.
            distance = np.abs(detections.segments_s[row, i, :3] - [best.start_s, best.end_s]).max(-1)
            assert distance.min() < 0.5


def test_frames_of_a_file_are_those_of_the_shard(model, tiny_videos, captions_dataset):
    dataset = ShardedDataset(_with_data(model.task.config, captions_dataset))
    (batch,) = dataset.evaluation_batches("test")
    localizer, seen = Localizer(model), []
    encode = localizer._encode_videos
    localizer._encode_videos = lambda params, batch: seen.append(batch) or encode(params, batch)
    for row, record in enumerate(dataset.records("test")):
        localizer(tiny_videos / "videos" / f"{record.video_id}.mp4", SENTENCES)
        np.testing.assert_allclose(seen[row].span_s[0], batch.span_s[row], rtol=1e-6)
        frames, stored = np.asarray(seen[row].frames[0], int), np.asarray(batch.frames[row], int)
        jpeg = np.abs(frames - stored).mean()
        assert jpeg < 6
        assert jpeg < np.abs(frames[1:] - stored[:-1]).mean() / 2  # the next frame is another one


def test_what_a_prediction_holds(localizer, model, tiny_videos):
    sentence = " ".join(model.metadata.words[:3])
    prediction = localizer(_video(tiny_videos), [sentence, "A dog barks, twice"])
    for text in prediction.texts:
        assert text.segments
        for segment in text.segments:
            assert 0 <= segment.start_s <= segment.end_s <= prediction.duration_s
            assert 0 < segment.score <= 1
        assert text.relevance.shape == (8,)
    assert [text.unknown_words for text in prediction.texts] == [[], ["dog", "barks", "twice"]]


def test_texts_do_not_depend_on_each_other(localizer, tiny_videos):
    together = localizer(_video(tiny_videos), SENTENCES)
    alone = localizer(_video(tiny_videos), SENTENCES[1:2])
    np.testing.assert_allclose(alone.texts[0].relevance, together.texts[1].relevance, atol=1e-5)


def test_texts_that_cannot_be_searched(localizer, tiny_videos):
    with pytest.raises(UserError, match="nothing to look for: give at least one text"):
        localizer(_video(tiny_videos), [])
    for empty in ("", "  ", "...!"):
        with pytest.raises(UserError, match=f"text 2 of 2 has no words: {re.escape(repr(empty))}"):
            localizer(_video(tiny_videos), ["a circle", empty])


def test_a_vocabulary_is_searched_unless_other_texts_are_given(trained_on_classes, tiny_videos):
    model = load_model(trained_on_classes)
    localizer = Localizer(model)
    classes = localizer(_video(tiny_videos), [])
    assert [text.text for text in classes.texts] == list(model.task.classes)
    sentence = localizer(_video(tiny_videos), ["a red circle"])
    assert [text.text for text in sentence.texts] == ["a red circle"]


def test_predict_needs_the_checkpoint_alone(trained, tiny_videos, tmp_path, unloc):
    """The dataset is gone (see the fixture), and so is everything else of the run but one step's directory."""
    step = shutil.copytree(trained / "checkpoints" / "10", tmp_path / "10")
    page, data = tmp_path / "report.html", tmp_path / "result.json"
    words = ["predict", f"--checkpoint={step}", f"--video={_video(tiny_videos)}", "--top-k=2"]
    ran = unloc(*words, *(f"--text={text}" for text in SENTENCES), f"--out={page}", f"--out={data}").ok()
    assert ran.err == ""
    for text in SENTENCES:
        assert text in ran.out and text in page.read_text()
    assert "dog, barks  in: a dog barks" in ran.out
    assert ran.out.splitlines()[-2:] == [f"wrote {page}", f"wrote {data}"]
    content = json.loads(data.read_text())
    assert [text["text"] for text in content["texts"]] == SENTENCES
    best = content["texts"][0]["segments"][0]
    shown = next(line for line in ran.out.splitlines() if line.startswith(SENTENCES[0]))
    assert f"{best['start_s']:.2f} – {best['end_s']:.2f}" in shown
    assert shown.split()[-1] == f"{best['score']:.3f}"
    assert "<video" in page.read_text() and "data:video/mp4;base64," in page.read_text()
    # In another process, with other devices: the same numbers, except for the last bits.
    elsewhere = tmp_path / "elsewhere.json"
    child = run_child(*words, *(f"--text={text}" for text in SENTENCES), f"--out={elsewhere}", devices=8).ok()
    assert child.err == ""
    assert child.out.splitlines()[-1] == f"wrote {elsewhere}"
    assert len(child.out.splitlines()) == len(ran.out.splitlines()) - 1
    for here, there in zip(content["texts"], json.loads(elsewhere.read_text())["texts"], strict=True):
        assert len(here["segments"]) == len(there["segments"])
        for a, b in zip(here["segments"][:2], there["segments"]):
            assert a == pytest.approx(b, abs=1e-4)


def test_a_prediction_says_what_evaluation_measured(trained, captions_dataset, tiny_videos, tmp_path, unloc):
    run = shutil.copytree(trained, tmp_path / "run")
    assert not [key for key in Localizer(load_model(run)).describe() if "right" in key]
    unloc("evaluate", f"--checkpoint={run}", f"--data-dir={captions_dataset}").ok()
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    details = Localizer(load_model(run)).describe()
    right = round(metrics["recall"]["model"]["R1@0.5"])
    assert details["best segment right (IoU ≥ 0.5)"] == f"{right} % of test queries"
    # Another checkpoint of the run was not measured.
    assert not [key for key in Localizer(load_model(run / "checkpoints" / "5")).describe() if "right" in key]
