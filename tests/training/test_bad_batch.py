"""A batch that makes the loss NaN, in the real loop with a toy model: who is named, what each policy leaves behind."""

import json
import math

import numpy as np
import pytest

from data_pipelines.reading.dataset import ShardedDataset
from tests.tiny_runs import metric_lines
from tests.training.toy_run import use_toys
from unloc_jax import config as config_lib

BAD, STEPS = 7, 12  # steps, from 1


@pytest.fixture
def train(unloc, tmp_path, monkeypatch):
    use_toys(monkeypatch.setattr)
    monkeypatch.setenv("TOY_BAD_STEP", str(BAD))

    def run(name: str, *settings: str):
        settings = (f"train.steps={STEPS}", *settings)
        words = ["train", "--config=tests/training/toy_run.py", f"--workdir={tmp_path / name}"]
        return unloc(*words, *(f"--config.{setting}" for setting in settings))

    return run


def _metadata(workdir, step=STEPS):
    return json.loads((workdir / "checkpoints" / str(step) / "metadata" / "metadata").read_text())


@pytest.mark.slow
def test_the_videos_are_named_and_the_policies_differ(train, tmp_path):
    # stop: at the very step, even if nothing is logged or saved then.
    error = train("stop", "log_every_steps=100", "checkpoint.every_steps=4").error()
    assert error.startswith(f"step {BAD}: the loss or its gradient is not finite (")
    assert "on the videos video6_0, video6_1, video6_2, video6_3. Lower config.train.learning_rate" in error
    assert "the last checkpoint here is of step 4" in error

    # The same command continues with another policy: the policy is not part of the experiment.
    went_on = train("stop", "checkpoint.every_steps=4", "non_finite=skip").ok()
    assert f"continuing from step 4 of {STEPS}" in went_on.err
    assert f"note: step {BAD}: " in went_on.err and "this step is left out (1 so far)" in went_on.err
    lines = {line["step"]: line for line in metric_lines(tmp_path / "stop") if "steps_left_out" in line}
    assert [lines[step]["steps_left_out"] for step in (6, 7, 8, 12)] == [0, 1, 1, 1]
    assert "train/loss" not in lines[BAD] and math.isfinite(lines[8]["train/loss"])
    assert lines[8]["learning_rate"] != lines[BAD]["learning_rate"]
    skipped = _metadata(tmp_path / "stop")
    assert skipped["history"]["steps_left_out"] == 1

    # Back to step 6 is the same as leaving out step 7; back to step 5 loses one more update. It is noticed one step
    # later, or at once where something is logged: that makes no difference.
    fingerprints = [skipped["fingerprints"]]
    for every, log_every in ((2, 100), (2, 1), (5, 100)):
        settings = (f"checkpoint.every_steps={every}", f"log_every_steps={log_every}")
        back = train(f"back_{every}_{log_every}", "non_finite=rollback", *settings).ok()
        assert (
            f"back to the parameters of step {BAD // every * every}, and on with the batch after" in back.err
        )
        fingerprints.append(_metadata(tmp_path / f"back_{every}_{log_every}")["fingerprints"])
    assert fingerprints[0] == fingerprints[1] == fingerprints[2] != fingerprints[3]
    # Before the first checkpoint it goes back to the very start.
    back = train("to_start", "non_finite=rollback", "checkpoint.every_steps=100", "log_every_steps=100").ok()
    assert "back to the parameters of step 0" in back.err


def test_the_ids_are_those_of_the_batches(config_file, captions_dataset):
    """The segments of a batch tell which videos are in it."""
    settings = [f"data.dir={captions_dataset}", "batch_size=4", "data.mirror=False"]
    dataset = ShardedDataset(config_lib.load(str(config_file), settings))
    spans = {record.video_id: record.duration_s for record in dataset.records("train")}
    assert len({round(seconds, 1) for seconds in spans.values()}) > 3  # they can be told apart
    for step, batch in enumerate(dataset.training_batches(0, 4)):
        named = dataset.training_videos(step)
        np.testing.assert_allclose([spans[video] for video in named], batch.span_s[:, 1], atol=0.5)
