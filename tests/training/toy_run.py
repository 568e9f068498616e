"""`unloc train` with everything real but model, data and validation, which are so small that a run takes a second.

    python -m tests.training.toy_run train --config=tests/training/toy_run.py --workdir=DIR

A step takes at least STEP_S, a validation as long as the environment variable TOY_VALIDATION_S: time for a test to
send a signal. TOY_BAD_STEP is the step (from 1) whose batch makes the loss NaN. TOY_VIDEOS is the number of training
videos, and TOY_PYTHON the version of Python, as other processes are told.
"""

import dataclasses
import os
import sys
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.tiny import random_batch, tiny_config, tiny_metadata
from unloc_jax import agreement
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.base import Task

STEP_S = 0.01


def get_config() -> dict:
    config = dataclasses.asdict(
        tiny_config(
            batch_size=4,
            train={"steps": 100, "learning_rate": 0.01, "warmup_steps": 5},
            optimizer={"ema_decay": 0.9},
            evaluation={"every_steps": 60, "batch_size": 4},
            checkpoint={"every_steps": 20},
            log_every_steps=1,
        )
    )
    return config


class _Model(nn.Module):
    @nn.compact
    def __call__(self, inputs, mask, texts):
        x = jnp.asarray(inputs["rgb"], jnp.float32).mean((1, 2)) / 255
        return nn.Dense(4, name="linear")(x.reshape(len(x), -1))


@dataclasses.dataclass(frozen=True)
class _Task(Task):
    def loss(self, params, batch, rng, global_batch):
        found = self.model.apply({"params": params}, batch.inputs, batch.frame_mask, None)
        noise = jax.random.uniform(rng, found.shape)
        loss = jnp.mean((found + noise - batch.segments[:, 0, :1]) ** 2)
        return loss, {"loss": loss}

    detect_encoded = zeroshot = compute_metrics = prediction_lines = None  # nobody asks


class ToyDataset:
    """Batches of random pixels: a function of the step."""

    splits = ("train",)

    def __init__(self, config):
        self._config, self.metadata = config, tiny_metadata()

    def records(self, split):
        count = int(os.environ.get("TOY_VIDEOS", 0))
        return [VideoRecord(f"v{i}", 1.0, split, np.zeros((0, 2)), [], []) for i in range(count)]

    def training_videos(self, step):
        return [f"video{step}_{row}" for row in range(self._config.batch_size)]

    def training_batches(self, start_step, num_steps):
        size = self._config.batch_size // jax.process_count()
        mine = slice(jax.process_index() * size, (jax.process_index() + 1) * size)
        for step in range(start_step, num_steps):
            time.sleep(STEP_S)
            batch = random_batch(self._config, seed=step, videos=self._config.batch_size)
            if step + 1 == int(os.environ.get("TOY_BAD_STEP", 0)):
                batch = dataclasses.replace(batch, segments=np.full_like(batch.segments, np.nan))
            yield jax.tree.map(lambda x: x[mine], batch)


class _Validation:
    def __init__(self, *_):
        pass

    def __call__(self, params, step, watched, on_predictions):
        from unloc_jax.training.preemption import Reached

        try:
            for _ in watched(range(1 + int(float(os.environ.get("TOY_VALIDATION_S", 0)) / STEP_S))):
                time.sleep(STEP_S)
        except Reached:
            return None
        return {"score": float(params["linear"]["bias"].sum())}


def use_toys(set_attribute) -> None:
    """Puts the toys in their places; `set_attribute` is `setattr`, or that of pytest's monkeypatch."""
    import data_pipelines.reading.dataset
    from unloc_jax.training import run, run_setup

    set_attribute(data_pipelines.reading.dataset, "ShardedDataset", ToyDataset)
    set_attribute(run_setup, "make_task", lambda view, *_: _Task(view, _Model(), None))
    set_attribute(run_setup, "lay_out", lambda task, mesh: task)
    set_attribute(run, "Validation", _Validation)
    if "TOY_PYTHON" in os.environ:
        set_attribute(agreement.platform, "python_version", lambda: os.environ["TOY_PYTHON"])


if __name__ == "__main__":
    from unloc_jax.cli import main

    use_toys(setattr)
    sys.exit(main())
