"""One training step: loss → gradients → optimizer. The same function on one CPU and on a pod."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from unloc_jax.augmentation import augment
from unloc_jax.batch import Batch
from unloc_jax.data_config import AugmentationConfig
from unloc_jax.tasks import Task
from unloc_jax.tasks.contrastive import segment_text_loss
from unloc_jax.training.average import update_average
from unloc_jax.training.sharding import batch_sharding, replicated
from unloc_jax.training.state import TrainState
from unloc_jax.training.vocabulary import Vocabularies

Metrics = dict[str, jax.Array]
Batches = dict[str, Batch]
LossFn = Callable[..., tuple[jax.Array, Metrics]]  # see `make_loss`
StepFn = Callable[[TrainState, Batches, Vocabularies], tuple[TrainState, Metrics]]


def make_train_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    shardings: Any,
    seed: int,
    ema_decay: float = 0.0,
) -> StepFn:
    """Compiles a step for one loss.

    Args:
      loss_fn: (params, batches, rng, vocabularies) → (scalar, metrics).
      optimizer: as made by `make_optimizer`.
      mesh: where batches are split along `data`.
      shardings: of the state; it stays where it is.
      seed: keys, with the step, everything random in a step.
      ema_decay: of the average of the parameters, if the state has one.

    Returns:
      (state, batches by task, vocabularies by task) → (state, metrics); the old state's memory is given up. Metrics
      hold the loss's parts and `gradient_norm`, measured before clipping.
    """

    def step(state: TrainState, batches: Batches, vocabularies: Vocabularies) -> tuple[TrainState, Metrics]:
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        (_, metrics), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, batches, rng, vocabularies
        )
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = update_average(state.ema_params, params, state.step, ema_decay)
        metrics = metrics | {"gradient_norm": optax.global_norm(gradients)}
        return TrainState(state.step + jnp.int32(1), params, opt_state, ema_params), metrics

    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh), replicated(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def make_loss(tasks: Mapping[str, Task], weights: Mapping[str, float], stage: str) -> LossFn:
    """The loss of a step: the weighted sum over the tasks that the step has a batch of.

    Args:
      tasks: by name.
      weights: of the tasks' losses.
      stage: "pretrain" (segments against texts) or "train" (the task's own loss).

    Returns:
      (params, batches by task, rng, vocabularies by task) → (scalar, metrics); with several tasks a metric's name
      begins with its task's. The frames' colours are changed first, as `config.data.augmentation` of the task says.
    """

    def loss_fn(
        params: Any, batches: Batches, rng: jax.Array, vocabularies: Vocabularies | None = None
    ) -> tuple[jax.Array, Metrics]:
        total, metrics = jnp.zeros(()), dict[str, jax.Array]()
        for number, (name, batch) in enumerate(sorted(batches.items())):
            task = tasks[name]
            if vocabularies and name in vocabularies:
                batch = dataclasses.replace(batch, vocabulary=vocabularies[name])
            batch = _in_other_colors(batch, task.config.data.augmentation, jax.random.fold_in(rng, number))
            if stage == "pretrain":
                loss, parts = segment_text_loss(task, params, batch, rng)
            else:
                loss, parts = task.loss(params, batch, rng)
            total += weights[name] * loss
            metrics |= parts if len(tasks) == 1 else {f"{name}/{key}": value for key, value in parts.items()}
        return total, metrics

    return loss_fn


def _in_other_colors(batch: Batch, config: AugmentationConfig, rng: jax.Array) -> Batch:
    if not config.changes_colors or batch.frames is None:
        return batch
    keys = jax.random.split(rng, len(batch.frames))
    return dataclasses.replace(batch, frames=augment(batch.frames, keys, config))
