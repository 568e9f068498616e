"""Runs whose disk is full or whose workdir is deleted, in processes of their own: what they print, leave and return."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_runs import child_environment
from tests.training.toy_run import __file__ as toy_config


def _start(module: str, workdir: Path, *settings: str) -> subprocess.Popen:
    words = [
        "train",
        f"--config={toy_config}",
        f"--workdir={workdir}",
        "--config.log_every_steps=1000",
        *settings,
    ]
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.training.{module}", *words],
        env=child_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _left(workdir: Path) -> list[str]:
    return sorted(path.name for path in (workdir / "checkpoints").iterdir())


@pytest.mark.parametrize("end", ["stop", "SIGTERM", "last step"])
def test_a_full_disk(tmp_path, end):
    """One line per failed checkpoint, and nothing of it is left; SIGTERM still ends with 75."""
    on_error, steps = ("stop", 50) if end == "stop" else ("continue", 100_000 if end == "SIGTERM" else 30)
    settings = ("--config.checkpoint.every_steps=5", f"--config.checkpoint.on_error={on_error}")
    child = _start("full_disk_run", tmp_path, *settings, f"--config.train.steps={steps}")
    lines = []
    for line in child.stderr:
        lines.append(line)
        if end == "SIGTERM" and "the checkpoint of step 20 cannot" in line:
            child.send_signal(signal.SIGTERM)
    status, shown = child.wait(), "".join(lines)
    failed = [line for line in lines if "cannot be written" in line]
    assert _left(tmp_path) == ["5"], shown
    assert "Traceback" not in shown and len(lines) <= 8 + len(failed), shown
    assert all("checkpoint of step" in line and "The last one is of step 5." in line for line in failed), (
        shown
    )
    steps_told = [int(line.partition("checkpoint of step ")[2].split()[0]) for line in failed]
    assert steps_told == sorted(set(steps_told)), shown
    if end == "stop":
        assert (status, steps_told) == (2, [10]) and lines[-1] == failed[0], shown
    elif end == "SIGTERM":
        assert status == 75 and steps_told[:3] == [10, 15, 20], shown
        assert "cannot be saved; the same command continues from step 5" in lines[-1], shown
    else:  # the result is lost
        assert (status, steps_told) == (2, [10, 15, 20, 25, 30]), shown
        assert "the last checkpoint is not written" in lines[-1], shown


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_a_deleted_workdir(tmp_path, on_error):
    workdir = tmp_path / "run"
    settings = ("--config.checkpoint.every_steps=5", f"--config.checkpoint.on_error={on_error}")
    child = _start("toy_run", workdir, *settings, "--config.train.steps=60", "--config.log_every_steps=15")
    while not (workdir / "checkpoints" / "10").is_dir() and child.poll() is None:
        pass
    while workdir.exists() and child.poll() is None:
        shutil.rmtree(workdir, ignore_errors=True)
    shown = child.communicate()[1]
    assert "Traceback" not in shown, shown
    if on_error == "stop":
        assert child.returncode == 2 and "cannot be written to" in shown.splitlines()[-1], shown
    else:
        assert child.returncode == 0, shown
        assert {"config.json", "started_at", "metrics.jsonl", "tensorboard"} <= {
            p.name for p in workdir.iterdir()
        }
        assert _left(workdir) == ["50", "55", "60"]
