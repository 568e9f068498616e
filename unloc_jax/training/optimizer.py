"""Builds the optimizer: clipping → AdamW, Adam, Muon or SGD → learning rate by stage and parameter.

Frozen towers are left out.
"""

import difflib
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unloc_jax.config import Config, StageConfig
from unloc_jax.config.towers import text_tower, video_tower
from unloc_jax.errors import UserError
from unloc_jax.model.adapters import adapted_towers, is_adapter
from unloc_jax.model.unloc import LARGEST_LOGIT_SCALE
from unloc_jax.old_names import renamed_array
from unloc_jax.training.muon import scale_by_muon

_SHOWN_NAMES = 12


def learning_rate_schedule(config: Config) -> optax.Schedule:
    """Returns the learning rate as a function of the global step over both stages; `learning_rates` may override it."""
    return _over_stages(config, config.contrastive.learning_rate, config.train.learning_rate)


def stage_schedule(stage: StageConfig, base_rate: float | None = None) -> optax.Schedule:
    """Returns base_rate × decay(step) × min(1, step / warmup_steps), as Scenic's compound schedules.

    Cosine decay begins after the warm-up and reaches 0 at the stage's last step; the other decays count from the
    start of the stage. A piecewise factor is a fraction of base_rate, not of the preceding factor, and applies to
    the steps after its decay step.

    Args:
      stage: Steps, warm-up and kind of decay.
      base_rate: None = stage.learning_rate.

    Returns:
      A function of the step since the start of the stage: scalar or array → float32 of its shape.
    """
    rate = stage.learning_rate if base_rate is None else base_rate
    decay = _DECAYS[stage.schedule]

    def schedule(step: Any) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        warmup = jnp.minimum(1.0, step / stage.warmup_steps) if stage.warmup_steps else 1.0
        return rate * decay(stage, step) * warmup

    return schedule


def _cosine(stage: StageConfig, step: jax.Array) -> jax.Array:
    """Returns cosine decay in [0, 1] at steps of the stage: float32 [...] → float32 [...]."""
    length = max(stage.steps - math.floor(stage.warmup_steps), 1)
    progress = jnp.maximum(step - stage.warmup_steps, 0.0) / length
    return 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(progress, 1.0)))


def _piecewise(stage: StageConfig, step: jax.Array) -> jax.Array:
    """Returns the factor of the last decay step that has passed: float32 [...] → float32 [...]."""
    passed = (step[..., None] > jnp.array(stage.decay_steps, jnp.float32)).sum(-1)
    return jnp.array([1.0, *stage.decay_factors], jnp.float32)[passed]


def _exponential(stage: StageConfig, step: jax.Array) -> jax.Array:
    """Returns exponential decay at steps of the stage: float32 [...] → float32 [...]."""
    progress = step / stage.decay_every
    return jnp.power(stage.decay_rate, jnp.floor(progress) if stage.staircase else progress)


_DECAYS: dict[str, Callable[[StageConfig, jax.Array], jax.Array]] = {
    "constant": lambda stage, step: jnp.ones_like(step),
    "cosine": _cosine,
    "piecewise": _piecewise,
    "exponential": _exponential,
}


def _over_stages(config: Config, contrastive_rate: float, train_rate: float) -> optax.Schedule:
    stages = [stage_schedule(config.contrastive, contrastive_rate), stage_schedule(config.train, train_rate)]
    return optax.join_schedules(stages, [config.contrastive.steps])


def learning_rates(config: Config) -> Callable[[int], dict[str, float]]:
    """Returns a function from steps (from 0) to rates, for the log.

    Its result holds "learning_rate", and "learning_rate/PREFIX" for every other rate.
    """
    prefixes = sorted({*config.contrastive.learning_rates, *config.train.learning_rates})

    def at(step: int) -> dict[str, float]:
        is_contrastive = step < config.contrastive.steps
        stage = config.contrastive if is_contrastive else config.train
        since = step if is_contrastive else step - config.contrastive.steps
        rates = {"learning_rate": stage.learning_rate}
        rates |= {f"learning_rate/{prefix}": _base_rate(stage, prefix) for prefix in prefixes}
        return {name: float(stage_schedule(stage, base)(since)) for name, base in rates.items()}

    return at


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """Builds the optimizer of a run, for parameters in nested dictionaries.

    Clipping uses the global norm of all gradients except the frozen ones. AdamW and Muon decay weights independently of
    the gradient; Adam and SGD add `weight_decay` × weight to the clipped gradient. Frozen parameters (see
    `frozen_parameters`) get no update and no state; all others share one state, however many rates there are.

    Raises:
      UserError: From `init`, if no parameter's name begins with a prefix in `learning_rates`.
    """
    settings = config.optimizer
    decay = optax.add_decayed_weights(settings.weight_decay, mask=_decayed)
    dtype = jnp.dtype(settings.momentum_dtype)
    adam = optax.scale_by_adam(b1=settings.b1, b2=settings.b2, mu_dtype=dtype)
    rule = {
        "adamw": [adam, decay],
        "muon": [
            scale_by_muon(
                b2=settings.b2,
                weight_decay=settings.weight_decay,
                decayed=_decayed,
                momentum_dtype=dtype,
            )
        ],
        "adam": [decay, adam],
        "sgd": [
            decay,
            optax.trace(settings.momentum, accumulator_dtype=dtype)
            if settings.momentum
            else optax.identity(),
        ],
    }[settings.name]
    clip = [] if settings.max_grad_norm is None else [_clip_by_global_norm(settings.max_grad_norm)]
    optimizer = optax.partition(
        {"trained": optax.chain(*clip, *rule, _scale_by_rates(config)), "frozen": optax.set_to_zero()},
        lambda params: jax.tree.map(
            lambda frozen: "frozen" if frozen else "trained", frozen_parameters(config, params)
        ),
    )

    def init(params: Any) -> optax.OptState:
        _check_prefixes(config, params)
        return optimizer.init(params)

    return optax.GradientTransformation(init, optimizer.update)


