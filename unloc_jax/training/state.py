"""TrainState, made directly in its sharded place."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from unloc_jax.tasks import Task
from unloc_jax.training.sharding import tree_shardings


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes.

    step: int32 scalar, steps done.
    params, opt_state: trees of float32 arrays.
    """

    step: jax.Array
    params: Any
    opt_state: Any


def init_params(task: Task, seed: int) -> Any:
    """Fresh parameters (traceable)."""
    config = task.config
    data, text = config.data, config.model.text
    frames = jnp.zeros((1, data.num_frames, data.crop_size, data.crop_size, 3), jnp.uint8)
    mask = jnp.ones((1, data.num_frames), bool)
    return task.model.init(jax.random.key(seed), frames, mask, jnp.zeros((1, 1, text.max_tokens), jnp.int32))[
        "params"
    ]


def abstract_params(task: Task) -> Any:
    """Shapes and dtypes of the parameters."""
    return jax.eval_shape(lambda: init_params(task, 0))


def _create_state(task: Task, optimizer: optax.GradientTransformation) -> TrainState:
    params = init_params(task, task.config.seed)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def abstract_state(task: Task, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of the state; nothing is compiled or computed."""
    shapes = jax.eval_shape(lambda: _create_state(task, optimizer))
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        tree_shardings(shapes, mesh, task.config.mesh.strategy),
    )


def init_state(task: Task, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """A new state; no device ever holds more than its shard."""
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(task, optimizer, mesh))
    return jax.jit(lambda: _create_state(task, optimizer), out_shardings=shardings)()


def count_parameters(params: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
