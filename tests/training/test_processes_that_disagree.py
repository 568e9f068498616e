"""Two real processes of a run that were not started alike: both say so before anything is computed, and end with 2."""

import os
import platform

import pytest

from tests.training.test_processes_that_end import Run
from unloc_jax.errors import EXIT_USER_ERROR
from unloc_jax.training import workdir_lock
from unloc_jax.training.workdir_lock import FILE, Holder

pytestmark = pytest.mark.slow


def _refused(run: Run) -> str:
    """The message, which is the same in both."""
    assert run.ended() == [EXIT_USER_ERROR] * 2, run.said()
    first, second = ([line for line in said.splitlines() if line.startswith("unloc")] for said in run.said())
    assert first == second and len(first) == 1 and "Traceback" not in "".join(run.said())
    return first[0].removeprefix("unloc: error: ")


@pytest.mark.parametrize(
    ("of_last", "environment", "message"),
    [
        (
            ["--config.train.learning_rate=0.02"],
            {},
            "config.train.learning_rate is 0.01 in process 0, 0.02 in process 1.",
        ),
        (
            ["--config.seed=5", "--config.train.steps=99"],
            {"TOY_PYTHON": "3.99.1"},
            f"Python is {platform.python_version()} in process 0, 3.99.1 in process 1; config.batch",
        ),
        (
            [],
            {"TOY_VIDEOS": "3"},
            "the train split of moment_retrieval is 0 videos (e3b0c442) in process 0, 3 videos",
        ),
    ],
    ids=["setting", "version", "videos"],
)
def test_what_differs_is_named(tmp_path, of_last, environment, message):
    message = message.replace(
        "config.batch", "config.seed is 0 in process 0, 5 in process 1; config.train.steps is"
    )
    run = Run(tmp_path / "run", 2, of_last=of_last, environment_of_last=environment)
    assert _refused(run).startswith(f"the processes of this run do not agree: {message}")
    assert not (tmp_path / "run").exists()


def test_a_workdir_that_is_not_shared(tmp_path):
    run = Run(tmp_path / "run", 2, of_last=[f"--workdir={tmp_path / 'other'}"])
    assert "the folder that --workdir names is that of process 0 in process 0, another one (" in _refused(run)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_workdir_in_use_is_refused_by_all(tmp_path):
    (tmp_path / FILE).write_bytes(workdir_lock._encoded(Holder.this_process()))
    assert f"in use: another training writes there (process {os.getpid()} on " in _refused(Run(tmp_path, 2))


def test_places_and_ways_of_reading_may_differ(tmp_path):
    """The workdir under another name, the data elsewhere, read by more threads."""
    (tmp_path / "link").symlink_to(tmp_path)
    settings = ["--config.data.dir=/data/here", "--config.train.steps=10"]
    of_last = [
        "--config.data.dir=/elsewhere",
        "--config.data.num_workers=7",
        f"--workdir={tmp_path / 'link' / 'run'}",
    ]
    run = Run(tmp_path / "run", 2, *settings, of_last=of_last)
    assert run.ended() == [0, 0], run.said()
    assert not (tmp_path / "run" / FILE).exists()
