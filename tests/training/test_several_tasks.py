"""Runs with several tasks, and runs that start from another one's checkpoint."""

import json
import re
import shutil

import numpy as np
import pytest

from tests.tiny_runs import metric_lines
from unloc_jax.training.checkpoints import find_checkpoint, load_checkpoint, stored_shapes

pytestmark = pytest.mark.slow


@pytest.fixture
def two_tasks(config_file, captions_dataset, activities_dataset):
    """Words of a training with two tasks."""
    return (
        "train",
        f"--config={config_file}",
        f"--config.tasks.retrieval.data.dir={captions_dataset}",
        f"--config.tasks.segmentation.data.dir={activities_dataset}",
        "--config.tasks.segmentation.task=action_segmentation",
        "--config.pretrain.steps=2",
        "--config.train.steps=4",
    )


def losses(workdir) -> list[dict]:
    numbers = lambda line: {key: value for key, value in line.items() if key.endswith("loss")}
    return [numbers(line) for line in metric_lines(workdir) if numbers(line)]


def test_one_checkpoint_serves_all_tasks(two_tasks, unloc, tiny_videos, tmp_path):
    told = unloc(*two_tasks, f"--workdir={tmp_path}").ok().err
    assert "retrieval: 6 training videos" in told and "segmentation: 6 training videos" in told
    assert [sorted(key.split("/")[1] for key in step)[0] for step in losses(tmp_path)] == [
        "retrieval", "segmentation", "retrieval", "segmentation", "retrieval", "segmentation",
    ]  # fmt: skip
    evaluated = unloc("evaluate", f"--checkpoint={tmp_path}").ok().out
    assert "== retrieval ==" in evaluated and "== segmentation ==" in evaluated
    for name, key in (("retrieval", "recall"), ("segmentation", "metrics")):
        metrics = json.loads((tmp_path / "evaluation" / "test" / name / "metrics.json").read_text())
        assert metrics["task"] == name and key in metrics
    video = next((tiny_videos / "videos").glob("test_*.mp4"))
    segments = (
        unloc("predict", f"--checkpoint={tmp_path}", "--task=segmentation", f"--video={video}").ok().out
    )
    assert "moves left" in segments  # the vocabulary
    error = unloc("predict", f"--checkpoint={tmp_path}", "--task=x", f"--video={video}", "--text=a").error()
    assert "--task=x: the tasks of" in error and "retrieval, segmentation" in error


def test_all_tasks_in_every_step_and_after_a_stop(two_tasks, unloc, tmp_path):
    words = (*two_tasks, "--config.task_mixing=all", "--config.checkpoint.every_steps=4")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    unloc(*words, f"--workdir={whole}").ok()
    assert all(len([key for key in step if key.endswith("/loss")]) == 2 for step in losses(whole))
    # As if killed after step 4: the later checkpoint and the later lines are gone.
    shutil.copytree(whole, stopped)
    shutil.rmtree(stopped / "checkpoints" / "6")
    assert "continuing from step 4 of 6" in unloc(*words, f"--workdir={stopped}").ok().err
    assert losses(stopped)[-2:] == losses(whole)[-2:]


def test_tasks_that_cannot_share_a_model_are_refused(two_tasks, unloc, tmp_path):
    words = (*two_tasks, f"--workdir={tmp_path}", "--config.tasks.segmentation.data.num_frames=16")
    error = unloc(*words, "--config.model.fusion.positions=learned").error()
    assert "retrieval and segmentation cannot share a model" in error and "position_embedding" in error
    unloc(*words).ok()  # with positions that are not learned any number of frames will do


def test_starting_from_another_run(trained, config_file, activities_dataset, unloc, tmp_path):
    told = unloc(
        "train", f"--config={config_file}", f"--workdir={tmp_path}", f"--config.data.dir={activities_dataset}",
        f"--config.init_from={trained}", "--config.task=action_segmentation", "--config.pretrain.steps=0",
        "--config.pretrain.warmup_steps=0", "--config.train.steps=1", "--config.train.warmup_steps=0",
        "--config.train.learning_rate=0.0", "--config.model.head.type=linear",
        "--config.loss.relevance_weight=1.0",
    ).ok().err  # fmt: skip
    assert re.search(r"(\d+) of (\d+) parameters come from .*/checkpoints/10", told)
    assert "new here: head (2)" in told
    assert re.search(r"only there: head \(\d+\), moment_projection \(2\), temperature \(1\)", told)
    before, after = (stored_shapes(find_checkpoint(path)) for path in (trained, tmp_path))
    assert before["fusion/encoder/pyramid/conv_0/kernel"] == after["fusion/encoder/pyramid/conv_0/kernel"]
    config, facts = load_checkpoint(find_checkpoint(tmp_path))
    assert config.init_from == str(trained) and facts["action_segmentation"].classes

    error = unloc(
        "train", f"--config={config_file}", f"--workdir={tmp_path / 'other'}", "--config.init_from=nowhere",
        f"--config.data.dir={activities_dataset}", "--config.task=action_segmentation",
    ).error()  # fmt: skip
    assert error.startswith("config.init_from=") and "holds no checkpoint" in error


def test_ranges_come_from_the_data(config_file, captions_dataset, unloc, tmp_path):
    words = (
        "train",
        f"--config={config_file}",
        f"--workdir={tmp_path}",
        f"--config.data.dir={captions_dataset}",
    )
    steps = ("--config.pretrain.steps=0", "--config.pretrain.warmup_steps=0", "--config.train.steps=2")
    more = ("--config.train.warmup_steps=1", "--config.model.pyramid.ranges_from_data=True")
    unloc(*words, *steps, *more).ok()
    pyramid = load_checkpoint(find_checkpoint(tmp_path))[0].model.pyramid
    (first, last), high = pyramid.regression_ranges, pyramid.regression_ranges[0][1]
    assert (first[0], last) == (0.0, (high, np.inf)) and 1 <= high < 7 and high != 4.0
    assert "nothing to do" in unloc(*words, *steps, *more).ok().err  # the same ranges again
