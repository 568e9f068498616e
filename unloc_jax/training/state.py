"""TrainState, created directly in its shards."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from unloc_jax.errors import UserError
from unloc_jax.tasks import Task
from unloc_jax.tasks.parameters import abstract_params, init_params
from unloc_jax.training.ema import start_average
from unloc_jax.training.sharding import tree_shardings


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes.

    Attributes:
      step: int32 scalar, number of steps done.
      params: Tree of float32 arrays.
      opt_state: Of the optimizer.
      ema_params: Moving averages of the trained parts of `params`, float32, by top-level name; {} without
        config.optimizer.ema_decay.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    ema_params: Any = dataclasses.field(default_factory=dict)

    @property
    def best_params(self) -> Any:
        """The parameters for evaluation: averages where there are any."""
        return {**self.params, **self.ema_params}


def _create_state(task: Task, optimizer: optax.GradientTransformation) -> TrainState:
    params = init_params(task, task.config.seed)
    return TrainState(
        jnp.zeros((), jnp.int32), params, optimizer.init(params), start_average(task.config, params)
    )


def abstract_state(
    tasks: Mapping[str, Task], optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Returns shapes, dtypes and shardings of the state; nothing is compiled or computed.

    Raises:
      UserError: The tasks' data require parameters of different shapes.
    """
    first, *others = tasks.items()
    for name, task in others:
        _check_same_shapes(first[0], abstract_params(first[1]), name, abstract_params(task))
    task = first[1]
    shapes = jax.eval_shape(lambda: _create_state(task, optimizer))
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        tree_shardings(shapes, mesh, task.config.mesh.strategy),
    )


def init_state(tasks: Mapping[str, Task], optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Creates a new state; no device ever holds more than its shard."""
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(tasks, optimizer, mesh))
    task = next(iter(tasks.values()))
    return jax.jit(lambda: _create_state(task, optimizer), out_shardings=shardings)()


def _check_same_shapes(name: str, params: Any, other_name: str, other_params: Any) -> None:
    for (path, leaf), other in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(other_params)
    ):
        if leaf.shape != other.shape:
            parameter = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(
                f"the tasks {name} and {other_name} cannot share a model: {parameter} has the shape {leaf.shape} in "
                f"one and {other.shape} in the other. Give them the same data.num_frames and data.crop_size."
            )
