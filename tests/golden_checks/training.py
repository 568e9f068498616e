"""Goldens of training: some steps of the reference's trainer, through our loss and our optimizer."""

from typing import Any

import jax
import numpy as np
import optax

from tests.golden_checks.imported import Golden
from tests.golden_checks.numbers import PROGRESS, projected_difference, relative
from tests.golden_checks.result import Result
from unloc_jax.pretrained.scenic_unloc import Params, to_reference
from unloc_jax.training.optimizer import learning_rate_schedule, make_optimizer


def check(name: str, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> Result:
    """Compares what is logged of every step, and the parameters' change over all of them.

    The `loss` column is the largest relative difference of a metric or a logged norm, `gradients` that of the change
    as a share of its global norm. The reference logs the norms of gradients after clipping and of updated parameters.
    """
    golden = Golden(arrays, meta)
    optimizer, rate = make_optimizer(golden.config), learning_rate_schedule(golden.config)
    limit = golden.config.optimizer.max_grad_norm or np.inf
    params, state = golden.params, optimizer.init(golden.params)

    @jax.jit
    def step(params: Params, state: Any) -> tuple:
        (_, forward), gradients = jax.value_and_grad(golden.loss, has_aux=True)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, gradients, updates, forward.all_pairs

    worst = 0.0
    with golden.reference_defects():
        for number, logged in enumerate(meta["steps"]):
            params, state, gradients, updates, localization = step(params, state)
            logs = {
                "l2_grads": min(float(optax.global_norm(gradients)), limit),
                "l2_params": optax.global_norm(params),
                "l2_updates": optax.global_norm(updates),
                "learning_rate": rate(number),
            }
            worst = max(worst, *(relative(logs[key], theirs) for key, theirs in logged["logs"].items()))
            metrics = golden.metrics(localization)
            for key, theirs in logged["metrics"].items():
                worst = max(worst, *(relative(a, b) for a, b in zip(metrics[key], theirs)))
    change = jax.tree.map(lambda after, before: np.asarray(after) - np.asarray(before), params, golden.params)
    scale = float(optax.global_norm(change))
    apart = projected_difference(to_reference(change, golden.config, golden.naming), arrays, "delta", scale)
    passed = worst <= PROGRESS and apart <= PROGRESS
    return Result(name, None, worst, apart, passed, "; ".join([f"{len(meta['steps'])} steps", *golden.notes]))
