"""Encodes the vocabularies of frozen text towers, which are the same in every step, once before the first."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from unloc_jax.model.clip import TextFeatures
from unloc_jax.tasks import Task
from unloc_jax.training.sharding import replicated

_TEXTS_AT_A_TIME = 1024

Vocabularies = dict[str, TextFeatures]


def constant_vocabularies(tasks: Mapping[str, Task], params: Any, mesh: Mesh) -> Vocabularies:
    """Encodes the classes of each task whose text tower is frozen.

    Args:
      tasks: By name.
      params: Tree of the model's parameters, float32.
      mesh: Results are replicated over its devices.

    Returns:
      By task, the features [1, C, R, ...] of C classes in R prompts, for `Batch.vocabulary`.
    """
    return {
        name: _encoded(task, params, mesh) for name, task in tasks.items() if task.has_constant_vocabulary
    }


def _encoded(task: Task, params: Any, mesh: Mesh) -> TextFeatures:
    """Encodes the classes of one task, at most `_TEXTS_AT_A_TIME` texts at a time."""
    texts = np.asarray(task.encoding(task.classes))  # [C, R, …]
    encode = jax.jit(task.encode_vocabulary, out_shardings=replicated(mesh))
    at_a_time = max(1, _TEXTS_AT_A_TIME // texts.shape[1])
    parts = [
        encode(params, texts[None, start : start + at_a_time]) for start in range(0, len(texts), at_a_time)
    ]
    join = jax.jit(lambda *x: jnp.concatenate(x, axis=1), out_shardings=replicated(mesh))
    return jax.tree.map(join, *parts)
