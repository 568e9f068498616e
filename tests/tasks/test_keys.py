"""No two draws of a step share a random key."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import random_batch, random_params, tiny_config, tiny_metadata
from unloc_jax.tasks import make_task
from unloc_jax.training.step import Loss

DRAWS = ("bernoulli", "randint", "uniform")
SETTINGS: dict[str, Any] = {
    "accumulate": 2,
    "data": {
        "augmentation": {"color": 0.5, "grey": 0.5, "rand_augment_layers": 2},
        "prompts": ("{}", "a film of {}"),
    },
    "model": {
        "image": {"num_layers": 2, "stochastic_depth": 0.1},
        "fusion": {"num_layers": 2, "dropout": 0.1, "attention_dropout": 0.1, "stochastic_depth": 0.1},
    },
}
TASKS = ("moment_retrieval", "temporal_action_localization")


@pytest.fixture
def keys(monkeypatch) -> list[tuple[str, bytes]]:
    """(kind of draw, key) of whatever is drawn, each time that it is computed."""
    seen: list[tuple[str, bytes]] = []

    def recorded(name: str, draw: Callable) -> Callable:
        def record(key: jax.Array, *args: Any, **settings: Any) -> jax.Array:
            data = jax.random.key_data(key)
            # Without effects: flax 0.12.12 refuses those of a scanned layer.
            data = jax.pure_callback(
                add, jax.ShapeDtypeStruct(data.shape, data.dtype), data, vmap_method="sequential"
            )
            if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
                data = jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))
            return draw(data, *args, **settings)

        def add(data: jax.Array) -> np.ndarray:
            seen.append((name, np.asarray(data).tobytes()))
            return np.asarray(data)

        return record

    for name in DRAWS:
        monkeypatch.setattr(jax.random, name, recorded(name, getattr(jax.random, name)))
    return seen


def test_each_use_has_its_own_key(keys):
    """Colours, prompts and dropout, of two tasks, in two parts of a batch, in two steps."""
    tasks = {name: make_task(tiny_config(name, **SETTINGS), tiny_metadata()) for name in TASKS}
    params = random_params(tasks[TASKS[0]])
    batches = {name: random_batch(task.config) for name, task in tasks.items()}
    loss = Loss(tasks, dict.fromkeys(TASKS, 1.0), "train")
    assert isinstance(loss, Loss)

    @jax.jit
    def part(params, batches, step, row):
        rng = jax.random.fold_in(jax.random.key(0), step)
        global_batches = loss.global_batches(batches)
        global_batches = {name: dataclasses.replace(x, rows=row[None]) for name, x in global_batches.items()}
        rows = jax.tree.map(lambda x: x[row][None], batches)
        return loss(params, rows, rng, global_batches)

    for step in range(2):
        for row in range(2):
            jax.block_until_ready(part(params, batches, np.int32(step), np.int32(row)))
    jax.effects_barrier()
    count = Counter(key for _, key in keys)
    # A step has one prompt, whatever the parts it is worked through in.
    prompts = [key for key, times in count.items() if times > 1]
    kinds = {name for name, key in keys if key in prompts}
    assert kinds == {"randint"} and len(prompts) == 2 and all(count[key] == 2 for key in prompts)
    # Per task, step and part: 2 operations of RandAugment and what jitters colours; dropout of 2 × 2 layers and more.
    drawn = Counter(name for name, _ in keys)
    assert drawn["uniform"] >= 2 * 2 * 2 * 4 and drawn["bernoulli"] >= 2 * 2 * 2 * 8
