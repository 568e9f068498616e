"""The training loop.

Order of operations:
  1. the mesh, the tasks with their model, the optimizer: everything that can be wrong in a config fails here
     (run_setup.py); the processes of the run meet (connections.py);
  2. the workdir: the latest checkpoint is restored, or a new state is made in its sharded place (and, with
     config.init_from, takes another checkpoint's parameters); a validation that a stop has cut short comes first;
  3. for every step: the batches of its tasks (feed.py) → device → the step of its stage (contrastive pretraining
     first, then the tasks);
  4. one step later: was its loss finite? (non_finite.py);
  5. every log_every_steps: numbers to the writers and the terminal (progress.py, writers.py);
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

import jax

from unloc_jax import config as config_lib
from unloc_jax.config import Config
from unloc_jax.dataset import Dataset
from unloc_jax.errors import TryAgain
from unloc_jax.processes import is_main
from unloc_jax.tasks.evaluation import to_device
from unloc_jax.training.announce import say, say_what_a_run_has
from unloc_jax.training.clock import Clock, first_start
from unloc_jax.training.connections import connect
from unloc_jax.training.feed import Feed
from unloc_jax.training.mixing import videos_of_step
from unloc_jax.training.non_finite import NonFiniteSteps, at_step
from unloc_jax.training.preemption import Preemption
from unloc_jax.training.progress import Progress
from unloc_jax.training.rates import learning_rates
from unloc_jax.training.run_setup import set_up
from unloc_jax.training.saving import Checkpoints
from unloc_jax.training.sharding import batch_sharding
from unloc_jax.training.state import TrainState
from unloc_jax.training.trace import Trace
from unloc_jax.training.validation import Validation
from unloc_jax.training.vocabulary import constant_vocabularies
from unloc_jax.training.writers import MetricWriter, start_wandb, validated


def train(config: Config, workdir: Path, datasets: Mapping[str, Dataset]) -> dict[str, float]:
    """Trains, or goes on training, in `workdir`; returns the validation metrics at the end.

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
    config, mesh = setup.config, setup.mesh
    connect(mesh)

    facts = {name: dataset.facts.to_dict() for name, dataset in datasets.items()}
    checkpoints = Checkpoints(workdir, config, facts, say)
    history, first_step, total = checkpoints.history, checkpoints.latest_step or 0, config.total_steps
    validation_due = history.get("validation_due", False) and not validated(workdir, first_step)
    if first_step >= total and not validation_due:
        say(f"nothing to do: {workdir} is trained ({first_step} steps)")
        checkpoints.close()
        return {}
    if is_main():
        (workdir / "config.json").write_text(config_lib.to_json(config))
    clock = Clock(first_start(workdir), history.get("productive_s", 0.0))
    wandb = start_wandb(config, workdir, clock.started_at)

    def last_saved() -> TrainState:
        """As the latest checkpoint has it, or else as at the very start."""
        if checkpoints.latest_step is not None:
            return checkpoints.restore(setup.abstract)
        return setup.new_state(say)

    state = last_saved()
    if first_step:
        say(f"continuing from step {first_step} of {total} in {workdir}")
    say_what_a_run_has(setup, datasets)

    steps, rates = setup.steps(), learning_rates(config)
    compiled: set[tuple[str, ...]] = set()
    vocabularies = constant_vocabularies(setup.tasks, state.params, mesh)
    validation = Validation(setup.tasks, datasets, mesh, bool(config.tasks))
    scores: dict[str, float] = {}
    non_finite = NonFiniteSteps(
        config, lambda step: videos_of_step(config, datasets, step), say, history.get("steps_left_out", 0)
    )
    progress, trace = Progress(config, setup.tasks, first_step, clock), Trace(config.profile, workdir, say)
    preemption = Preemption()

    def validate(done: int) -> bool | None:
        """Whether it is among the best so far; None if it was stopped."""
        with clock.of("evaluation"):
            found = validation(state.best_params, done, preemption.watched)
            if found is None:
                return None
            scores.update(found)
            writer.write(done, {f"validation/{name}": value for name, value in found.items()})
            return checkpoints.is_best(done, found)

    def save(done: int) -> None:
        with clock.of("checkpoint"):
            history = {
                "validation_due": validation_due,
                "productive_s": clock.productive_s,
                "steps_left_out": non_finite.count,
            }
            checkpoints.save(state, done, history)

    def rolled_back(done: int) -> TrainState:
        with clock.of("checkpoint"):
            checkpoints.wait()
            clock.productive_s = checkpoints.history.get("productive_s", 0.0)
            return at_step(last_saved(), done)

    with (
        preemption,  # until the last checkpoint is written
        checkpoints,
        MetricWriter(workdir, first_step, wandb, config.checkpoint.on_error, say) as writer,
        Feed(config, datasets, first_step, lambda: preemption.signalled) as feed,
    ):
        if preemption.reached() or (validation_due and validate(first_step) is None):
            raise _stopped(first_step, total)
        validation_due = False
        for step in range(first_step, total):
            done, stage = step + 1, "pretrain" if step < config.pretrain.steps else "train"
            with clock.of("input"):
                batches = feed.take(step)
                if batches is None:
                    if step > first_step:
                        save(step)
                    raise _stopped(step, total)
                on_device = {name: to_device(batch, batch_sharding(mesh)) for name, batch in batches.items()}

            trace.before(done)
            new = (stage, *batches) not in compiled
            with clock.of("compile" if new else "compute") as took:
                state, metrics = steps[stage](state, on_device, vocabularies)
                if non_finite.rollback_due(checkpoints.latest_step):  # because of the step before this one
                    state = rolled_back(step)
                    state, metrics = steps[stage](state, on_device, vocabularies)
                non_finite.add(done, metrics)
                if new:
                    jax.block_until_ready(state)
            if new:
                compiled.add((stage, *batches))
                of_tasks = f" of {', '.join(batches)}" if config.tasks else ""
                say(f"{stage} step{of_tasks} compiled in {took.seconds:.1f} s")

            last, stop = done == total, preemption.reached()
            log = done % config.log_every_steps == 0 or last
            keep = done % config.checkpoint.every_steps == 0 or last
            if stage == "train":
                since = done - config.pretrain.steps
                validation_due = since % config.evaluation.every_steps == 0 or last
            if log or keep or stop or validation_due or trace.ends(done):
                with clock.of("compute"):
                    if non_finite.rollback_due(checkpoints.latest_step):
                        state = rolled_back(done)
            trace.after(done)
            if log:
                numbers = {name: float(value) for name, value in jax.device_get(metrics).items()}
                del numbers["finite"]
                writer.write(
                    done,
                    {f"{stage}/{name}": value for name, value in numbers.items()}
                    | {"steps_left_out": non_finite.count}
                    | rates(step)
                    | progress.report(stage, done, numbers),
                )
            if validation_due and not stop:
                best = validate(done)
                stop = validation_due = best is None
                keep = keep or bool(best)
            if keep or stop:
                save(done)
            if stop and (validation_due or not last):
                raise _stopped(done, total)
        trace.close()
    return scores


def _stopped(done: int, total: int) -> TryAgain:
    if done == 0:
        return TryAgain("stopped by SIGTERM before the first step; the same command starts again")
    return TryAgain(
        f"stopped by SIGTERM after step {done} of {total}, which is saved; the same command goes on from there"
    )
