"""Exponential moving average of the trained parameters (Polyak averaging)."""

from typing import Any

import jax
import jax.numpy as jnp

from unloc_jax.config import Config
from unloc_jax.training.optimizer import frozen_parameters


def start_average(config: Config, params: Any) -> Any:
    """Returns the average before the first step: copies of the trained parameters, {} if the config wants no average.

    Frozen encoders are left out, because they do not change, unless they have adapters.
    """
    if not config.optimizer.ema_decay:
        return {}
    frozen = frozen_parameters(config, params)
    # Copies, because a step donates the memory of its old state, array by array.
    return {
        name: jax.tree.map(jnp.copy, part)
        for name, part in params.items()
        if not all(jax.tree.leaves(frozen[name]))
    }


def update_average(average: Any, params: Any, step: jax.Array, decay: float) -> Any:
    """Returns average · d + params · (1 − d) with d = min(decay, (1 + step) / (10 + step)).

    Args:
      average: Tree of float32 arrays as `start_average` returns it.
      params: Tree of all parameters, float32, after the step.
      step: int32 scalar [], number of steps done before.
      decay: config.optimizer.ema_decay.
    """
    done = step.astype(jnp.float32)
    decay_now = jnp.minimum(decay, (1.0 + done) / (10.0 + done))
    trained = {name: params[name] for name in average}
    # With decay near 1, a sum of two products would lose more digits than this difference.
    return jax.tree.map(lambda old, new: old + (1.0 - decay_now) * (new - old), average, trained)
