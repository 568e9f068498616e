"""One training step: loss → gradients → optimizer. The same function runs on one CPU and on a pod."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unloc_jax.augmentation import augment
from unloc_jax.augmentation.sound import change_spectrograms, mix_sounds
from unloc_jax.batch import Batch
from unloc_jax.config import AugmentationConfig
from unloc_jax.model.log_mel import log_mel
from unloc_jax.tasks import Task
from unloc_jax.tasks.contrastive import segment_text_loss
from unloc_jax.tasks.global_batch import GlobalBatch
from unloc_jax.tasks.keys import Use, key_of
from unloc_jax.training.ema import update_average
from unloc_jax.training.frozen_vocabulary import Vocabularies
from unloc_jax.training.non_finite import skip_if_not_finite
from unloc_jax.training.optimizer import with_capped_logit_scale
from unloc_jax.training.sharding import batch_sharding, replicated
from unloc_jax.training.state import TrainState

Metrics = dict[str, jax.Array]
Batches = dict[str, Batch]
GlobalBatches = dict[str, GlobalBatch]
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
      loss_fn: Of one stage.
      optimizer: As returned by `make_optimizer`.
      mesh: Batches are split along its `data` axis.
      shardings: Of the state, which stays in place.
      seed: With the step, keys everything that is random.
      ema_decay: Of the average of the parameters, if the state has one.
      accumulate: Number of microbatches that a batch is split into and that are processed in turn. The
        result is that of the complete batch, up to rounding and dropout's draws.

    Returns:
      (state, batches by task, vocabularies by task) → (state, metrics); the memory of the old state is donated. Metrics
      are float32 scalars: the parts of the loss and `gradient_norm`, measured before clipping; and `finite`, a bool
      scalar: whether the update was applied (see `non_finite`).
    """

    def step(state: TrainState, batches: Batches, vocabularies: Vocabularies) -> tuple[TrainState, Metrics]:
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        if accumulate == 1:
            (loss, metrics), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
                state.params, batches, rng, vocabularies=vocabularies
            )
        else:
            batches = loss_fn.with_backgrounds(batches, rng)
            split = functools.partial(_split_videos, mesh=mesh, num_microbatches=accumulate)
            microbatch_loss = functools.partial(loss_fn, vocabularies=vocabularies)
            (loss, metrics), gradients = _accumulated(
                microbatch_loss,
                loss_fn.global_batches(batches),
                state.params,
                batches,
                rng,
                split,
                shardings.params,
            )
        chex.assert_shape([loss, *metrics.values()], ())
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = with_capped_logit_scale(optax.apply_updates(state.params, updates))
        chex.assert_trees_all_equal_shapes_and_dtypes(params, state.params)
        ema_params = update_average(state.ema_params, params, state.step, ema_decay)
        metrics = metrics | {"gradient_norm": optax.global_norm(gradients)}
        new_state = TrainState(state.step + jnp.int32(1), params, opt_state, ema_params)
        return skip_if_not_finite(state, new_state, loss, metrics)

    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh), replicated(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def _accumulated(
    loss_fn: Callable[..., tuple[jax.Array, Metrics]],
    global_batches: GlobalBatches,
    params: Any,
    batches: Batches,
    rng: jax.Array,
    split: Callable[[jax.Array], jax.Array],
    shardings: Any,
) -> tuple[tuple[jax.Array, Metrics], Any]:
    """Computes loss and gradients of complete batches as sums over microbatches, one of which is in memory at a time.

    A mean of the microbatches' means would differ, because they differ in how many points, segments and queries count.
    Therefore every microbatch gets the normalizers of the complete batch.

    Args:
      loss_fn: See `Loss`.
      global_batches: By task, the batch that the microbatches belong to.
      params: Tree of float32 arrays.
      batches: By task, arrays [B, ...].
      rng: Typed random key of the step.
      split: Splits an array: [B, ...] → [microbatches, B / microbatches, ...].
      shardings: Of the gradients, a tree like `params`.

    Returns:
      ((loss float32 scalar, metrics float32 scalars), gradients: a tree of float32 arrays like `params`).
    """
    microbatches = jax.tree.map(
        split, (batches, {name: of_task.rows for name, of_task in global_batches.items()})
    )
    gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)

    def add(sums: Any, microbatch: tuple[Batches, dict[str, jax.Array]]) -> tuple[Any, None]:
        batches, rows = microbatch
        with_rows = {name: dataclasses.replace(x, rows=rows[name]) for name, x in global_batches.items()}
        values, gradients = jax.tree.map(jnp.add, sums, gradient_fn(params, batches, rng, with_rows))
        return (values, jax.lax.with_sharding_constraint(gradients, shardings)), None

    shapes = jax.eval_shape(gradient_fn, params, batches, rng, global_batches)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zeros, microbatches)[0]


