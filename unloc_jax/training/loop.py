"""The training loop.

Order of operations:
  1. Set up the mesh, the tasks with their model and the optimizer; every error in a config is found here
     (run_setup.py). The processes of the run connect (cpu_collectives.py).
  2. Hold the workdir (workdir_lock.py) and open it: restore the latest checkpoint, or create a new state directly in
     its shards (with config.init_from, from another checkpoint's parameters). A validation that a stop has cut short
     comes first.
  3. For every step: the batches of its tasks (prefetch.py) → device → the step of its stage (contrastive, then the
     tasks).
  4. One step later: check that the loss was finite (non_finite.py).
  5. Every log_every_steps: write metrics and print a line (progress.py, metric_writers.py).
  6. Every evaluation.every_steps of the second stage, and at the end: evaluate the validation split of every task
     (the test split if there is none) with the same code as `unloc evaluate` (validation.py).
  7. Every checkpoint.every_steps, after a validation that is among the best, at the end, and on SIGTERM
     (preemption.py): write a checkpoint.

The parameters after step n are a function of (config, datasets, n) alone: batches, dropout and prompts are keyed by
the step. A run that was killed and restarted therefore ends like one that was not. docs/failures.md describes what
happens when something goes wrong, and every number in the log.
"""

from collections.abc import Mapping
from pathlib import Path

from unloc_jax.config import Config
from unloc_jax.dataset import Dataset
from unloc_jax.processes import is_main
from unloc_jax.training.cpu_collectives import connect
from unloc_jax.training.preemption import Preemption, stop_if_signalled
from unloc_jax.training.prefetch import Prefetcher
from unloc_jax.training.run import Due, TrainingRun
from unloc_jax.training.run_setup import Setup, set_up
from unloc_jax.training.terminal import log, log_summary
from unloc_jax.training.watcher import Watcher
from unloc_jax.training.workdir_lock import holding


def train(
    config: Config, workdir: Path, datasets: Mapping[str, Dataset], watcher: Watcher | None = None
) -> dict[str, float]:
    """Trains in `workdir`, or continues the run there, and returns the metrics of the last validation.

    A finished run is left unchanged; {} is returned.

    Args:
      config: The experiment.
      workdir: Where checkpoints and metrics are written.
      datasets: One per task, by the names in `config.task_configs`.
      watcher: Is shown the run's numbers and the predictions of its validations.

    Raises:
      UserError: The config does not fit the devices, a dataset or the workdir; a loss is not finite; a checkpoint
        cannot be written; another training writes to the workdir.
      TryAgain: SIGTERM was received; the state is saved.
    """
    setup = set_up(config, datasets)
    config = setup.config
    connect(setup.mesh)
    preemption = Preemption()
    stop_if_signalled()
    watcher = watcher if watcher and is_main() else Watcher()
    with (
        preemption,  # until the last checkpoint is written
        holding(workdir, log, lambda: preemption.signalled) as check_workdir,
    ):
        run = TrainingRun(setup, datasets, workdir, preemption, watcher, check_workdir)
        return _train(run, setup, datasets, workdir, preemption, watcher)


def _train(
    run: TrainingRun,
    setup: Setup,
    datasets: Mapping[str, Dataset],
    workdir: Path,
    preemption: Preemption,
    watcher: Watcher,
) -> dict[str, float]:
    config = setup.config
    first_step, total = run.first_step, config.total_steps
    if run.is_finished:
        log(f"nothing to do: {workdir} is trained ({first_step} steps)")
        watcher.started(config, workdir)
        run.close()
        return {}
    run.start()
    watcher.started(config, workdir)
    if first_step:
        log(f"continuing from step {first_step} of {total} in {workdir}")
    log_summary(setup, datasets)

    with run, Prefetcher(config, datasets, first_step, lambda: preemption.signalled) as prefetcher:
        if preemption.reached() or (run.validation_due and not run.validate(first_step)):
            raise run.stopped(first_step)
        for step in range(first_step, total):
            batches = run.next_batches(prefetcher, step)
            if batches is None:
                if step > first_step:
                    run.save(step)
                raise run.stopped(step)
            metrics = run.step(step, batches)

            done, stopping = step + 1, preemption.reached()
            due = Due.after(config, done)
            if due.log or due.validation or due.checkpoint or stopping or run.trace_ends(done):
                run.settle(done)
            run.after_trace(done)
            if due.log:
                run.log(done, metrics)
            run.validation_due = due.validation
            if due.validation and not stopping:
                stopping = not run.validate(done)
            if due.checkpoint or run.is_best or stopping:
                run.save(done)
            if stopping and (run.validation_due or not due.last):
                raise run.stopped(done)
    return run.validation_metrics
