"""Features of a vocabulary are kept with the checkpoint, and never those of another model."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from tests.tiny import random_params
from unloc_jax.errors import UserError
from unloc_jax.inference import vocabulary_cache
from unloc_jax.inference.loaded_model import load_model
from unloc_jax.inference.localizer import Localizer
from unloc_jax.inference.texts import read_texts
from unloc_jax.inference.vocabulary_cache import TextEncoder, vocabulary_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(trained_on_classes, tmp_path_factory):
    """Without the features that other tests may have left beside the run that they share."""
    left = shutil.ignore_patterns("vocabulary.*")
    return shutil.copytree(trained_on_classes, tmp_path_factory.mktemp("kept") / "run", ignore=left)


def encoder_that_counts(model):
    encoder, calls = TextEncoder(model), []
    encode = encoder._encode
    encoder._encode = lambda params, texts: calls.append(texts.shape) or encode(params, texts)
    return encoder, calls


def test_a_vocabulary_is_encoded_once(run):
    model = load_model(run)
    file, classes = vocabulary_file(model), model.task.evaluation_classes
    encoder, calls = encoder_that_counts(model)
    first = encoder(classes)
    assert file.is_file() and file.parent == model.step_dir and len(calls) == 1
    with safetensors.safe_open(file, framework="numpy") as opened:
        assert json.loads(opened.metadata()["classes"]) == list(classes)
    again, calls = encoder_that_counts(load_model(run))
    kept = again(classes)
    assert calls == []
    for x, y in zip((first.tokens, first.mask, first.sentence), (kept.tokens, kept.mask, kept.sentence)):
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype
    again(["a red circle"])
    assert len(calls) == 1 and file.stat().st_mtime_ns

    # Another model's: not read, but written anew.
    other = dataclasses.replace(model, params=random_params(model.task))
    encoder, calls = encoder_that_counts(other)
    assert np.abs(encoder(classes).sentence - first.sentence).max() > 1e-3 and len(calls) == 1
    encoder, calls = encoder_that_counts(other)
    encoder(classes)
    assert calls == []
    # So is a damaged one; and a directory that cannot be written is no reason to fail.
    file.write_bytes(file.read_bytes()[:100])
    encoder, calls = encoder_that_counts(model)
    np.testing.assert_array_equal(encoder(classes).sentence, first.sentence)
    gone = dataclasses.replace(model, step_dir=model.step_dir / "nowhere")
    np.testing.assert_array_equal(TextEncoder(gone)(classes).sentence, first.sentence)
    assert not [path for path in model.step_dir.iterdir() if path.name.startswith(".vocabulary")]


def test_a_damaged_file_is_never_used(run, tmp_path):
    """Bits flipped anywhere, other shapes and types: the features are encoded anew, or those that were written."""
    model = load_model(run)
    features = TextEncoder(model)(model.task.evaluation_classes)
    fingerprint = vocabulary_cache._fingerprint(model)
    file = tmp_path / "vocabulary.safetensors"
    vocabulary_cache._write(file, features, fingerprint, {})
    data = file.read_bytes()
    header = len(data) - sum(np.asarray(x, np.float32).nbytes for x in (features.tokens, features.sentence))
    rng, used = np.random.default_rng(0), 0
    places = [*rng.integers(8 * header, size=400), *rng.integers(8 * len(data), size=100)]
    for place, bit in (divmod(int(place), 8) for place in places):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
        kept = vocabulary_cache._read(file, fingerprint)
        if kept is not None:
            used += 1
            for name in ("tokens", "mask", "sentence"):
                np.testing.assert_array_equal(getattr(kept, name), getattr(features, name))
    assert used < 100  # most damage is noticed: little in the header means nothing
    other = dataclasses.replace(features, sentence=features.sentence[:, :1])
    arrays = {name: np.asarray(getattr(other, name)) for name in ("tokens", "mask", "sentence")}
    file.write_bytes(safetensors.numpy.save(arrays, {"fingerprint": fingerprint}))
    assert vocabulary_cache._read(file, fingerprint) is None


def test_many_texts_are_those_of_few(run, monkeypatch):
    model = load_model(run)
    texts = [f"text number {i}" for i in range(5)]
    whole = TextEncoder(model)(texts)
    monkeypatch.setattr(vocabulary_cache, "_AT_ONCE", 2)
    encoder, calls = encoder_that_counts(model)
    np.testing.assert_allclose(encoder(texts).sentence, whole.sentence, rtol=1e-5, atol=1e-5)
    assert [shape[1] for shape in calls] == [2, 2, 2]


def test_evaluate_and_predict_take_it(run, tiny_videos, tmp_path, unloc):
    model = load_model(run)
    file = vocabulary_file(model)
    file.unlink(missing_ok=True)
    before = unloc("evaluate", f"--checkpoint={run}", f"--out={tmp_path / 'a'}").ok()
    assert file.is_file()
    written = file.stat().st_mtime_ns
    again = unloc("evaluate", f"--checkpoint={run}", f"--out={tmp_path / 'b'}").ok()
    assert file.stat().st_mtime_ns == written
    table = lambda ran: [line for line in ran.out.splitlines() if "mAP (%)" in line]
    assert table(again) == table(before) and len(table(again)) == 2
    assert (tmp_path / "a" / "predictions.json").read_text() == (
        tmp_path / "b" / "predictions.json"
    ).read_text()

    video = tiny_videos / "videos" / "test_00000.mp4"
    by_default = unloc("predict", f"--checkpoint={run}", f"--video={video}").ok()
    assert all(name in by_default.out for name in model.task.classes)
    # The same classes in another order, from a file: the same numbers in another order.
    names = tmp_path / "names.txt"
    names.write_text("\n".join(reversed(model.task.classes)) + "\n")
    other = unloc("predict", f"--checkpoint={run}", f"--video={video}", f"--vocabulary={names}").ok()
    assert sorted(other.out.splitlines()[2:]) == sorted(by_default.out.splitlines()[2:])
    assert other.out != by_default.out
    new = unloc("evaluate", f"--checkpoint={run}", f"--vocabulary={names}").ok()
    assert table(new) == table(before)
    assert (run / "evaluation" / "test_names" / "metrics.json").is_file()
    names.write_text("a cat\n")
    refused = unloc("evaluate", f"--checkpoint={run}", f"--vocabulary={names}").error()
    assert "are none of the vocabulary's 1 classes" in refused
    assert file.stat().st_mtime_ns == written
    assert len(Localizer(model)(video)) == len(model.task.classes)


def test_a_file_of_texts(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("pole vault\n  long jump \n")
    assert read_texts(file) == ["pole vault", "long jump"]
    for content, told in {
        "": "is empty: write one text per line",
        "a\n\nb\n": "line 2 is empty",
        "a\nb\n...\n": r"line 3 has no words: '\.\.\.'",
        "a\nb\na \n": "line 3 repeats line 1: 'a'",
        "\xff\xfe": "it is not UTF-8 text",
    }.items():
        file.write_bytes(content.encode("latin-1"))
        with pytest.raises(UserError, match=told):
            read_texts(file)
    with pytest.raises(UserError, match=r"cannot be read: No such file"):
        read_texts(tmp_path / "nothing.txt")
