"""The training loop.

Order of operations:
  1. the mesh, the tasks with their model, the optimizer: everything that can be wrong in a config fails here;
  2. the workdir: the latest checkpoint is restored, or a new state is made in its sharded place (and, with
     config.init_from, takes another checkpoint's parameters);
  3. for every step: the batches of its tasks → device → the step of its stage (contrastive pretraining first, then
     the tasks);
  4. every log_every_steps: numbers to TensorBoard, metrics.jsonl and the terminal;
  5. every evaluation.every_steps of the second stage, and at the end: the validation split of every task (or else its
     test split), by the same code as `unloc evaluate`;
  6. every checkpoint.every_steps, and at the end: a checkpoint.

The parameters after step n are a function of (config, datasets, n) alone: batches, dropout and prompts are keyed by
the step. So a run that was killed and started again ends like one that was not.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jax

from unloc_jax import config as config_lib
from unloc_jax.config import Config
from unloc_jax.dataset import Dataset, validation_split
from unloc_jax.errors import UserError
from unloc_jax.processes import is_main
from unloc_jax.tasks import Task, make_task
from unloc_jax.tasks.evaluation import find, to_device
from unloc_jax.text import num_tokens
from unloc_jax.training.checkpoints import Checkpoints
from unloc_jax.training.init_from import initialize
from unloc_jax.training.mixing import loss_weights, mixed_batches, videos_per_step
from unloc_jax.training.optimizer import learning_rate_schedule, make_optimizer
from unloc_jax.training.ranges import with_ranges_from_data
from unloc_jax.training.sharding import batch_sharding, lay_out, make_mesh
from unloc_jax.training.state import TrainState, abstract_state, count_parameters, init_state
from unloc_jax.training.step import make_loss, make_train_step
from unloc_jax.training.vocabulary import constant_vocabularies
from unloc_jax.training.writers import MetricWriter, Progress


def train(config: Config, workdir: Path, datasets: Mapping[str, Dataset]) -> dict[str, float]:
    """Trains, or goes on training, in `workdir`; returns the validation metrics at the end.

    A finished run is left as it is and returns {}.

    Args:
      config: the experiment.
      workdir: where checkpoints and numbers go.
      datasets: one per task, by the names of `config.task_configs`.

    Raises:
      UserError: a config that does not fit the devices, a dataset or the workdir; a loss that is not finite.
    """
    config = with_ranges_from_data(config, datasets)
    views = config.task_configs
    for name, view in views.items():
        where = f"tasks.{name}." if config.tasks else ""
        mesh = make_mesh(config.mesh, view.batch_size, f"{where}batch_size")
        make_mesh(config.mesh, view.evaluation.batch_size, f"{where}evaluation.batch_size")
    tasks = {
        name: lay_out(make_task(view, datasets[name].facts, config), mesh) for name, view in views.items()
    }
    optimizer, learning_rate = make_optimizer(config), learning_rate_schedule(config)

    facts = {name: dataset.facts.to_dict() for name, dataset in datasets.items()}
    checkpoints = Checkpoints(workdir, config, facts)
    first_step = checkpoints.latest_step or 0
    if first_step >= config.total_steps:
        _say(f"nothing to do: {workdir} is trained ({first_step} steps)")
        checkpoints.close()
        return {}
    if is_main():
        (workdir / "config.json").write_text(config_lib.to_json(config))
    abstract = abstract_state(tasks, optimizer, mesh)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    if checkpoints.latest_step is not None:
        state = checkpoints.restore(abstract)
        _say(f"continuing from step {first_step} of {config.total_steps} in {workdir}")
    else:
        state = init_state(tasks, optimizer, mesh)
        if config.init_from:
            state = initialize(config, state, _say)
    _say(
        f"{count_parameters(state.params) / 1e6:.2f} M parameters, "
        f"{jax.device_count()} × {jax.devices()[0].device_kind} as {dict(mesh.shape)} ({config.mesh.strategy})"
    )
    for name, task in tasks.items():
        _say_what_a_task_has(name, task, datasets[name])

    writer = MetricWriter(workdir, first_step)
    progress = Progress(config.total_steps, first_step, videos_per_step(config))
    steps = {
        stage: make_train_step(
            make_loss(tasks, loss_weights(config), stage),
            optimizer,
            mesh,
            shardings,
            config.seed,
            config.optimizer.ema_decay,
        )
        for stage in ("pretrain", "train")
    }
    vocabularies = constant_vocabularies(tasks, state.params, mesh)
    detect = {name: jax.jit(task.detect) for name, task in tasks.items()}

    def validate(state: TrainState) -> dict[str, float]:
        scores: dict[str, float] = {}
        for name, task in tasks.items():
            split = validation_split(datasets[name])
            if split is None:
                continue
            records = datasets[name].records(split)
            batches, texts = datasets[name].evaluation_batches(split), task.evaluation_texts(records)
            windows = datasets[name].num_windows(split)
            found = find(
                task,
                detect[name],
                state.best_params,
                batches,
                texts,
                batch_sharding(mesh),
                num_windows=windows,
            )
            prefix = f"{name}/" if config.tasks else ""
            scores |= {f"{prefix}{key}": value for key, value in task.score(records, found).items()}
        return scores

    scores: dict[str, float] = {}
    compiled: set[tuple[str, ...]] = set()
    for step, batches in enumerate(mixed_batches(config, datasets, first_step), first_step):
        stage = "pretrain" if step < config.pretrain.steps else "train"
        started = time.monotonic()
        on_device = {name: to_device(batch, batch_sharding(mesh)) for name, batch in batches.items()}
        state, metrics = steps[stage](state, on_device, vocabularies)
        if (stage, *batches) not in compiled:
            compiled.add((stage, *batches))
            jax.block_until_ready(state)
            progress.pause(time.monotonic() - started)
            of_tasks = f" of {', '.join(batches)}" if config.tasks else ""
            _say(f"{stage} step{of_tasks} compiled in {time.monotonic() - started:.1f} s")
        done = step + 1
        last = done == config.total_steps

        save = done % config.checkpoint.every_steps == 0 or last

        if done % config.log_every_steps == 0 or save:
            numbers = {name: float(value) for name, value in jax.device_get(metrics).items()}
            if not all(abs(value) < float("inf") for value in numbers.values()):
                raise UserError(
                    f"step {done}: the loss is not finite ({numbers}). Lower config.{stage}.learning_rate "
                    f"(now {getattr(config, stage).learning_rate}) and start in another --workdir; the last "
                    f"checkpoint here is of step {checkpoints.latest_step or 0}."
                )
        if done % config.log_every_steps == 0 or last:
            shown = {name: numbers[name] for name in numbers if name not in ("gradient_norm", "temperature")}
            stage_end = config.pretrain.steps if stage == "pretrain" else config.total_steps
            speed = progress.report(stage, done, stage_end, shown)
            rate = float(learning_rate(step))
            writer.write(
                done, {f"{stage}/{k}": v for k, v in numbers.items()} | {"learning_rate": rate} | speed
            )

        started = time.monotonic()
        if stage == "train" and ((done - config.pretrain.steps) % config.evaluation.every_steps == 0 or last):
            scores = validate(state)
            writer.write(done, {f"validation/{name}": value for name, value in scores.items()})
            for name in tasks:
                of_task = {
                    k.removeprefix(f"{name}/"): v for k, v in scores.items() if k.startswith(f"{name}/")
                }
                first = list((of_task or scores).items())[:8]
                where = f" of {name}" if config.tasks else ""
                _say(f"validation{where} at step {done}: " + "  ".join(f"{k} {v:.1f}" for k, v in first))
        if save:
            checkpoints.save(state, done)
        progress.pause(time.monotonic() - started)

    checkpoints.close()
    writer.close()
    return scores


def _say_what_a_task_has(name: str, task: Task, dataset: Dataset) -> None:
    """How many videos there are, and what of them a step does not see: nothing is dropped in silence."""
    config, records, split = task.config, dataset.records("train"), validation_split(dataset)
    _say(
        f"{name}: {len(records)} training videos, "
        + (f"{len(dataset.records(split))} {split} videos" if split else "none for validation")
        + (f", {len(task.classes)} classes" if task.classes else "")
    )
    if split == "test":
        _say("note: this dataset has no validation split; the run is validated on its test split")
    sizes = {"segments": config.data.max_segments}
    if not task.config.with_vocabulary:
        sizes["queries"] = config.data.max_queries
    for what, size in sizes.items():
        counts = [len(r.texts if what == "segments" else set(r.texts)) for r in records]
        beyond = [count - size for count in counts if count > size]
        if beyond:
            _say(
                f"note: {len(beyond)} training videos have more than config.data.max_{what} = {size} {what}; "
                f"{sum(beyond)} {what} are left out of each step (at most {max(counts)} in a video)"
            )

    texts = {text for record in records for text in record.texts}
    long = sum(num_tokens(text) > config.model.text.max_tokens for text in texts)
    if long and not config.model.text.embeddings_file:
        _say(
            f"note: {long} of {len(texts)} texts have more than config.model.text.max_tokens = "
            f"{config.model.text.max_tokens} tokens; their ends are left out"
        )


def _say(text: str) -> None:
    if is_main():
        print(text, file=sys.stderr, flush=True)
