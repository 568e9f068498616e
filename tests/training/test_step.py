"""One step: losses of several tasks, and what is random in it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.tiny import random_batch, tiny_config, tiny_task
from unloc_jax.config import MeshConfig
from unloc_jax.errors import UserError
from unloc_jax.model.unloc import LARGEST_LOGIT_SCALE
from unloc_jax.tasks.contrastive import segment_text_loss
from unloc_jax.tasks.parameters import init_params
from unloc_jax.training.sharding import make_mesh, replicated
from unloc_jax.training.state import TrainState, abstract_state
from unloc_jax.training.step import Loss, make_train_step


class Square:
    """A task whose loss is factor · parameter² · batch."""

    config = tiny_config()

    def __init__(self, factor: float):
        self.factor = factor

    def loss(self, params: Any, batch: jax.Array, rng: jax.Array, global_batch: None = None):
        value = (self.factor * params["x"] ** 2 * batch).sum()
        return value, {"loss": value, "batch": batch.sum()}


TASKS = {"one": Square(1.0), "two": Square(10.0)}
PARAMS = {"x": jnp.float32(3.0)}
KEY = jax.random.key(0)


def test_the_weighted_sum_of_the_tasks_that_have_a_batch():
    loss = Loss(TASKS, {"one": 0.5, "two": 2.0}, "train")
    value, metrics = loss(PARAMS, {"two": jnp.float32(2), "one": jnp.float32(4)}, KEY)
    assert value == 0.5 * 9 * 4 + 2 * 90 * 2
    assert metrics == {"one/loss": 36, "one/batch": 4, "two/loss": 180, "two/batch": 2}
    value, metrics = loss(PARAMS, {"two": jnp.float32(2)}, KEY)
    assert value == 2 * 90 * 2 and set(metrics) == {"two/loss", "two/batch"}


def test_metrics_of_a_single_task_have_no_prefix():
    value, metrics = Loss({"two": TASKS["two"]}, {"two": 1.0}, "train")(PARAMS, {"two": jnp.float32(2)}, KEY)
    assert value == metrics["loss"] == 180


def test_the_contrastive_stage_is_the_same_whatever_the_task():
    task = tiny_task(contrastive={"steps": 1})
    params, batch = jax.jit(lambda: init_params(task, 0))(), random_batch(task.config)
    found = jax.jit(Loss({"a": task}, {"a": 3.0}, "contrastive"))(params, {"a": batch}, KEY)
    expected, parts = jax.jit(lambda: segment_text_loss(task, params, batch, KEY))()
    np.testing.assert_allclose(found[0], 3 * expected, rtol=1e-5)
    assert set(found[1]) == set(parts)


def test_colors_are_changed_before_a_task_sees_them():
    """Both videos of the batch differently, each task's differently, and anew for every key."""

    class Seen(Square):
        config = tiny_config(data={"augmentation": {"color": 1.0}})

        def loss(self, params, batch, rng, global_batch=None):
            return params["x"], {"frames": batch.frames}

    task, plain = Seen(1.0), Square(1.0)
    batch = random_batch(task.config)
    batch = dataclasses.replace(batch, frames=np.repeat(batch.frames[:1], 2, axis=0))
    loss = jax.jit(Loss({"a": task, "b": task}, {"a": 1.0, "b": 1.0}, "train"))
    _, metrics = loss(PARAMS, {"a": batch, "b": batch}, KEY)
    _, again = loss(PARAMS, {"a": batch, "b": batch}, jax.random.key(1))
    seen = [*metrics["a/frames"], *metrics["b/frames"], *again["a/frames"], batch.frames[0]]
    assert {x.dtype for x in seen} == {np.dtype(np.uint8)}
    assert len({np.asarray(x).tobytes() for x in seen}) == len(seen)
    same = Loss({"a": plain}, {"a": 1.0}, "train")
    assert same(PARAMS, {"a": jnp.float32(2)}, KEY)[0] == 18


