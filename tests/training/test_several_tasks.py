"""Runs with several tasks, and runs that start from another one's checkpoint."""

import contextlib
import dataclasses
import io
import itertools
import json
import re
import shutil
from pathlib import Path

import chex
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.tiny_runs import metric_lines
from unloc_jax.cli import main
from unloc_jax.training.checkpoints.reading import find_checkpoint, load_checkpoint, stored_shapes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two_tasks(config_file, captions_dataset, activities_dataset):
    """Words of a training with two tasks."""
    return (
        "train",
        f"--config={config_file}",
        f"--config.tasks.retrieval.data.dir={captions_dataset}",
        f"--config.tasks.segmentation.data.dir={activities_dataset}",
        "--config.tasks.segmentation.task=action_segmentation",
        "--config.contrastive.steps=2",
        "--config.train.steps=4",
        "--config.checkpoint.every_steps=3",
    )


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run with two tasks: how they were mixed, its command, its workdir and what it said."""

    mixing: str
    words: tuple[str, ...]
    workdir: Path
    said: str


@pytest.fixture(scope="module", params=["alternate", "all"])
def run(request, two_tasks, tmp_path_factory) -> Run:
    words, workdir = (*two_tasks, f"--config.task_mixing={request.param}"), tmp_path_factory.mktemp("run")
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main([*words, f"--workdir={workdir}"]) == 0
    return Run(request.param, words, workdir, said.getvalue())


def losses(workdir: Path) -> list[dict]:
    numbers = lambda line: {key: value for key, value in line.items() if key.endswith("loss")}
    return [numbers(line) for line in metric_lines(workdir) if numbers(line)]


def test_what_each_step_sees(run):
    assert "retrieval: 6 training videos" in run.said and "segmentation: 6 training videos" in run.said
    seen = [sorted({key.split("/")[1] for key in step}) for step in losses(run.workdir)]
    if run.mixing == "all":
        assert seen == [["retrieval", "segmentation"]] * 6
        assert "train step of retrieval, segmentation compiled" in run.said
    else:
        assert seen == [["retrieval"], ["segmentation"]] * 3
        for stage, name in itertools.product(("contrastive", "train"), ("retrieval", "segmentation")):
            assert f"{stage} step of {name} compiled" in run.said
    speeds = [
        line["videos_per_s"] / line["steps_per_s"]
        for line in metric_lines(run.workdir)
        if "steps_per_s" in line
    ]
    assert speeds == pytest.approx([8 if run.mixing == "all" else 4] * 6)
    scores = {key for line in metric_lines(run.workdir) for key in line if key.startswith("validation")}
    assert {key.split("/")[1] for key in scores} == {"retrieval", "segmentation"}


def test_one_checkpoint_serves_all_tasks(run, unloc, tiny_videos):
    evaluated = unloc("evaluate", f"--checkpoint={run.workdir}").ok().out
    assert "== retrieval ==" in evaluated and "== segmentation ==" in evaluated
    metrics = {}
    for name, key in (("retrieval", "recall"), ("segmentation", "metrics")):
        file = run.workdir / "evaluation" / "test" / name / "metrics.json"
        metrics[name] = json.loads(file.read_text())
        assert metrics[name]["task"] == name and key in metrics[name]
        file.unlink()
    alone = unloc("evaluate", f"--checkpoint={run.workdir}", "--task=segmentation").ok().out
    assert (
        "== retrieval ==" not in alone
        and not (run.workdir / "evaluation/test/retrieval/metrics.json").exists()
    )
    again = json.loads((run.workdir / "evaluation/test/segmentation/metrics.json").read_text())
    assert again["metrics"] == pytest.approx(metrics["segmentation"]["metrics"])

    predict = (
        "predict",
        f"--checkpoint={run.workdir}",
        f"--video={next((tiny_videos / 'videos').glob('test_*.mp4'))}",
    )
    assert "moves left" in unloc(*predict, "--task=segmentation").ok().out  # the vocabulary
    # Without --task it is the first one, which has no vocabulary.
    for of_retrieval in ((), ("--task=retrieval",)):
        assert "give at least one text" in unloc(*predict, *of_retrieval).error()
        assert "a circle" in unloc(*predict, *of_retrieval, "--text=a circle").ok().out
    error = unloc(*predict, "--task=x", "--text=a").error()
    assert "--task=x: the tasks of" in error and "retrieval, segmentation" in error


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_a_run_that_was_stopped_ends_like_one_that_was_not(run, unloc, tmp_path):
    """As if killed after step 4: step 3's checkpoint is the last one, later lines come again."""
    stopped = tmp_path / "stopped"
    shutil.copytree(run.workdir, stopped)
    shutil.rmtree(stopped / "checkpoints" / "6")
    assert "continuing from step 3 of 6" in unloc(*run.words, f"--workdir={stopped}").ok().err
    assert losses(stopped) == losses(run.workdir)
    whole, found = (
        stored_state(workdir / "checkpoints" / "6" / "state") for workdir in (run.workdir, stopped)
    )
    chex.assert_trees_all_equal(found, whole)


def stored_state(folder: Path):
    """Everything in a checkpoint's state: parameters, optimizer state, step."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(folder)


def test_tasks_that_cannot_share_a_model_are_refused(two_tasks, unloc, tmp_path):
    words = (*two_tasks, f"--workdir={tmp_path}", "--config.tasks.segmentation.data.num_frames=16")
    error = unloc(*words, "--config.model.fusion.positions=learned").error()
    assert "retrieval and segmentation cannot share a model" in error and "position_embedding" in error
    unloc(*words).ok()  # with positions that are not learned any number of frames will do


def test_starting_from_another_run(trained, config_file, activities_dataset, unloc, tmp_path):
    told = unloc(
        "train", f"--config={config_file}", f"--workdir={tmp_path}", f"--config.data.dir={activities_dataset}",
        f"--config.init_from={trained}", "--config.task=action_segmentation", "--config.contrastive.steps=0",
        "--config.contrastive.warmup_steps=0", "--config.train.steps=1", "--config.train.warmup_steps=0",
        "--config.train.learning_rate=0.0", "--config.model.head.type=linear",
        "--config.loss.relevance_weight=1.0",
    ).ok().err  # fmt: skip
    assert re.search(r"init_from: .*/checkpoints/10\n", told)
    assert re.search(r"\n +head +0 +0 +\d+ +[\d,]{3,}\n", told)  # a linear head here, another there
    assert re.search(r"\n +logit_scale +0 +0 +0 +1\n", told)
    before, after = (stored_shapes(find_checkpoint(path)) for path in (trained, tmp_path))
    assert before["fusion/encoder/pyramid/conv_0/kernel"] == after["fusion/encoder/pyramid/conv_0/kernel"]
    config, metadata = load_checkpoint(find_checkpoint(tmp_path))
    assert config.init_from == str(trained) and metadata["action_segmentation"].classes

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
    steps = ("--config.contrastive.steps=0", "--config.contrastive.warmup_steps=0", "--config.train.steps=2")
    more = ("--config.train.warmup_steps=1", "--config.model.pyramid.ranges_from_data=True")
    unloc(*words, *steps, *more).ok()
    pyramid = load_checkpoint(find_checkpoint(tmp_path))[0].model.pyramid
    (first, last), high = pyramid.regression_ranges, pyramid.regression_ranges[0][1]
    assert (first[0], last) == (0.0, (high, np.inf)) and 1 <= high < 7 and high != 4.0
    assert "nothing to do" in unloc(*words, *steps, *more).ok().err  # the same ranges again
