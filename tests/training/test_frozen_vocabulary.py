"""A frozen vocabulary is encoded once, and nothing else changes."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from tests.tiny import CLASSES, random_batch, random_params, tiny_config, tiny_metadata
from unloc_jax.tasks import make_task
from unloc_jax.training import frozen_vocabulary
from unloc_jax.training.sharding import make_mesh
from unloc_jax.training.step import Loss

PROMPTS = ("{}", "a video of {}", "someone does the {}")


def _task(name: str, tmp_path, encoder: str, stage: str = "train"):
    file = tmp_path / "texts.npz"
    np.savez(file, texts=CLASSES, embeddings=np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32))
    text = {"freeze": True} if encoder == "clip" else {"encoder": "embeddings", "embeddings_file": str(file)}
    contrastive = {"steps": 1} if stage == "contrastive" else {}
    model = {"text": text, "fusion": {"all_text_tokens": encoder == "clip"}}
    return make_task(
        tiny_config(name, data={"prompts": PROMPTS}, model=model, contrastive=contrastive), tiny_metadata()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("temporal_action_localization", "clip"),
        ("action_segmentation", "embeddings"),
        ("classification", "clip"),
    ],
)
def test_the_same_loss_without_the_tower(name, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        frozen_vocabulary, "_TEXTS_AT_A_TIME", 6
    )  # two classes in three prompts, then the third
    task = _task(name, tmp_path, encoder)
    params, batch = random_params(task), random_batch(task.config)
    vocabularies = frozen_vocabulary.constant_vocabularies(
        {"a": task}, params, make_mesh(task.config.mesh, jax.device_count())
    )
    loss = Loss({"a": task}, {"a": 1.0}, "train")
    of_params = lambda vocabularies: (
        lambda params, rng: loss(params, {"a": batch}, rng, vocabularies=vocabularies)[0]
    )
    with_it, without = (jax.jit(jax.value_and_grad(of_params(x))) for x in (vocabularies, None))
    for seed in range(3):  # draws other prompts
        rng = jax.random.key(seed)
        found, expected = (jax.tree.leaves(run(params, rng)) for run in (with_it, without))
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    products = lambda vocabularies: len(
        re.findall("dot_general", str(jax.make_jaxpr(of_params(vocabularies))(params, jax.random.key(0))))
    )
    saved = products(None) - products(vocabularies)
    assert saved == (6 if encoder == "clip" else 0)  # the tower's one layer


def test_what_changes_while_training_is_not_kept(tmp_path):
    task = _task("temporal_action_localization", tmp_path, "clip")
    text = dataclasses.replace(task.config.model.text, freeze=False)
    config = dataclasses.replace(task.config, model=dataclasses.replace(task.config.model, text=text))
    learning = make_task(config, tiny_metadata())
    queries = make_task(tiny_config(model={"text": {"freeze": True}}), tiny_metadata())
    mesh = make_mesh(config.mesh, jax.device_count())
    assert frozen_vocabulary.constant_vocabularies({"a": learning, "b": queries}, {}, mesh) == {}
