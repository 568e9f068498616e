"""A NaN in the loss: what it changes (nothing), what is said, and what the three policies do."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.tiny import tiny_config
from unloc_jax.config import MeshConfig
from unloc_jax.errors import UserError
from unloc_jax.training.non_finite import NonFiniteSteps, at_step
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import make_mesh, replicated
from unloc_jax.training.state import TrainState
from unloc_jax.training.step import make_train_step

CONFIG = tiny_config(train={"steps": 100, "learning_rate": 0.1, "schedule": "cosine"})
PARAMS = {"head": {"kernel": np.array([3.0, -2.0], np.float32)}, "text_tower": {"bias": np.float32(1.0)}}


def _step_and_state():
    """loss = factor · Σ head² with the batch as the factor; an average of the parameters is kept."""
    optimizer = make_optimizer(CONFIG)
    mesh = make_mesh(MeshConfig(), jax.device_count())
    params = jax.tree.map(jnp.asarray, PARAMS)
    average = jax.tree.map(jnp.copy, params)
    state = TrainState(jnp.int32(0), params, optimizer.init(params), average)
    shardings = jax.tree.map(lambda _: replicated(mesh), state)

    def loss(params, batches, rng, vocabularies):
        value = batches["a"].sum() * (params["head"]["kernel"] ** 2).sum()
        return value, {"loss": value}

    step = make_train_step(loss, optimizer, mesh, shardings, 0, ema_decay=0.9)
    return lambda state, factor: step(
        state, {"a": np.full(jax.device_count(), factor, np.float32)}, {}
    ), state


@pytest.mark.parametrize(
    "bad", [np.nan, np.inf, 3e38]
)  # the last one's loss is infinite only as a sum of squares
def test_a_bad_step_changes_nothing_but_the_counters(bad):
    step, state = _step_and_state()
    state, _ = step(state, 1.0)
    before = jax.tree.map(np.array, state)
    state, metrics = step(state, bad)
    assert not metrics["finite"] and state.step == 2
    for part in ("params", "ema_params"):
        chex.assert_trees_all_equal(getattr(state, part), getattr(before, part))
    for moment in ("mu", "nu"):
        of = lambda s, moment=moment: optax.tree_utils.tree_get(s.opt_state, moment)
        chex.assert_trees_all_equal(of(state), of(before))
    # The next step has the learning rate of the third step, as if the second had been made.
    schedules = lambda s: [x.count for x in jax.tree.leaves(s, is_leaf=_is_count) if _is_count(x)]
    assert [int(count) for count in schedules(state)] == [2]
    good, metrics = step(state, 1.0)
    assert metrics["finite"] and good.step == 3
    assert not np.array_equal(good.params["head"]["kernel"], before.params["head"]["kernel"])
    assert schedules(at_step(good, 40)) == [40] and at_step(good, 40).step == 40


def _is_count(x):
    return isinstance(x, optax.ScaleByScheduleState)


def test_a_good_step_is_the_optimizers():
    step, state = _step_and_state()
    optimizer = make_optimizer(CONFIG)
    gradient = {"head": {"kernel": 2 * PARAMS["head"]["kernel"]}, "text_tower": {"bias": np.float32(0)}}
    updates, _ = optimizer.update(gradient, optimizer.init(PARAMS), PARAMS)
    expected = optax.apply_updates(PARAMS, updates)
    state, _ = step(state, 1.0)
    chex.assert_trees_all_close(state.params, expected, rtol=1e-6)


def _watch(policy: str) -> tuple[NonFiniteSteps, list[str]]:
    said: list[str] = []
    config = dataclasses.replace(CONFIG, non_finite=policy)
    return NonFiniteSteps(config, lambda step: {"a": [f"v{step}", "w"]}, said.append), said


def _metrics(finite: bool) -> dict:
    return {"finite": jnp.asarray(finite), "loss": jnp.float32(1.0 if finite else np.nan)}


def test_stop_names_the_step_and_its_videos():
    watch, _ = _watch("stop")
    watch.add(6, _metrics(True))
    assert not watch.rollback_due(4)
    watch.add(7, _metrics(False))
    with pytest.raises(
        UserError, match=r"^step 7: .*\(loss nan\), on the videos v6, w\. Lower config\.train\."
    ) as e:
        watch.rollback_due(4)
    assert "--config.non_finite=skip" in str(e.value) and "checkpoint here is of step 4" in str(e.value)


def test_skip_counts_and_gives_up_on_a_run_that_is_lost():
    watch, said = _watch("skip")
    for done in range(1, 10):
        watch.add(done, _metrics(False))
    assert not watch.rollback_due(None)
    watch.add(10, _metrics(True))
    for done in range(11, 20):
        watch.add(done, _metrics(False))
    assert not watch.rollback_due(None) and watch.count == 18 == len(said)
    assert said[-1].startswith("note: step 19: ") and said[-1].endswith("this step is left out (18 so far)")
    watch.add(20, _metrics(False))
    with pytest.raises(UserError, match=r"10 steps in a row, so it is not the data\. Lower"):
        watch.rollback_due(None)


def test_rollback_is_due_once_per_bad_step():
    watch, said = _watch("rollback")
    for done in (5, 6, 7):
        watch.add(done, _metrics(False))
        assert watch.rollback_due(4)
        assert not watch.rollback_due(4)
    assert "back to the parameters of step 4, and on with the batch after this one" in said[0]
    watch.add(12, _metrics(False))
    assert watch.rollback_due(10)  # another checkpoint: training has moved on
    for done in (13, 14):
        watch.add(done, _metrics(False))
        assert watch.rollback_due(10)
    watch.add(15, _metrics(False))
    with pytest.raises(UserError, match="4 times since the checkpoint of step 10"):
        watch.rollback_due(10)
