"""The training loop.

Order of operations:
  1. the mesh, the tasks with their model, the optimizer: everything that can be wrong in a config fails here
     (run_setup.py); the processes of the run meet (cpu_collectives.py);
  2. the workdir: the latest checkpoint is restored, or a new state is made in its sharded place (and, with
     config.init_from, takes another checkpoint's parameters); a validation that a stop has cut short comes first;
  3. for every step: the batches of its tasks (feed.py) → device → the step of its stage (contrastive pretraining
     first, then the tasks);
  4. one step later: was its loss finite? (non_finite.py);
  5. every log_every_steps: numbers to the writers and the terminal (progress.py, metric_writers.py);
  6. every evaluation.every_steps of the second stage, and at the end: the validation split of every task (or else its
     test split), by the same code as `unloc evaluate` (validation.py);
  7. every checkpoint.every_steps, at a validation that is among the best, at the end, and when SIGTERM asks to stop
     (preemption.py): a checkpoint.

The parameters after step n are a function of (config, datasets, n) alone: batches, dropout and prompts are keyed by
the step. So a run that was killed and started again ends like one that was not. docs/failures.md says what happens
when something goes wrong, and what every number in the log means.
"""

from collections.abc import Mapping
from pathlib import Path

from unloc_jax.config import Config
from unloc_jax.dataset import Dataset
from unloc_jax.training.cpu_collectives import connect
from unloc_jax.training.feed import Feed
from unloc_jax.training.preemption import Preemption
from unloc_jax.training.run import Due, TrainingRun
from unloc_jax.training.run_setup import set_up
from unloc_jax.training.terminal import say, say_what_a_run_has


def train(config: Config, workdir: Path, datasets: Mapping[str, Dataset]) -> dict[str, float]:
    """Trains in `workdir`, or continues what was begun there, and returns the metrics of the last validation.

    A finished run is left as it is and returns {}.

    Args:
      config: the experiment.
      workdir: where checkpoints and numbers go.
      datasets: one per task, by the names of `config.task_configs`.

    Raises:
      UserError: a config that does not fit the devices, a dataset or the workdir; a loss that is not finite; a
        checkpoint that cannot be written.
      TryAgain: SIGTERM; the state is saved.
    """
    setup = set_up(config, datasets)
    config = setup.config
    connect(setup.mesh)
    preemption = Preemption()
    run = TrainingRun(setup, datasets, workdir, preemption)
    first_step, total = run.first_step, config.total_steps
    if run.is_finished:
        say(f"nothing to do: {workdir} is trained ({first_step} steps)")
        run.close()
        return {}
    run.start()
    if first_step:
        say(f"continuing from step {first_step} of {total} in {workdir}")
    say_what_a_run_has(setup, datasets)

    with (
        preemption,  # until the last checkpoint is written
        run,
        Feed(config, datasets, first_step, lambda: preemption.signalled) as feed,
    ):
        if preemption.reached() or (run.validation_due and not run.validate(first_step)):
            raise run.stopped(first_step)
        for step in range(first_step, total):
            batches = run.next_batches(feed, step)
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
    return run.scores
