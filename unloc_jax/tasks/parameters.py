"""The parameters of a task's model: new ones, their shapes, their number."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.config import ModelConfig
from unloc_jax.tasks.base import Task


def input_shapes(model: ModelConfig, crop_size: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Returns (shape of a place, dtype) of every modality's input, [B, T, *shape]."""
    return {
        name: ((crop_size, crop_size, 3), jnp.uint8)
        if modality.reads_frames
        else ((model.audio.window_samples,), jnp.int16)
        if modality.reads_sound
        else ((modality.feature_dim,), jnp.float32)
        for name, modality in model.modalities.items()
    }


def init_params(task: Task, seed: int) -> Any:
    """Returns new parameters of a task's model, a tree of float32 arrays (traceable)."""
    config = task.config
    data, text = config.data, config.model.text
    frames = (1, data.num_frames)
    inputs = {
        name: jnp.zeros((*frames, *shape), dtype)
        for name, (shape, dtype) in input_shapes(config.model, data.crop_size).items()
    }
    texts = jnp.zeros((1, 1, text.max_tokens), jnp.int32)
    if text.encoder == "embeddings":
        texts = jnp.zeros((1, 1, text.width), jnp.float32)
    key = jax.random.key(seed)
    params = task.model.init(key, inputs, jnp.ones(frames, bool), texts)["params"]
    if "contrastive_projection" in params:
        kernel = params["contrastive_projection"]["kernel"]
        draw = _OldProjection(kernel.shape[1]).init(key, jnp.zeros((1, kernel.shape[0])))
        params = {**params, "contrastive_projection": draw["params"]["moment_projection"]}
    return params


class _OldProjection(nn.Module):
    """Draws the contrastive projection under its old name, as flax draws by name: a seed keeps giving one model."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.width, name="moment_projection")(x)


def abstract_params(task: Task) -> Any:
    """Returns shapes and dtypes of the parameters."""
    return jax.eval_shape(lambda: init_params(task, 0))


def count_parameters(params: Any) -> int:
    """Returns the number of elements of all arrays."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
