"""One training step: loss → gradients → clip → AdamW. The same function on one CPU and on a pod."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from unloc_jax.batch import Batch
from unloc_jax.tasks import Task
from unloc_jax.tasks.contrastive import segment_text_loss
from unloc_jax.training.sharding import batch_sharding, replicated
from unloc_jax.training.state import TrainState

Metrics = dict[str, jax.Array]
StepFn = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_train_step(
    loss_fn: Callable, optimizer: optax.GradientTransformation, mesh: Mesh, shardings: Any
) -> StepFn:
    """Compiles a step for one loss.

    Args:
      loss_fn: (params, batch) → (scalar, metrics).
      optimizer: as made by `make_optimizer`.
      mesh: where batches are split along `data`.
      shardings: of the state; it stays where it is.

    Returns:
      (state, batch) → (state, metrics); the old state's memory is given up. Metrics hold the loss's parts and
      `gradient_norm`, measured before clipping.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        (_, metrics), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params, batch)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = metrics | {"gradient_norm": optax.global_norm(gradients)}
        return TrainState(state.step + jnp.int32(1), params, opt_state), metrics

    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def loss_of_stage(task: Task, stage: str) -> Callable:
    """The loss that a stage ("pretrain" or "train") minimises."""
    if stage == "pretrain":
        return lambda params, batch: segment_text_loss(task, params, batch)
    return task.loss
