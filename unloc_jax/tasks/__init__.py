"""Tasks by name. A task is a small description, not a fork of the trainer."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from unloc_jax.config import Config
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.errors import UserError
from unloc_jax.model.unloc import HEADS, UnLoc
from unloc_jax.tasks.action_segmentation import ActionSegmentation
from unloc_jax.tasks.base import Task
from unloc_jax.tasks.classification import Classification, VideoTextContrastive
from unloc_jax.tasks.highlight_detection import HighlightDetection
from unloc_jax.tasks.localization_task import LocalizationTask
from unloc_jax.tasks.moment_retrieval import MomentRetrieval
from unloc_jax.tasks.outputs import Output, SplitPredictions
from unloc_jax.tasks.temporal_action_localization import TemporalActionLocalization
from unloc_jax.tasks.texts import text_encoding

__all__ = [
    "TASKS",
    "LocalizationTask",
    "Output",
    "SplitPredictions",
    "Task",
    "make_model",
    "make_task",
    "task_for",
]

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        MomentRetrieval,
        TemporalActionLocalization,
        HighlightDetection,
        ActionSegmentation,
        Classification,
        VideoTextContrastive,
    )
}


def task_for(annotation_format: str, has_classes: bool) -> type[Task]:
    """Returns the task that a dataset is for: one made for its format, else the first for its kind of texts."""
    made_for_it = [task for task in TASKS.values() if annotation_format in task.annotation_formats]
    others = [task for task in TASKS.values() if task.with_vocabulary == has_classes]
    return [*made_for_it, *others][0]


def make_task(config: Config, metadata: DatasetMetadata, shared: Config | None = None) -> Task:
    """Returns the task of a config, with its model.

    Args:
      config: the experiment, seen from this task (see `Config.task_configs`).
      metadata: of its dataset.
      shared: the whole experiment, if it has several tasks: its model has the heads of all of them.

    Raises:
      UserError: the dataset does not have what the task needs.
    """
    kind = TASKS[config.task]
    if config.with_vocabulary and not metadata.classes:
        raise UserError(
            f"config.task = {config.task!r} needs a dataset with classes; {config.data.dir} has queries."
        )
    classes = tuple(metadata.classes) if config.with_vocabulary else ()
    unseen = tuple(metadata.unseen_classes) if config.with_vocabulary else ()
    model = make_model(shared or config, config.data.num_frames)
    return kind(config, model, text_encoding(config), classes, unseen or classes)


def make_model(config: Config, num_frames: int) -> UnLoc:
    """Returns the model of a whole experiment over T frames, with the heads that its tasks and stages need."""
    dtype = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}.get(config.model.dtype)
    if dtype is None:  # "auto"
        dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return UnLoc(config.model, num_frames, _heads(config), dtype)


def _heads(config: Config) -> tuple[str, ...]:
    wanted: Iterable[str] = (head for view in config.task_configs.values() for head in TASKS[view.task].heads)
    needed = {*wanted, *(("contrastive",) if config.contrastive.steps else ())}
    return tuple(head for head in HEADS if head in needed)
