"""The training loop.

Order of operations:
  1. the mesh, the task with its model, the optimizer: everything that can be wrong in a config fails here;
  2. the workdir: the latest checkpoint is restored, or a new state is made in its sharded place;
  3. for every step: batch `step` → device → the step of its stage (contrastive pretraining first, then the task);
  4. every log_every_steps: numbers to TensorBoard, metrics.jsonl and the terminal;
  5. every evaluation.every_steps of the task's stage, and at the end: the validation split, by the same code as
     `unloc evaluate`;
  6. every checkpoint.every_steps, and at the end: a checkpoint.

The parameters after step n are a function of (config, dataset, n) alone: batches are keyed by the step, and
nothing else is random after initialisation. So a run that was killed and started again ends like one that was not.
"""

import sys
import time
from pathlib import Path

import jax

from unloc_jax import config as config_lib
from unloc_jax.config import Config
from unloc_jax.dataset import Dataset
from unloc_jax.errors import UserError
from unloc_jax.tasks import make_task
from unloc_jax.tasks.evaluation import find, to_device
from unloc_jax.text import num_tokens
from unloc_jax.training.checkpoints import Checkpoints
from unloc_jax.training.optimizer import learning_rate_schedule, make_optimizer
from unloc_jax.training.sharding import batch_sharding, make_mesh
from unloc_jax.training.state import TrainState, abstract_state, count_parameters, init_state
from unloc_jax.training.step import loss_of_stage, make_train_step
from unloc_jax.training.writers import MetricWriter, Progress


def train(config: Config, workdir: Path, dataset: Dataset) -> dict[str, float]:
    """Trains, or goes on training, in `workdir`; returns the validation metrics at the end.

    A finished run is left as it is and returns {}.

    Raises:
      UserError: a config that does not fit the devices, the dataset or the workdir; a loss that is not finite.
    """
    mesh = make_mesh(config.mesh, config.batch_size)
    make_mesh(config.mesh, config.evaluation.batch_size, "evaluation.batch_size")
    task = make_task(config, dataset.facts.classes)
    optimizer, learning_rate = make_optimizer(config), learning_rate_schedule(config)
    validation = dataset.records("validation")
    validation_texts = task.evaluation_texts(validation)

    checkpoints = Checkpoints(workdir, config, dataset.facts.to_dict())
    first_step = checkpoints.latest_step or 0
    if first_step >= config.total_steps:
        _say(f"nothing to do: {workdir} is trained ({first_step} steps)")
        checkpoints.close()
        return {}
    (workdir / "config.json").write_text(config_lib.to_json(config))
    abstract = abstract_state(task, optimizer, mesh)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    if first_step:
        state = checkpoints.restore(abstract)
        _say(f"continuing from step {first_step} of {config.total_steps} in {workdir}")
    else:
        state = init_state(task, optimizer, mesh)
    _say(
        f"{config.task}: {count_parameters(state.params) / 1e6:.2f} M parameters, "
        f"{len(dataset.records('train'))} training videos, {len(validation)} validation videos, "
        f"{jax.device_count()} × {jax.devices()[0].device_kind} as {dict(mesh.shape)} ({config.mesh.strategy})"
    )

    _say_what_is_left_out(config, dataset)

    writer = MetricWriter(workdir, first_step)
    progress = Progress(config.total_steps, first_step, config.batch_size)
    steps = {
        stage: make_train_step(loss_of_stage(task, stage), optimizer, mesh, shardings)
        for stage in ("pretrain", "train")
    }
    detect = jax.jit(task.detect)

    def validate(state: TrainState) -> dict[str, float]:
        batches = dataset.evaluation_batches("validation")
        found = find(task, detect, state.params, batches, validation_texts, batch_sharding(mesh))
        return task.score(validation, found)

    scores: dict[str, float] = {}
    compiled: set[str] = set()
    for step, batch in enumerate(dataset.training_batches(first_step, config.total_steps), first_step):
        stage = "pretrain" if step < config.pretrain.steps else "train"
        started = time.monotonic()
        state, metrics = steps[stage](state, to_device(batch, batch_sharding(mesh)))
        if stage not in compiled:
            compiled.add(stage)
            jax.block_until_ready(state)
            progress.pause(time.monotonic() - started)
            _say(f"{stage} step compiled in {time.monotonic() - started:.1f} s")
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
            summary = "  ".join(f"{name} {value:.1f}" for name, value in list(scores.items())[:8])
            _say(f"validation at step {done}: {summary}")
        if save:
            checkpoints.save(state, done)
        progress.pause(time.monotonic() - started)

    checkpoints.close()
    writer.close()
    return scores


def _say_what_is_left_out(config: Config, dataset: Dataset) -> None:
    """Padded sizes bound what a step sees of a video; nothing is dropped in silence."""
    sizes = {"segments": config.data.max_segments}
    if config.task == "moment_retrieval":
        sizes["queries"] = config.data.max_queries
    for what, size in sizes.items():
        counts = [len(r.texts if what == "segments" else set(r.texts)) for r in dataset.records("train")]
        beyond = [count - size for count in counts if count > size]
        if beyond:
            _say(
                f"note: {len(beyond)} training videos have more than config.data.max_{what} = {size} {what}; "
                f"{sum(beyond)} {what} are left out of each step (at most {max(counts)} in a video)"
            )

    texts = {text for record in dataset.records("train") for text in record.texts}
    long = sum(num_tokens(text) > config.model.text.max_tokens for text in texts)
    if long:
        _say(
            f"note: {long} of {len(texts)} texts have more than config.model.text.max_tokens = "
            f"{config.model.text.max_tokens} tokens; their ends are left out"
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
