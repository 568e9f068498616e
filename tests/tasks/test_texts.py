"""Texts → what the model reads: prompts and tokens, or vectors from a file."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.tiny import CLASSES, random_batch, random_params, tiny_config, tiny_metadata, tiny_task
from unloc_jax.errors import UserError
from unloc_jax.model.unloc import UnLoc
from unloc_jax.tasks import make_task
from unloc_jax.tasks.texts import TextEncoding, text_encoding
from unloc_jax.text import tokenize

PROMPTS = ("{}", "a {} in a video", "do {}")
TEXTS = ["jump high", "run"]


def test_every_text_in_every_prompt():
    encoding = text_encoding(tiny_config(data={"prompts": PROMPTS}))
    found = encoding(TEXTS)
    assert found.shape == (2, 3, 8) and found.dtype == np.int32
    np.testing.assert_array_equal(found[1], tokenize(["run", "a run in a video", "do run"], 8))
    np.testing.assert_array_equal(found[0, 1], tokenize(["a jump high in a video"], 8)[0])
    assert encoding([]).shape == (0, 3, 8)
    assert encoding.padding().shape == (3, 8) and not encoding.padding().any()


def test_a_text_with_braces_is_not_a_template():
    found = text_encoding(tiny_config(data={"prompts": ("see {}",)}))(["{} and {0}"])
    np.testing.assert_array_equal(found[:, 0], tokenize(["see {} and {0}"], 8))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "embeddings.npz"
    np.savez(path, texts=["run", "walk", "jump high"], embeddings=np.arange(12.0).reshape(3, 4))
    return str(path)


def test_embeddings_are_looked_up(file):
    encoding = TextEncoding(PROMPTS, 8, file, 4)
    found = encoding(TEXTS)
    assert found.shape == (2, 1, 4) and found.dtype == np.float32  # there are no prompts around vectors
    np.testing.assert_array_equal(found[:, 0], [[8, 9, 10, 11], [0, 1, 2, 3]])
    assert encoding([]).shape == (0, 1, 4)
    assert encoding.padding().shape == (1, 4) and encoding.padding().dtype == np.float32


def test_embeddings_that_are_missing_or_of_another_width(file):
    with pytest.raises(
        UserError, match=r"embeddings.npz has no embedding of 'swim' \(1 of 2 texts are missing\)"
    ):
        TextEncoding(("{}",), 8, file, 4)(["run", "swim"])
    with pytest.raises(UserError, match=r"embeddings of 4 numbers, config\.model\.text\.width is 16"):
        TextEncoding(("{}",), 8, file, 16)(["run"])


FILES = {
    "missing": lambda path: None,
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("no array"),
    "cut": lambda path: path.write_bytes(b"PK\3\4" + bytes(90)),
    "one array": lambda path: np.save(path.open("wb"), np.ones((1, 4))),
    "no texts": lambda path: np.savez(path, embeddings=np.ones((1, 4))),
    "objects": lambda path: np.savez(path, texts=np.array(["a"], object), embeddings=np.ones((1, 4))),
}  # fmt: skip


@pytest.mark.parametrize("fault", FILES)
def test_files_that_cannot_be_read(tmp_path, fault):
    path = tmp_path / f"{fault.replace(' ', '_')}.npz"
    FILES[fault](path)
    with pytest.raises(UserError, match=r"embeddings_file = '.*' cannot be read: .*an \.npz with `texts`"):
        TextEncoding(("{}",), 8, str(path), 4)(["a"])


def test_a_config_says_which(file):
    embeddings = lambda name: tiny_config(
        "temporal_action_localization",
        model={"text": {"encoder": "embeddings", "width": 4, "num_heads": 1, "embeddings_file": name}},
    )
    assert text_encoding(embeddings(file)) == TextEncoding(("{}",), 8, file, 4)
    with pytest.raises(UserError, match=r"config\.model\.text\.embeddings_file: give the file"):
        text_encoding(embeddings(""))
    # A file that no encoder asks for is not read.
    assert text_encoding(tiny_config(model={"text": {"embeddings_file": file}})).embeddings_file == ""


def test_training_draws_a_prompt(moment_retrieval):
    """One for all classes of a step, by the step's generator alone."""
    task, params = tiny_task("temporal_action_localization", data={"prompts": PROMPTS}), moment_retrieval[1]
    batch = random_batch(task.config)
    features = jax.jit(lambda rng: task.vocabulary_features(params, batch, rng).sentence)
    encode = lambda tokens: task.model.apply({"params": params}, tokens, method=UnLoc.encode_text).sentence
    of_each = np.asarray(jax.jit(encode)(np.moveaxis(task.encoding(CLASSES), 1, 0)))  # [3, C, D]
    drawn = []
    for key in range(12):
        found = np.asarray(features(jax.random.key(key)))
        np.testing.assert_array_equal(found, features(jax.random.key(key)))
        drawn.append(int(abs(of_each - found).max((1, 2)).argmin()))
        np.testing.assert_allclose(found[0], of_each[drawn[-1]], rtol=1e-3, atol=1e-4)
    assert set(drawn) == {0, 1, 2}


@pytest.mark.parametrize("name", ["classification", "action_segmentation", "temporal_action_localization"])
def test_evaluation_averages_what_is_said_about_each_prompt(name):
    task = tiny_task(name, data={"prompts": PROMPTS})
    params, batch, texts = random_params(task), random_batch(task.config), task.encoding(CLASSES)[None]
    detect = jax.jit(lambda texts: task.detect(params, batch, texts))
    found, *of_each = jax.device_get([detect(x) for x in (texts, *np.split(texts, 3, axis=2))])
    if name == "classification":
        expected = np.mean([x.video_scores for x in of_each], axis=0)
        np.testing.assert_allclose(found.video_scores, expected, rtol=1e-4, atol=1e-5)
        return
    logits = [np.log(x.curve / (1 - x.curve)) for x in (found, *of_each)]
    if name == "action_segmentation":
        np.testing.assert_allclose(logits[0], np.mean(logits[1:], axis=0), rtol=1e-3, atol=1e-4)
    else:  # the highest mean of a point is no higher than the mean of the highest
        assert (logits[0] <= np.mean(logits[1:], axis=0) + 1e-4).all()
        assert (logits[0] >= np.min(logits[1:], axis=0) - 1e-4).all()
        assert min(abs(logits[0] - x).max() for x in logits[1:]) > 1e-3


def test_evaluation_classes_are_the_unseen_ones():
    metadata = dataclasses.replace(tiny_metadata(), unseen_classes=["triple jump"])
    task = make_task(tiny_config("temporal_action_localization"), metadata)
    assert (task.classes, task.evaluation_classes) == (CLASSES, ("triple jump",))
    assert tiny_task("temporal_action_localization").evaluation_classes == CLASSES
