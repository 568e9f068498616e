"""Builds the parts of a run before its workdir is opened: every error in a config is found here."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import optax
from jax.sharding import Mesh

from unloc_jax.config import Config
from unloc_jax.config.towers import tokens_of
from unloc_jax.dataset import Dataset
from unloc_jax.tasks import Task, make_task
from unloc_jax.training.init_from import initialize
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.regression_ranges import with_ranges_from_data
from unloc_jax.training.sharding import lay_out, make_mesh
from unloc_jax.training.state import TrainState, abstract_state, init_state
from unloc_jax.training.step import Loss, make_train_step
from unloc_jax.training.task_mixing import loss_weights

STAGES = ("contrastive", "train")


@dataclasses.dataclass(frozen=True)
class Setup:
    """Tasks, optimizer and shapes on the local devices; nothing is compiled or computed yet.

    Attributes:
      config: The experiment, completed with what its datasets determine.
      mesh: Over all devices.
      tasks: By name, with models that are sharded over the mesh.
      optimizer: Of all parameters.
      abstract: Shapes, dtypes and shardings of the state.
    """

    config: Config
    mesh: Mesh
    tasks: dict[str, Task]
    optimizer: optax.GradientTransformation
    abstract: TrainState

    def new_state(self, log: Callable[[str], None]) -> TrainState:
        """Returns the initial state: new parameters, or those of config.init_from, as reported to `log`."""
        state = init_state(self.tasks, self.optimizer, self.mesh)
        return initialize(self.config, state, log) if self.config.init_from else state

    def steps(self) -> dict[str, Callable]:
        """Returns, by stage, (state, batches on devices, vocabularies) → (state, metrics); see `make_train_step`."""
        config = self.config
        return {
            stage: make_train_step(
                Loss(self.tasks, loss_weights(config), stage),
                self.optimizer,
                self.mesh,
                jax.tree.map(lambda x: x.sharding, self.abstract),
                config.seed,
                config.optimizer.ema_decay,
                config.accumulate,
            )
            for stage in STAGES
        }


def set_up(config: Config, datasets: Mapping[str, Dataset]) -> Setup:
    """Builds the parts of a run; for arguments see `train`.

    Raises:
      UserError: The config does not fit the devices or a dataset.
    """
    _ = tokens_of(config.model).added  # the vocabulary is read, or refused
    config = with_ranges_from_data(config, datasets)
    views = config.task_configs
    sizes = {}
    for name, view in views.items():
        where = f"tasks.{name}." if config.tasks else ""
        sizes[f"{where}batch_size"] = view.batch_size
        sizes[f"{where}evaluation.batch_size"] = view.evaluation.batch_size
    # All meshes are equal; each call refuses a size that it cannot split.
    mesh, *_ = [make_mesh(config.mesh, size, key) for key, size in sizes.items()]
    tasks = {
        name: lay_out(make_task(view, datasets[name].metadata, config), mesh) for name, view in views.items()
    }
    optimizer = make_optimizer(config)
    return Setup(config, mesh, tasks, optimizer, abstract_state(tasks, optimizer, mesh))