def _split_videos(x: jax.Array, mesh: Mesh, num_microbatches: int) -> jax.Array:
    """Splits [B, ...] into [num_microbatches, B / num_microbatches, ...]; videos stay on their devices."""
    count, devices, rest = num_microbatches, mesh.shape["data"], x.shape[1:]
    videos = len(x) // count
    x = x.reshape(devices, count, videos // devices, *rest).swapaxes(0, 1).reshape(count, videos, *rest)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(None, "data")))


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """The loss of a step: the weighted sum over the tasks that have a batch in it.

    Frames and sound are first augmented according to `config.data.augmentation` of their task. With several tasks the
    name of a metric begins with its task's.

    Attributes:
      tasks: By name.
      weights: Of the tasks' losses.
      stage: "contrastive" (segments against texts) or "train" (the task's own loss).
    """

    tasks: Mapping[str, Task]
    weights: Mapping[str, float]
    stage: str

    def global_batches(self, batches: Batches) -> GlobalBatches:
        """Returns, by task, what microbatches need to know about the global batch."""
        return {name: self.tasks[name].global_batch(batch) for name, batch in batches.items()}

    def with_backgrounds(self, batches: Batches, rng: jax.Array) -> Batches:
        """Mixes the sounds of the videos of each global batch, which its microbatches do not see.

        Args:
          batches: By task, global batches.
          rng: Typed random key of the step.
        """
        mixed = dict(batches)
        for number, name in enumerate(sorted(self.tasks)):
            config = self.tasks[name].config
            if name in batches and config.model.reads_sound and config.data.augmentation.audio.mix:
                key = key_of(jax.random.fold_in(rng, number), Use.BACKGROUND)
                mixed[name] = _with_background(batches[name], self.tasks[name], key)
        return mixed

    def __call__(
        self,
        params: Any,
        batches: Batches,
        rng: jax.Array,
        global_batches: GlobalBatches | None = None,
        vocabularies: Vocabularies | None = None,
    ) -> tuple[jax.Array, Metrics]:
        """Computes the loss.

        Args:
          params: Tree of float32 arrays.
          batches: By task, global batches or, after `with_backgrounds`, the rows of them that `global_batches` lists.
          rng: Typed random key of the step.
          global_batches: By task, the batch that the rows of `batches` belong to; None = `batches` has all of them.
          vocabularies: By task, classes that are encoded already, as returned by `constant_vocabularies`.

        Returns:
          (float32 scalar, metrics: float32 scalars by name).
        """
        if global_batches is None:
            batches = self.with_backgrounds(batches, rng)
        total, metrics = jnp.zeros(()), dict[str, jax.Array]()
        for number, name in enumerate(sorted(self.tasks)):
            if name not in batches:
                continue
            batch, task = batches[name], self.tasks[name]
            global_batch = global_batches[name] if global_batches else None
            if vocabularies and name in vocabularies:
                batch = dataclasses.replace(batch, vocabulary=vocabularies[name])
            task_rng = jax.random.fold_in(rng, number)
            colors = task.config.data.augmentation
            batch = _augmented(batch, colors, key_of(task_rng, Use.COLORS), global_batch)
            batch = _with_changed_sound(batch, task, key_of(task_rng, Use.SOUND), global_batch)
            if self.stage == "contrastive":
                loss, terms = segment_text_loss(task, params, batch, task_rng)
            else:
                loss, terms = task.loss(params, batch, task_rng, global_batch)
            total += self.weights[name] * loss
            several = len(self.tasks) > 1
            metrics |= {f"{name}/{key}": value for key, value in terms.items()} if several else terms
        return total, metrics


def _augmented(
    batch: Batch, config: AugmentationConfig, rng: jax.Array, global_batch: GlobalBatch | None
) -> Batch:
    """Augments frames, uint8 [B, T, H, W, 3]; the draw of a video depends on its position in the complete batch."""
    if not config.changes_colors or batch.frames is None:
        return batch
    keys = _keys_of_videos(batch, rng, global_batch)
    return dataclasses.replace(batch, frames=augment(batch.frames, keys, config, batch.frame_mask))


def _keys_of_videos(batch: Batch, rng: jax.Array, global_batch: GlobalBatch | None) -> jax.Array:
    """Returns typed random keys [B]; that of a video depends on its position in the complete batch."""
    if global_batch is None:
        return jax.random.split(rng, len(batch.frame_mask))
    return jax.random.split(rng, len(global_batch.batch.frame_mask))[global_batch.rows]


def _with_background(batch: Batch, task: Task, key: jax.Array) -> Batch:
    """Mixes the sounds, int16 [B, T, C], of a global batch."""
    settings = task.config.data.augmentation.audio
    mixed = mix_sounds(batch.features["audio"], _heard(batch), key, settings)
    mixed = task.model.layout.constrain(mixed, "videos", None, None)
    return dataclasses.replace(batch, features={**batch.features, "audio": mixed})


def _with_changed_sound(batch: Batch, task: Task, rng: jax.Array, global_batch: GlobalBatch | None) -> Batch:
    """Replaces the sound, int16 [B, T, C], by augmented spectrograms [B, T, F, M] if the config says so."""
    config = task.config
    settings = config.data.augmentation.audio
    if not (config.model.reads_sound and settings.changes_spectrograms):
        return batch
    layout = task.model.layout
    sound = log_mel(batch.features["audio"], config.model.audio, layout)
    keys = _keys_of_videos(batch, rng, global_batch)
    column_s = config.model.audio.column_times_s
    changed = change_spectrograms(sound, keys, settings, _heard(batch), batch.span_s, column_s)
    changed = layout.constrain(changed, "videos", "frames", None, None)
    return dataclasses.replace(batch, features={**batch.features, "audio": changed})


def _heard(batch: Batch) -> jax.Array:
    """Returns bool [B, T], True where a real place has sound."""
    return batch.frame_mask & batch.input_masks.get("audio", batch.frame_mask)
