"""Tasks by name. A task is a small description, not a fork of the trainer."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from unloc_jax.config import Config
from unloc_jax.errors import UserError
from unloc_jax.model.unloc import UnLoc
from unloc_jax.tasks.base import Found, Task
from unloc_jax.tasks.moment_retrieval import MomentRetrieval
from unloc_jax.tasks.temporal_action_localization import TemporalActionLocalization
from unloc_jax.text import tokenize

__all__ = ["Found", "Task", "make_task"]

_TASKS: dict[str, type[Task]] = {
    "moment_retrieval": MomentRetrieval,
    "temporal_action_localization": TemporalActionLocalization,
}


def make_task(config: Config, classes: Sequence[str] | None) -> Task:
    """The task of a config, with its model.

    Args:
      config: the experiment.
      classes: the dataset's vocabulary, None if its videos have their own queries.

    Raises:
      UserError: the dataset does not have what the task needs.
    """
    with_vocabulary = config.task == "temporal_action_localization"
    if with_vocabulary and not classes:
        raise UserError(
            f"config.task = {config.task!r} needs a dataset with classes; {config.data.dir} has queries."
        )
    used = tuple(classes or ()) if with_vocabulary else ()
    dtype = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}.get(config.model.dtype)
    if dtype is None:  # "auto"
        dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    model = UnLoc(config.model, config.data.num_frames, dtype)
    return _TASKS[config.task](config, model, used, tokenize(used, config.model.text.max_tokens))
