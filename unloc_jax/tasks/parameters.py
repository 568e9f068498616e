"""The parameters of a task's model: new ones, their shapes, their number."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.tasks.base import Task


def init_params(task: Task, seed: int) -> Any:
    """Returns new parameters of a task's model, a tree of float32 arrays (traceable)."""
    config = task.config
    data, text = config.data, config.model.text
    frames = (1, data.num_frames)
    inputs = {
        name: jnp.zeros((*frames, data.crop_size, data.crop_size, 3), jnp.uint8)
        if modality.encoder == "clip"
        else jnp.zeros((*frames, modality.feature_dim), jnp.float32)
        for name, modality in config.model.modalities.items()
    }
    texts = jnp.zeros((1, 1, text.max_tokens), jnp.int32)
    if text.encoder == "embeddings":
        texts = jnp.zeros((1, 1, text.width), jnp.float32)
    return task.model.init(jax.random.key(seed), inputs, jnp.ones(frames, bool), texts)["params"]


def abstract_params(task: Task) -> Any:
    """Returns shapes and dtypes of the parameters."""
    return jax.eval_shape(lambda: init_params(task, 0))


def count_parameters(params: Any) -> int:
    """Returns the number of elements of all arrays."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