def with_capped_logit_scale(params: Any) -> Any:
    """Cuts the contrastive stage's `logit_scale` off at CLIP's cap, after an update as CLIP does.

    A cap inside of the loss would take its gradient away: a scale that was once above it would stay there.
    """
    if "logit_scale" not in params:
        return params
    return {**params, "logit_scale": jnp.minimum(params["logit_scale"], LARGEST_LOGIT_SCALE)}


def frozen_parameters(config: Config, params: Any) -> Any:
    """Returns a tree of bool like `params`, True where a parameter belongs to an encoder that the config freezes.

    These are the image tower `towers_NAME` of a modality NAME, and `text_tower`, except for their adapters; what
    follows them is trained.
    """
    model = config.model
    frozen = {f"towers_{name}" for name, modality in model.modalities.items() if modality.freeze}
    if model.text.freeze:
        frozen.add("text_tower")
    frozen |= adapted_towers(model)
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[0].key in frozen and not is_adapter(path), params
    )


def _clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """Clips as optax does, except for rounding, with one factor for all arrays that fuses with what follows.

    optax divides every element, and the compiler keeps the quotients beside the gradients: a second copy of them all.
    """

    def update(updates: Any, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
        del params
        factor = limit / jnp.maximum(optax.global_norm(updates), limit)
        return jax.tree.map(lambda x: x * factor.astype(x.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _scale_by_rates(config: Config) -> optax.GradientTransformation:
    """Multiplies every update by minus the rate of its parameter; the state is a single step counter."""

    def init(params: Any) -> optax.ScaleByScheduleState:
        del params
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

    def update(
        updates: Any, state: optax.ScaleByScheduleState, params: Any = None
    ) -> tuple[Any, optax.ScaleByScheduleState]:
        del params

        @functools.cache
        def rate(contrastive: float, train: float) -> jax.Array:
            return _over_stages(config, contrastive, train)(state.count)

        def scaled(path: tuple, update: jax.Array) -> jax.Array:
            name = _name(path)
            base = rate(_base_rate(config.contrastive, name), _base_rate(config.train, name))
            return -base * _layer_factor(config, path, update) * update

        updates = jax.tree_util.tree_map_with_path(scaled, updates)
        return updates, optax.ScaleByScheduleState(optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)


def _layer_factor(config: Config, path: tuple, update: jax.Array) -> Any:
    """Returns the factor of the rate due to `optimizer.layer_decay` for an array: a float, or one per stacked layer of
    a tower, float32 [layers, 1, …] for an `update` [layers, …].
    """
    decay, part = config.optimizer.layer_decay, path[0].key
    if decay == 1.0:
        return 1.0
    tower = text_tower(config.model) if part == "text_tower" else None
    if part.startswith("towers_"):
        encoder = config.model.modalities[part.removeprefix("towers_")].encoder
        tower = video_tower(config.model, encoder, config.data.num_frames, config.data.crop_size)
    if tower is None:
        return 1.0
    above, stacked = tower.layers_above("/".join(key.key for key in path[1:]))
    if not stacked:
        return decay**above
    depth = above + np.arange(len(update))[::-1].reshape(-1, *[1] * (update.ndim - 1))
    return (decay**depth).astype(np.float32)


def _base_rate(stage: StageConfig, name: str) -> float:
    """Returns the rate of the longest prefix of `learning_rates` with which the parameter's name begins."""
    prefixes = [prefix for prefix in stage.learning_rates if name.startswith(prefix)]
    return stage.learning_rates[max(prefixes, key=len)] if prefixes else stage.learning_rate


def _check_prefixes(config: Config, params: Any) -> None:
    names = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for stage in ("contrastive", "train"):
        for prefix in getattr(config, stage).learning_rates:
            if any(name.startswith(prefix) for name in names):
                continue
            depth = prefix.strip("/").count("/") + 1
            known = sorted({"/".join(name.split("/")[:depth]) for name in names})
            known = difflib.get_close_matches(prefix, known, _SHOWN_NAMES) or known
            shown = ", ".join(known[:_SHOWN_NAMES]) + (", …" if len(known) > _SHOWN_NAMES else "")
            now = renamed_array(prefix)
            hint = f"There are: {shown}." if now == prefix else f"Its name is {now!r} now."
            raise UserError(
                f"config.{stage}.learning_rates: no parameter's name begins with {prefix!r}. {hint}"
            )


def _decayed(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
