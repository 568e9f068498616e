"""AdamW with gradient clipping, and a warm-up–cosine schedule per stage."""

import jax
import optax

from unloc_jax.config import Config, StageConfig


def learning_rate_schedule(config: Config) -> optax.Schedule:
    """Learning rate as a function of the global step, over both stages."""
    return optax.join_schedules([_stage(config.pretrain), _stage(config.train)], [config.pretrain.steps])


def _stage(stage: StageConfig) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=stage.learning_rate,
        warmup_steps=stage.warmup_steps,
        decay_steps=max(stage.steps, 1),
    )


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """Clips the global gradient norm, then AdamW; biases, scales and positions are not decayed."""
    optimizer = config.optimizer
    return optax.chain(
        optax.clip_by_global_norm(optimizer.max_grad_norm),
        optax.adamw(
            learning_rate_schedule(config),
            b2=optimizer.b2,
            weight_decay=optimizer.weight_decay,
            mask=_decayed,
        ),
    )


def _decayed(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
