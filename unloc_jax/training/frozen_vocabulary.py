"""Vocabularies of frozen text towers: the same in every step, so encoded once before the first."""

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
    """What `Batch.vocabulary` is for each task whose classes are encoded alike in every step, on all devices."""
    return {
        name: _encoded(task, params, mesh) for name, task in tasks.items() if task.has_constant_vocabulary
    }


def _encoded(task: Task, params: Any, mesh: Mesh) -> TextFeatures:
    texts = np.asarray(task.encoding(task.classes))  # [C, R, …]
    encode = jax.jit(task.encode_vocabulary, out_shardings=replicated(mesh))
    at_a_time = max(1, _TEXTS_AT_A_TIME // texts.shape[1])
    parts = [
        encode(params, texts[None, start : start + at_a_time]) for start in range(0, len(texts), at_a_time)
    ]
    join = jax.jit(lambda *x: jnp.concatenate(x, axis=1), out_shardings=replicated(mesh))
    return jax.tree.map(join, *parts)
