"""One run in its workdir: state, checkpoints and metrics. `loop.py` defines the order of operations."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import jax

from unloc_jax import config as config_lib
from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.dataset import Dataset
from unloc_jax.errors import TryAgain, UserError
from unloc_jax.processes import is_main
from unloc_jax.tasks.predict_split import to_device
from unloc_jax.training.checkpoints.writing import Checkpoints
from unloc_jax.training.clock import Clock, first_start, record_start
from unloc_jax.training.frozen_vocabulary import constant_vocabularies
from unloc_jax.training.metric_writers import MetricWriter, start_wandb, validated
from unloc_jax.training.non_finite import NonFiniteSteps, at_step
from unloc_jax.training.optimizer import learning_rates
from unloc_jax.training.preemption import Preemption
from unloc_jax.training.prefetch import Prefetcher
from unloc_jax.training.profiling import Trace
from unloc_jax.training.progress import Progress
from unloc_jax.training.run_setup import Setup
from unloc_jax.training.sharding import batch_sharding
from unloc_jax.training.state import TrainState
from unloc_jax.training.task_mixing import videos_of_step
from unloc_jax.training.terminal import log
from unloc_jax.training.validation import Validation
from unloc_jax.training.watcher import Watcher
from unloc_jax.whole_writes import write_result

Metrics = dict[str, jax.Array]

_CONFIG_FILE = "config.json"


@dataclasses.dataclass(frozen=True)
class Due:
    """The actions due after a step. They depend on (config, steps done) alone, so all processes agree."""

    log: bool
    validation: bool
    checkpoint: bool
    last: bool

    @classmethod
    def after(cls, config: Config, done: int) -> Self:
        """Returns what is due after `done` steps; validations are counted from the start of their stage."""
        last, since = done == config.total_steps, done - config.contrastive.steps
        return cls(
            log=done % config.log_every_steps == 0 or last,
            validation=since > 0 and (since % config.evaluation.every_steps == 0 or last),
            checkpoint=done % config.checkpoint.every_steps == 0 or last,
            last=last,
        )


class TrainingRun:
    """Holds the state of a run and performs the operations of the loop.

    As a context manager it writes checkpoints and metrics; leaving it waits for the last write.

    Args:
      setup: Tasks, optimizer and steps.
      datasets: One per task.
      workdir: Where checkpoints and metrics are written; the latest checkpoint there determines the first step.
      preemption: Checked during validations and while waiting for a batch.
      watcher: Is shown what is logged.
      check_workdir: Is called before each write; raises UserError if the workdir is not this run's any more.

    Raises:
      UserError: The workdir cannot be written, or holds another experiment or a damaged checkpoint.

    Attributes:
      first_step: Number of steps that were done before.
      validation_due: The last validation was cut short by a stop.
      validation_metrics: Metrics of the latest validation.
    """

    def __init__(
        self,
        setup: Setup,
        datasets: Mapping[str, Dataset],
        workdir: Path,
        preemption: Preemption,
        watcher: Watcher,
        check_workdir: Callable[[], None],
    ):
        self._check_workdir = check_workdir
        self._setup, self._datasets, self._workdir, self._preemption = setup, datasets, workdir, preemption
        self._config, self._watcher = setup.config, watcher
        dataset_metadata = {name: dataset.metadata.to_dict() for name, dataset in datasets.items()}
        self._checkpoints = Checkpoints(workdir, self._config, dataset_metadata, log)
        history = self._checkpoints.history
        self.first_step = self._checkpoints.latest_step or 0
        self.validation_due = history.get("validation_due", False) and not validated(workdir, self.first_step)
        self.validation_metrics: dict[str, float] = {}
        self._is_best = False

    @property
    def is_finished(self) -> bool:
        """Whether all steps and the last validation are done."""
        return self.first_step >= self._config.total_steps and not self.validation_due

    def close(self) -> None:
        """Releases the workdir of a run that does not start."""
        self._checkpoints.close()

    def start(self) -> None:
        """Restores the latest state or creates a new one, and prepares everything else that steps need."""
        config, setup, history = self._config, self._setup, self._checkpoints.history
        self._write_config()
        self._clock = Clock(first_start(self._workdir), history.get("productive_s", 0.0))
        wandb = start_wandb(config, self._workdir, self._clock.started_at)
        self._state = self._last_saved()
        self._steps, self._rates = setup.steps(), learning_rates(config)
        self._compiled: set[tuple[str, ...]] = set()
        self._vocabularies = constant_vocabularies(setup.tasks, self._state.params, setup.mesh)
        self._validation = Validation(setup.tasks, self._datasets, setup.mesh, bool(config.tasks))
        self._non_finite = NonFiniteSteps(
            config,
            lambda step: videos_of_step(config, self._datasets, step),
            log,
            history.get("steps_left_out", 0),
        )
        self._progress = Progress(config, setup.tasks, self.first_step, self._clock)
        self._trace = Trace(config.profile, self._workdir, log)
        self._writer = MetricWriter(self._workdir, self.first_step, wandb, config.checkpoint.on_error, log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        if kind is None:
            self._trace.close()
        self._checkpoints.__exit__(kind, error, trace)

    def next_batches(self, prefetcher: Prefetcher, step: int) -> dict[str, Batch] | None:
        """Returns the batches of a step (from 0) on the devices, by task, or None if it is time to stop before it."""
        with self._clock.measure("input"):
            batches = prefetcher.take(step)
            if batches is None:
                return None
            sharding = batch_sharding(self._setup.mesh)
            return {name: to_device(batch, sharding) for name, batch in batches.items()}

    def step(self, step: int, batches: dict[str, Batch]) -> Metrics:
        """Dispatches one step (from 0) and returns its metrics, which may not be computed yet.

        Only then does it check the preceding step, so that the devices never wait for the host.
        """
        done, stage = step + 1, self._stage(step)
        program = (stage, *batches)
        is_new = program not in self._compiled
        self._trace.before(done)
        with self._clock.measure("compile" if is_new else "compute") as took:
            metrics = self._run_step(program, step, batches)
            if self._roll_back_if_due(step):
                metrics = self._run_step(program, step, batches)
            self._non_finite.add(done, metrics)
            if is_new:
                jax.block_until_ready(self._state)
        if is_new:
            self._compiled.add(program)
            which = f" of {', '.join(batches)}" if self._config.tasks else ""
            log(f"{stage} step{which} compiled in {took.seconds:.1f} s")
        return metrics

    def _run_step(self, program: tuple[str, ...], step: int, batches: dict[str, Batch]) -> Metrics:
        # Constants are transferred to the devices while a program is compiled. Afterwards no step may transfer
        # anything implicitly, because every step would wait for it.
        guard = "disallow" if program in self._compiled else "allow"
        with jax.profiler.StepTraceAnnotation("train", step_num=step + 1), jax.transfer_guard(guard):
            self._state, metrics = self._steps[program[0]](self._state, batches, self._vocabularies)
        return metrics

    def settle(self, done: int) -> None:
        """Waits for the dispatched steps and, if one was not finite, acts upon it."""
        with self._clock.measure("compute"):
            self._roll_back_if_due(done)

    def trace_ends(self, done: int) -> bool:
        """Returns whether the profile ends with this step, which must be settled first."""
        return self._trace.ends(done)

    def after_trace(self, done: int) -> None:
        """Ends the profile if this step is its last."""
        self._trace.after(done)

    def log(self, done: int, metrics: Metrics) -> None:
        """Writes the metrics of the last step, and speed and time since the last call."""
        stage = self._stage(done - 1)
        numbers = {name: float(value) for name, value in jax.device_get(metrics).items() if name != "finite"}
        self._write(
            done,
            {f"{stage}/{name}": value for name, value in numbers.items()}
            | {"steps_left_out": self._non_finite.count}
            | self._rates(done - 1)
            | self._progress.report(stage, done, numbers),
        )

    def _write(self, done: int, scalars: dict[str, float]) -> None:
        self._check_workdir()
        self._writer.write(done, scalars)
        self._watcher.logged(done, scalars)

    def validate(self, done: int) -> bool:
        """Validates the state and records whether it is among the best; returns False if it was stopped."""
        self.validation_due = True
        with self._clock.measure("evaluation"):
            found = self._validation(
                self._state.best_params, done, self._preemption.watched, self._watcher.validated
            )
            if found is None:
                return False
            self.validation_due, self.validation_metrics = False, found
            self._write(done, {f"validation/{name}": value for name, value in found.items()})
            self._is_best = self._checkpoints.is_best(done, found)
        return True

    @property
    def is_best(self) -> bool:
        """Whether the latest validation was one of the best so far and its state is not saved yet."""
        return self._is_best

    def save(self, done: int) -> None:
        """Writes a checkpoint in the background."""
        self._check_workdir()
        with self._clock.measure("checkpoint"):
            history = {
                "validation_due": self.validation_due,
                "productive_s": self._clock.productive_s,
                "steps_left_out": self._non_finite.count,
            }
            self._checkpoints.save(self._state, done, history)
        self._is_best = False
        if is_main() and not (self._workdir / _CONFIG_FILE).exists():  # somebody has deleted the workdir
            with contextlib.suppress(UserError):  # `save` has reported it
                self._write_config()
                record_start(self._workdir, self._clock.started_at)

    def _write_config(self) -> None:
        if is_main():
            write_result(self._workdir / _CONFIG_FILE, config_lib.to_json(self._config))

    def _stage(self, step: int) -> str:
        return "contrastive" if step < self._config.contrastive.steps else "train"

    def _last_saved(self) -> TrainState:
        """Returns the state of the latest checkpoint, or the initial state if there is none."""
        if self._checkpoints.latest_step is not None:
            return self._checkpoints.restore(self._setup.abstract)
        return self._setup.new_state(log)

    def _roll_back_if_due(self, done: int) -> bool:
        """Checks the dispatched steps and restores the last checkpoint's parameters if one of them requires it."""
        if not self._non_finite.rollback_due(self._checkpoints.latest_step):
            return False
        with self._clock.measure("checkpoint"):
            self._checkpoints.wait()
            self._clock.productive_s = self._checkpoints.history.get("productive_s", 0.0)
            self._state = at_step(self._last_saved(), done)
        return True

    def stopped(self, done: int) -> TryAgain:
        """Returns the error that ends a run which SIGTERM stopped after `done` steps."""
        if done == 0:
            return TryAgain("stopped by SIGTERM before the first step; the same command starts again")
        self._checkpoints.wait()
        saved = self._checkpoints.latest_step or 0
        if saved != done:  # with config.checkpoint.on_error "continue"
            return TryAgain(
                f"stopped by SIGTERM after step {done} of {self._config.total_steps}, which cannot be saved; the same "
                f"command continues from step {saved}"
            )
        return TryAgain(
            f"stopped by SIGTERM after step {done} of {self._config.total_steps}, which is saved; the same command "
            "continues from there"
        )
