"""A checkpoint, ready for evaluation or prediction on this machine's devices."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from unloc_jax import config as config_lib
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.errors import UserError
from unloc_jax.tasks import Task, make_task
from unloc_jax.tasks.parameters import abstract_params
from unloc_jax.training.checkpoints.reading import find_checkpoint, load_checkpoint, load_params
from unloc_jax.training.cpu_collectives import connect
from unloc_jax.training.sharding import make_mesh, tree_shardings


@dataclasses.dataclass
class LoadedModel:
    """The content of a checkpoint directory, ready to run on this machine's devices.

    Attributes:
      step_dir: the directory it came from.
      task: the task, which holds the model and the config.
      params: the model's parameters; None if they are not loaded (see `load_model`).
      metadata: of the dataset that the task was trained on.
      task_name: name of this task among the checkpoint's tasks.
      mesh: over all devices.
    """

    step_dir: Path
    task: Task
    params: Any
    metadata: DatasetMetadata
    mesh: jax.sharding.Mesh
    task_name: str


# Settings that evaluation may change: they change what a model is asked for, not the model.
_FREE = ("evaluation.", "data.evaluation_windows", "data.window_overlap", "data.reader", "data.num_workers")


def load_model(
    checkpoint: Path,
    task_name: str | None = None,
    overrides: Sequence[str] = (),
    *,
    with_params: bool = True,
) -> LoadedModel:
    """Restores a checkpoint for evaluation or prediction; needs nothing but its directory.

    Args:
      checkpoint: a workdir, or one step's directory.
      task_name: which task of a checkpoint with several; None = the first.
      overrides: "KEY=VALUE" strings that change how it is evaluated.
      with_params: False only checks and prepares; `loaded` then adds the parameters.

    Raises:
      UserError: there is no checkpoint, it is damaged or has no such task; or an override of any other setting.
    """
    step_dir = find_checkpoint(checkpoint)
    experiment, metadata = load_checkpoint(step_dir)
    views = experiment.task_configs
    task_name = task_name or next(iter(views))
    if task_name not in views:
        raise UserError(f"--task={task_name}: the tasks of {step_dir} are {', '.join(views)}.")
    config = views[task_name]
    for override in overrides:
        if not override.startswith(_FREE):
            free = ", ".join(f"config.{key}" for key in _FREE)
            raise UserError(f"--config.{override}: of a trained model only {free} can change.")
    if overrides:
        config = config_lib.with_overrides(json.loads(config_lib.to_json(config)), overrides)
    # The mesh of training may not fit these devices; evaluation only splits videos, in batches of
    # at least one per device, and every device has all parameters.
    devices = jax.device_count()
    batch_size = -(-config.evaluation.batch_size // devices) * devices
    config = dataclasses.replace(
        config,
        mesh=dataclasses.replace(config.mesh, data=-1, context=1, model=1, strategy="dp"),
        evaluation=dataclasses.replace(config.evaluation, batch_size=batch_size),
    )
    mesh = make_mesh(config.mesh, batch_size)
    connect(mesh)
    task = make_task(config, metadata[task_name], experiment)
    model = LoadedModel(step_dir, task, None, metadata[task_name], mesh, task_name)
    return loaded(model) if with_params else model


def loaded(model: LoadedModel) -> LoadedModel:
    """Returns a model with its parameters, which are read unless they are there.

    Raises:
      UserError: The checkpoint is damaged.
    """
    if model.params is not None:
        return model
    abstract = abstract_params(model.task)
    shardings = tree_shardings(abstract, model.mesh, model.task.config.mesh.strategy)
    abstract = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings
    )
    return dataclasses.replace(model, params=load_params(model.step_dir, abstract))
