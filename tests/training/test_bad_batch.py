"""A batch that makes the loss NaN, in whole runs: who is named, and what each policy leaves behind."""

import dataclasses
import json
import math

import numpy as np
import pytest

from data_pipelines.dataset import ShardedDataset
from tests.tiny_runs import metric_lines

pytestmark = pytest.mark.slow

BAD = 7  # the step (from 1) whose batch is bad
_training_batches = ShardedDataset.training_batches


@pytest.fixture(autouse=True)
def bad_batch(monkeypatch):
    """The segments of one batch become NaN, whichever step a run begins with."""

    def batches(self, start_step, num_steps):
        for step, batch in enumerate(_training_batches(self, start_step, num_steps), start_step + 1):
            bad = dataclasses.replace(batch, segments=np.full_like(batch.segments, np.nan))
            yield bad if step == BAD else batch

    monkeypatch.setattr(ShardedDataset, "training_batches", batches)


@pytest.fixture
def train(unloc, config_file, captions_dataset, tmp_path):
    def run(name: str, *settings: str):
        settings = ("pretrain.steps=0", "pretrain.warmup_steps=0", "train.steps=12", *settings)
        settings = (*settings, "evaluation.every_steps=100", f"data.dir={captions_dataset}")
        words = ["train", f"--config={config_file}", f"--workdir={tmp_path / name}"]
        return unloc(*words, *(f"--config.{setting}" for setting in settings))

    return run


def _fingerprints(workdir, step=12):
    file = workdir / "checkpoints" / str(step) / "metadata" / "metadata"
    return json.loads(file.read_text())["fingerprints"]


def test_the_videos_are_named_and_the_policies_differ(train, captions_dataset, config_file, tmp_path):
    # stop: even if nothing is logged or saved at that step.
    error = train("stop", "log_every_steps=100", "checkpoint.every_steps=4").error()
    assert error.startswith(f"step {BAD}: the loss or its gradient is not finite (")
    assert "the last checkpoint here is of step 4" in error
    named = error.partition("on the videos ")[2].partition(". Lower")[0].split(", ")
    assert len(named) == 4 == len(set(named))  # the batch; an epoch has 6 videos
    # The ids are those of the batch that the pipeline makes: its segments tell.
    from unloc_jax import config as config_lib

    settings = [f"data.dir={captions_dataset}", "pretrain.steps=0", "train.steps=12"]
    dataset = ShardedDataset(config_lib.load(str(config_file), settings))
    (batch,) = _training_batches(dataset, BAD - 1, BAD)
    durations = {record.video_id: record.duration_s for record in dataset.records("train")}
    np.testing.assert_allclose([durations[video] for video in named], batch.span_s[:, 1], atol=0.5)

    # The same command goes on with another policy: what differs is no other experiment.
    went_on = train("stop", "log_every_steps=1", "checkpoint.every_steps=4", "non_finite=skip").ok()
    assert "continuing from step 4 of 12" in went_on.err
    assert f"note: step {BAD}: " in went_on.err and "this step is left out (1 so far)" in went_on.err
    lines = {line["step"]: line for line in metric_lines(tmp_path / "stop") if "steps_left_out" in line}
    assert [lines[step]["steps_left_out"] for step in (6, 7, 8, 12)] == [0, 1, 1, 1]
    assert "train/loss" not in lines[BAD] and math.isfinite(lines[8]["train/loss"])
    assert lines[8]["learning_rate"] != lines[BAD]["learning_rate"]

    # Back to step 6 is the same as leaving out step 7; back to step 5 loses one more update.
    back = train("rollback_1", "non_finite=rollback", "checkpoint.every_steps=2", "log_every_steps=100").ok()
    assert (
        f"step {BAD}: " in back.err and "back to the parameters of step 6, and on with the batch" in back.err
    )
    train("rollback_2", "non_finite=rollback", "checkpoint.every_steps=5").ok()
    skipped, back_1, back_2 = (
        _fingerprints(tmp_path / name) for name in ("stop", "rollback_1", "rollback_2")
    )
    assert skipped == back_1 != back_2
