"""What a run is made of, before its workdir is looked at: everything that can be wrong in a config fails here."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import optax
from jax.sharding import Mesh

from unloc_jax.config import Config
from unloc_jax.dataset import Dataset
from unloc_jax.tasks import Task, make_task
from unloc_jax.training.init_from import initialize
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.regression_ranges import with_ranges_from_data
from unloc_jax.training.sharding import lay_out, make_mesh
from unloc_jax.training.state import TrainState, abstract_state, init_state
from unloc_jax.training.step import Loss, make_train_step
from unloc_jax.training.task_mixing import loss_weights

STAGES = ("pretrain", "train")


@dataclasses.dataclass(frozen=True)
class Setup:
    """Tasks, optimizer and shapes on the devices that are here; nothing is compiled or computed yet.

    Attributes:
      config: the experiment, with what its datasets decide.
      mesh: over all devices.
      tasks: by name, with models that are spread over the mesh.
      optimizer: of all parameters.
      abstract: shapes, dtypes and shardings of the state.
    """

    config: Config
    mesh: Mesh
    tasks: dict[str, Task]
    optimizer: optax.GradientTransformation
    abstract: TrainState

    def new_state(self, say: Callable[[str], None]) -> TrainState:
        """As at the very start: fresh parameters, and with config.init_from those of another checkpoint, as `say` is
        told."""
        state = init_state(self.tasks, self.optimizer, self.mesh)
        return initialize(self.config, state, say) if self.config.init_from else state

    def steps(self) -> dict[str, Callable]:
        """By stage: (state, batches on the devices, vocabularies) → (state, metrics), see `make_train_step`."""
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
    """Args as `train` has them.

    Raises:
      UserError: a config that does not fit the devices or a dataset.
    """
    config = with_ranges_from_data(config, datasets)
    views = config.task_configs
    sizes = {}
    for name, view in views.items():
        where = f"tasks.{name}." if config.tasks else ""
        sizes[f"{where}batch_size"] = view.batch_size
        sizes[f"{where}evaluation.batch_size"] = view.evaluation.batch_size
    # One mesh for all; each call refuses a size that it cannot split.
    mesh, *_ = [make_mesh(config.mesh, size, key) for key, size in sizes.items()]
    tasks = {
        name: lay_out(make_task(view, datasets[name].facts, config), mesh) for name, view in views.items()
    }
    optimizer = make_optimizer(config)
    return Setup(config, mesh, tasks, optimizer, abstract_state(tasks, optimizer, mesh))
