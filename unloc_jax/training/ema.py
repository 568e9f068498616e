"""The exponential moving average of the trained parameters (Polyak averaging)."""

from typing import Any

import jax
import jax.numpy as jnp

from unloc_jax.config import Config
from unloc_jax.training.optimizer import frozen_parameters


def start_average(config: Config, params: Any) -> Any:
    """The average before the first step: the parameters that are trained; {} if the config wants no average.

    Frozen encoders are left out: they are their own average.
    """
    if not config.optimizer.ema_decay:
        return {}
    frozen = frozen_parameters(config, params)
    # Copies: a step gives up the memory of its old state, array by array.
    return {
        name: jax.tree.map(jnp.copy, part)
        for name, part in params.items()
        if not any(jax.tree.leaves(frozen[name]))
    }


def update_average(average: Any, params: Any, step: jax.Array, decay: float) -> Any:
    """average · d + params · (1 − d) with d = min(decay, (1 + step) / (10 + step)).

    Args:
      average: as `start_average` makes it.
      params: after the step, all of them.
      step: steps done before, scalar.
      decay: config.optimizer.ema_decay.
    """
    done = step.astype(jnp.float32)
    decay_now = jnp.minimum(decay, (1.0 + done) / (10.0 + done))
    trained = {name: params[name] for name in average}
    # Of the difference: with decay near 1 the sum of two products would lose more digits.
    return jax.tree.map(lambda old, new: old + (1.0 - decay_now) * (new - old), average, trained)
