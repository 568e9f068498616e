"""Scenic's own UnLoc, run now: goldens of inputs that are drawn here instead of stored.

Scenic is an oracle, not a dependency: nothing of the product imports it.
"""

import functools
import importlib
import os
import sys
from typing import Any
from unittest import mock

import flax
import jax
import ml_collections
import numpy as np

from tests.golden_checks.numbers import projection

# Scenic imports these at the top of modules whose other functions are compared; nothing compared needs them.
_STAND_INS = (
    "activitynet",
    "big_vision",
    "pandas",
    "scenic.train_lib_deprecated",
    "sklearn",
    "clu",
    "tensorboard",
)


def scenic_models() -> Any:
    """Returns Scenic's module of UnLoc models, installed or from the checkout that $SCENIC names.

    Raises:
      ImportError: there is none, or it needs a package that is missing.
    """
    if checkout := os.environ.get("SCENIC"):
        sys.path.append(checkout)
    while True:
        try:
            return importlib.import_module("scenic.projects.unloc.model")
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if not missing.startswith(_STAND_INS) or missing in sys.modules:
                raise
            sys.modules[missing] = mock.MagicMock()


def drawn_now(
    models: Any, arrays: dict[str, np.ndarray], meta: dict[str, Any], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns a golden of a model whose inputs, targets and parameters are new and whose outputs Scenic computes.

    Args:
      models: of `scenic_models`.
      arrays, meta: a stored golden; its config, shapes and masks are taken.
      seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    arrays = {key: _other(rng, key, value) for key, value in arrays.items() if not _is_result(key)}
    config = ml_collections.ConfigDict(meta["config"])
    model = models.MODELS[config.model_name](
        config, {"num_classes": config.dataset_configs.num_classes, "target_is_onehot": True}
    )
    params, inputs, batch = (_nested(arrays, prefix) for prefix in ("params/", "inputs/", "batch/"))
    batch["inputs"] = inputs
    apply = functools.partial(model.flax_model.apply, task=meta["task"], train=False, debug=False)

    def outputs(params: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        logits = apply({"params": params}, batch["inputs"])
        tokens = {
            "video_tokens": model.flax_model.apply(
                {"params": params}, batch["inputs"], method=model.flax_model.encode_video
            ),
            "text_tokens": model.flax_model.apply(
                {"params": params}, batch["inputs"], meta["task"], method=model.flax_model.encode_text
            ),
        }
        return model.loss_function(logits, batch), {"logits": logits, **tokens}

    # Its losses gather over the devices of a pmap.
    run = jax.pmap(jax.value_and_grad(outputs, has_aux=True), axis_name="batch", devices=jax.devices()[:1])
    with jax.default_matmul_precision("highest"):
        (loss, found), gradients = jax.tree.map(
            lambda x: np.asarray(x[0], np.float32), run(*jax.tree.map(lambda x: x[None], (params, batch)))
        )
    flat = {
        "/".join(path): x.astype(np.float64) for path, x in flax.traverse_util.flatten_dict(gradients).items()
    }
    arrays |= {f"out/{name}": value for name, value in found.items()} | {"out/loss": loss}
    arrays |= {f"gradnorm/{name}": np.linalg.norm(x) for name, x in flat.items()}
    arrays |= {f"gradproj/{name}": np.asarray(projection(x)) for name, x in flat.items()}
    arrays["grad/global_norm"] = np.sqrt(sum(np.sum(x**2) for x in flat.values()))
    return arrays, meta | {"metrics": {}}


def _is_result(key: str) -> bool:
    return key.startswith(("out/", "grad/", "gradnorm/", "gradproj/"))


def _other(rng: np.random.Generator, key: str, value: np.ndarray) -> np.ndarray:
    """Draws other values of the same kind; masks, types and the end tokens of texts stay."""
    if key.startswith("params/"):
        return (value + rng.normal(0, 0.01, value.shape)).astype(value.dtype)
    if key.endswith("input_word_ids"):
        end = value == value.max(-1, keepdims=True)
        return np.where(end, value, rng.integers(1, value.max() - 1, value.shape)).astype(value.dtype)
    if key == "batch/displacements" or (
        key.startswith("inputs/") and value.dtype.kind == "f" and "mask" not in key
    ):
        return rng.permuted(value.ravel()).reshape(value.shape)
    return value


def _nested(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, Any]:
    flat = {
        tuple(key.removeprefix(prefix).split("/")): x for key, x in arrays.items() if key.startswith(prefix)
    }
    return flax.traverse_util.unflatten_dict(flat)
