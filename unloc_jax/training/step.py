"""One training step: loss → gradients → optimizer. The same function on one CPU and on a pod."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unloc_jax.augmentation import augment
from unloc_jax.batch import Batch
from unloc_jax.config import AugmentationConfig
from unloc_jax.tasks import Task
from unloc_jax.tasks.base import Whole
from unloc_jax.tasks.contrastive import segment_text_loss
from unloc_jax.tasks.keys import Use, key_of
from unloc_jax.training.ema import update_average
from unloc_jax.training.frozen_vocabulary import Vocabularies
from unloc_jax.training.non_finite import leave_out_if_not_finite
from unloc_jax.training.optimizer import with_capped_temperature
from unloc_jax.training.sharding import batch_sharding, replicated
from unloc_jax.training.state import TrainState

Metrics = dict[str, jax.Array]
Batches = dict[str, Batch]
Wholes = dict[str, Whole]
StepFn = Callable[[TrainState, Batches, Vocabularies], tuple[TrainState, Metrics]]


def make_train_step(
    loss_fn: "Loss",
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    shardings: Any,
    seed: int,
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> StepFn:
    """Compiles a step for one loss.

    Args:
      loss_fn: of one stage.
      optimizer: as made by `make_optimizer`.
      mesh: where batches are split along `data`.
      shardings: of the state; it stays where it is.
      seed: keys, with the step, everything random in a step.
      ema_decay: of the average of the parameters, if the state has one.
      accumulate: into how many parts a batch is split, which are worked through one after the other. The step is that
        of the whole batch, up to rounding and dropout's draws.

    Returns:
      (state, batches by task, vocabularies by task) → (state, metrics); the old state's memory is given up. Metrics
      hold the loss's parts, `gradient_norm`, measured before clipping, and `finite`: whether the update was made (see
      `non_finite`).
    """

    def step(state: TrainState, batches: Batches, vocabularies: Vocabularies) -> tuple[TrainState, Metrics]:
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        if accumulate == 1:
            (loss, metrics), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
                state.params, batches, rng, vocabularies=vocabularies
            )
        else:
            in_parts = functools.partial(_split_videos, mesh=mesh, parts=accumulate)
            loss_of_part = functools.partial(loss_fn, vocabularies=vocabularies)
            (loss, metrics), gradients = _accumulated(
                loss_of_part, loss_fn.wholes(batches), state.params, batches, rng, in_parts, shardings.params
            )
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = with_capped_temperature(optax.apply_updates(state.params, updates))
        ema_params = update_average(state.ema_params, params, state.step, ema_decay)
        metrics = metrics | {"gradient_norm": optax.global_norm(gradients)}
        new_state = TrainState(state.step + jnp.int32(1), params, opt_state, ema_params)
        return leave_out_if_not_finite(state, new_state, loss, metrics)

    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh), replicated(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def _accumulated(
    loss_fn: Callable[..., tuple[jax.Array, Metrics]],
    wholes: Wholes,
    params: Any,
    batches: Batches,
    rng: jax.Array,
    in_parts: Callable[[jax.Array], jax.Array],
    shardings: Any,
) -> tuple[tuple[jax.Array, Metrics], Any]:
    """((loss, metrics), gradients) of whole batches, as sums over their parts: one part's activations exist at a time.

    A mean of the parts' means would be something else, because the parts differ in how many points, segments and
    queries count; so every part is told what to divide its sums by.
    """
    parts = jax.tree.map(in_parts, (batches, {name: whole.rows for name, whole in wholes.items()}))
    gradient = jax.value_and_grad(loss_fn, has_aux=True)

    def add(sums: Any, part: tuple[Batches, dict[str, jax.Array]]) -> tuple[Any, None]:
        of_part, rows = part
        of_rows = {name: dataclasses.replace(whole, rows=rows[name]) for name, whole in wholes.items()}
        values, gradients = jax.tree.map(jnp.add, sums, gradient(params, of_part, rng, of_rows))
        return (values, jax.lax.with_sharding_constraint(gradients, shardings)), None

    shapes = jax.eval_shape(gradient, params, batches, rng, wholes)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, nothing, parts)[0]


def _split_videos(x: jax.Array, mesh: Mesh, parts: int) -> jax.Array:
    """[B, …] → [parts, B / parts, …]; every device keeps its videos, and has some of them in each part."""
    devices, videos, rest = mesh.shape["data"], len(x) // parts, x.shape[1:]
    x = x.reshape(devices, parts, videos // devices, *rest).swapaxes(0, 1).reshape(parts, videos, *rest)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(None, "data")))


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """The loss of a step: the weighted sum over the tasks that the step has a batch of.

    Attributes:
      tasks: by name.
      weights: of the tasks' losses.
      stage: "pretrain" (segments against texts) or "train" (the task's own loss).

    With several tasks a metric's name begins with its task's. The frames' colours are changed first, as
    `config.data.augmentation` of the task says.
    """

    tasks: Mapping[str, Task]
    weights: Mapping[str, float]
    stage: str

    def wholes(self, batches: Batches) -> Wholes:
        """What parts of the batches have to know of the whole."""
        return {name: self.tasks[name].whole(batch) for name, batch in batches.items()}

    def __call__(
        self,
        params: Any,
        batches: Batches,
        rng: jax.Array,
        wholes: Wholes | None = None,
        vocabularies: Vocabularies | None = None,
    ) -> tuple[jax.Array, Metrics]:
        """(scalar, metrics) of whole batches by task, or of those rows of them that `wholes` names.

        Vocabularies that are encoded already are as `constant_vocabularies` makes them.
        """
        total, metrics = jnp.zeros(()), dict[str, jax.Array]()
        for number, name in enumerate(sorted(self.tasks)):
            if name not in batches:
                continue
            batch, task, whole = batches[name], self.tasks[name], wholes[name] if wholes else None
            if vocabularies and name in vocabularies:
                batch = dataclasses.replace(batch, vocabulary=vocabularies[name])
            of_task = jax.random.fold_in(rng, number)
            colors = task.config.data.augmentation
            batch = _in_other_colors(batch, colors, key_of(of_task, Use.COLORS), whole)
            if self.stage == "pretrain":
                loss, parts = segment_text_loss(task, params, batch, of_task)
            else:
                loss, parts = task.loss(params, batch, of_task, whole)
            total += self.weights[name] * loss
            several = len(self.tasks) > 1
            metrics |= {f"{name}/{key}": value for key, value in parts.items()} if several else parts
        return total, metrics


def _in_other_colors(batch: Batch, config: AugmentationConfig, rng: jax.Array, whole: Whole | None) -> Batch:
    """A video's colours are a function of its place in the whole batch."""
    if not config.changes_colors or batch.frames is None:
        return batch
    keys = jax.random.split(rng, len(batch.frames) if whole is None else len(whole.batch.frame_mask))
    keys = keys if whole is None else keys[whole.rows]
    return dataclasses.replace(batch, frames=augment(batch.frames, keys, config, batch.frame_mask))
