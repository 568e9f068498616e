"""Goldens of training: some steps of the reference's trainer, through our loss and our optimizer."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import numpy as np
import optax

from tests.golden_checks.imported import Golden
from tests.golden_checks.numbers import PROGRESS, largest, projected_difference, relative
from tests.golden_checks.result import Result
from unloc_jax.pretrained.scenic_unloc import Params, leaves, to_reference
from unloc_jax.training.optimizer import learning_rate_schedule, make_optimizer


def check(name: str, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> Result:
    """Compares what is logged of every step, and the parameters' change over all of them.

    The `loss` column is the largest relative difference of a metric or a logged norm, `gradients` that of the change
    as a share of its global norm. The reference logs the norms of gradients after clipping and of updated parameters.
    """
    golden = Golden(arrays, meta)
    with _reference_decay(golden):
        optimizer = make_optimizer(golden.config)
    rate = learning_rate_schedule(golden.config)
    limit = golden.config.optimizer.max_grad_norm or np.inf
    params, state = golden.params, optimizer.init(golden.params)

    @jax.jit
    def step(params: Params, state: Any) -> tuple:
        (_, forward), gradients = jax.value_and_grad(golden.loss, has_aux=True)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, gradients, updates, forward.all_pairs

    differences = []
    with golden.reference_defects():
        for number, logged in enumerate(meta["steps"]):
            params, state, gradients, updates, localization = step(params, state)
            logs = {
                "l2_grads": min(float(optax.global_norm(gradients)), limit),
                "l2_params": optax.global_norm(params),
                "l2_updates": optax.global_norm(updates),
                "learning_rate": rate(number),
            }
            differences += [relative(logs[key], theirs) for key, theirs in logged["logs"].items()]
            metrics = golden.metrics(localization)
            for key, theirs in logged["metrics"].items():
                differences += [relative(a, b) for a, b in zip(metrics[key], theirs)]
    change = jax.tree.map(lambda after, before: np.asarray(after) - np.asarray(before), params, golden.params)
    scale = float(optax.global_norm(change))
    changes = to_reference(change, golden.config, golden.naming)
    if golden.config.optimizer.name != "sgd":
        # Adam divides a gradient by its own size: of these, which have none, it makes steps of noise.
        changes = {name: array for name, array in changes.items() if not name.endswith("/key/bias")}
        arrays = {key: array for key, array in arrays.items() if not key.endswith("/key/bias")}
        golden.note("the biases of attention keys are left out: their gradient is 0, Adam's step is noise")
    apart = projected_difference(changes, arrays, "delta", scale)
    worst = largest(differences)
    passed = worst <= PROGRESS and apart <= PROGRESS
    return Result(name, None, worst, apart, passed, "; ".join([f"{len(meta['steps'])} steps", *golden.notes]))


@contextlib.contextmanager
def _reference_decay(golden: Golden) -> Iterator[None]:
    """Weights that decay as in the reference: all, or all but those with one axis."""
    if not golden.config.optimizer.weight_decay:
        yield
        return
    spares = golden.meta["config"]["optimizer_configs"].get("skip_scale_and_bias_regularization")
    decayed = {
        "/".join(leaf.path): not spares or golden.reference_params[leaf.reference].ndim != 1
        for leaf in leaves(golden.config.model, golden.naming)
    }
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    mask = lambda params: jax.tree_util.tree_map_with_path(lambda path, _: decayed[name(path)], params)
    golden.note("the weights that decay are the reference's; the product's are the kernels")
    with mock.patch("unloc_jax.training.optimizer._decayed", mask):
        yield