@pytest.mark.parametrize("step", [0, 5])
def test_what_is_random_is_a_function_of_seed_and_step(step):
    mesh = make_mesh(MeshConfig(), jax.device_count())

    class Drawing(Square):
        def loss(self, params, batch, rng, global_batch=None):
            return params["x"] * 0, {"drawn": jax.random.uniform(rng)}

    def run(seed: int, step: int) -> float:
        loss = Loss({"a": Drawing(1.0)}, {"a": 1.0}, "train")
        optimizer = optax.sgd(1.0)
        state = TrainState(jnp.int32(step), PARAMS, optimizer.init(PARAMS))
        shardings = jax.tree.map(lambda _: replicated(mesh), state)
        state = jax.tree.map(lambda x: jnp.array(x, copy=True), state)  # it is given up
        batch = jax.device_put(np.zeros(jax.device_count(), np.float32))
        done, metrics = make_train_step(loss, optimizer, mesh, shardings, seed)(state, {"a": batch}, {})
        assert done.step == step + 1
        return float(metrics["drawn"])

    assert run(0, step) == run(0, step)
    assert len({run(0, step), run(1, step), run(0, step + 1)}) == 3


def test_a_step_follows_the_gradient():
    """The gradient of 3x² · 2 at x = 3 is 36; half of it is taken off. The norm is that before any clipping."""
    mesh = make_mesh(MeshConfig(), jax.device_count())
    optimizer = optax.chain(optax.clip_by_global_norm(18.0), optax.sgd(1.0))
    state = TrainState(jnp.int32(0), PARAMS, optimizer.init(PARAMS))
    shardings = jax.tree.map(lambda _: replicated(mesh), state)
    state = jax.tree.map(lambda x: jnp.array(x, copy=True), state)
    loss = Loss({"a": Square(3.0)}, {"a": 1.0}, "train")
    batch = jax.device_put(np.full(jax.device_count(), 2 / jax.device_count(), np.float32))
    done, metrics = make_train_step(loss, optimizer, mesh, shardings, 0)(state, {"a": batch}, {})
    np.testing.assert_allclose(done.params["x"], 3 - 18, rtol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], 36, rtol=1e-6)


def test_a_logit_scale_at_its_cap_can_come_down():
    """Updates end at the cap, and the gradient there is that of the loss."""

    class Contrast(Square):
        def loss(self, params, batch, rng, global_batch=None):
            value = (jnp.exp(params["logit_scale"]) * batch).sum()
            return value, {"loss": value}

    mesh, optimizer = make_mesh(MeshConfig(), jax.device_count()), optax.sgd(1e-3)
    params = {"logit_scale": jnp.float32(LARGEST_LOGIT_SCALE - 0.01)}
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    step = make_train_step(
        Loss({"a": Contrast(1.0)}, {"a": 1.0}, "train"),
        optimizer, mesh, jax.tree.map(lambda _: replicated(mesh), state), 0,
    )  # fmt: skip
    found = []
    for sign in (-1, -1, 1):
        batch = jax.device_put(np.full(jax.device_count(), sign / jax.device_count(), np.float32))
        state, _ = step(state, {"a": batch}, {})
        found.append(float(state.params["logit_scale"]))
    np.testing.assert_allclose(found, [np.log(100)] * 2 + [np.log(100) - 0.1], rtol=1e-5)


def test_tasks_of_one_run_have_one_model():
    """Other numbers of frames are no other parameters, unless there is a position for each."""
    optimizer, mesh = optax.sgd(1.0), make_mesh(MeshConfig(), jax.device_count())
    of_frames = lambda count, **model: tiny_task(data={"num_frames": count}, model=model)
    shapes = abstract_state({"a": of_frames(8), "b": of_frames(12)}, optimizer, mesh)
    assert set(shapes.params) == {
        "towers_rgb", "video_projection", "text_tower", "text_projection", "fusion", "head"
    }  # fmt: skip
    learned = {
        name: of_frames(count, fusion={"positions": "learned"}) for name, count in (("a", 8), ("b", 12))
    }
    with pytest.raises(
        UserError,
        match=r"a and b cannot share a model: .*/position_embedding has the shape \(9, 16\) .* \(13, 16\)",
    ):
        abstract_state(learned, optimizer, mesh)
