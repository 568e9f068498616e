"""A run that is killed and started again ends like one that was not: real processes, real SIGKILL."""

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.tiny_runs import REPOSITORY, child_environment, command_of, metric_lines, without_clock

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Sharding info not provided")]

STEPS, EVERY = 30, 6
TIMEOUT_S = 600  # a loaded machine is slow to import and compile


def _command(config_file: Path, dataset: Path, workdir: Path) -> list[str]:
    return command_of(
        "train", f"--config={config_file}", f"--workdir={workdir}", f"--config.data.dir={dataset}",
        "--config.contrastive.steps=8", f"--config.train.steps={STEPS - 8}", "--config.evaluation.every_steps=10",
        f"--config.checkpoint.every_steps={EVERY}", "--config.checkpoint.keep=2",
    )  # fmt: skip


def _finish(command: list[str]) -> str:
    done = subprocess.run(
        command, env=child_environment(optimized=True), capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def _killed(command: list[str], moment: str, step: int) -> None:
    """The command, killed at that moment (see tests/training/killed_run.py)."""
    python, module, _, *words = command
    done = subprocess.run(
        [python, module, "tests.training.killed_run", moment, str(step), *words],
        env=child_environment(optimized=True),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def _kill_when(command: list[str], happened: Callable[[], bool]) -> None:
    """Starts the command and kills it the moment that something has happened, if it has not finished before."""
    child = subprocess.Popen(
        command, env=child_environment(optimized=True), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while child.poll() is None and not happened():
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.returncode in (0, -signal.SIGKILL), child.stderr.read().decode()


def _saved(workdir: Path) -> list[int]:
    """Steps of the finished checkpoints; unfinished ones have longer names."""
    return sorted(int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit())


def _steps(workdir: Path) -> list[int]:
    try:
        return [line["step"] for line in metric_lines(workdir)]
    except (OSError, ValueError):  # not there yet, or half a line
        return []


def _arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Everything in the last checkpoint's state: parameters, optimizer state, step."""
    state = workdir / "checkpoints" / str(STEPS) / "state"
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.restore(state)
    return {
        jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.fixture(scope="module")
def uninterrupted(config_file, captions_dataset) -> Path:
    """The workdir of a run that nobody disturbed; said.txt beside it holds what it printed."""
    workdir = config_file.parent / "uninterrupted"
    said = _finish(_command(config_file, captions_dataset, workdir))
    workdir.with_name("said.txt").write_text(said)
    return workdir


def test_what_a_user_reads(uninterrupted):
    """Progress with loss, speed and time left, and no library's notices."""
    number = r"-?\d+\.\d+"
    allowed = (
        r"0\.\d\d M parameters, 1 × .*",
        r"moment_retrieval: 6 training videos, 2 validation videos",
        rf"(contrastive|train) step compiled in {number} s",
        rf"(contrastive|train      ) step +\d+/\d+  .*loss {number}.*  +{number} videos/s  input \d+ %  "
        r"\d+:\d\d left of (contrastive|train)",
        rf"validation at step (18|28|30): R1@0\.3 {number}  .*mIoU {number}",
    )
    lines = uninterrupted.with_name("said.txt").read_text().splitlines()
    assert [line for line in lines if not any(re.fullmatch(pattern, line) for pattern in allowed)] == []
    assert len(lines) == 2 + 2 + STEPS + 3


def _assert_same_run(workdir: Path, uninterrupted: Path) -> None:
    found, expected = _arrays(workdir), _arrays(uninterrupted)
    assert found.keys() == expected.keys()
    assert {name.split("']")[0][2:] for name in found} == {"step", "params", "opt_state"}
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert _saved(workdir) == _saved(uninterrupted)
    # Each step was logged once, with the same numbers (apart from the clock's).
    lines, expected_lines = ([*map(without_clock, metric_lines(w))] for w in (workdir, uninterrupted))
    assert lines == expected_lines


def test_killed_and_started_again(uninterrupted, config_file, captions_dataset, tmp_path):
    command = _command(config_file, captions_dataset, tmp_path)
    _killed(command, "saved", EVERY)
    assert _saved(tmp_path) == [EVERY]
    # Between two checkpoints, inside the second stage.
    _killed(command, "logged", 2 * EVERY + EVERY // 2)
    assert max(_steps(tmp_path)) == 2 * EVERY + EVERY // 2
    # All of it is written, under a name that marks it as incomplete.
    _killed(command, "saving", 3 * EVERY)
    assert _saved(tmp_path) == [EVERY, 2 * EVERY] and len(list((tmp_path / "checkpoints").iterdir())) == 3

    said = _finish(command)
    assert f"continuing from step {2 * EVERY} of" in said and "Traceback" not in said
    _assert_same_run(tmp_path, uninterrupted)
    assert all(p.name.isdigit() for p in (tmp_path / "checkpoints").iterdir())  # nothing half-written stays


def test_killed_at_random_moments(uninterrupted, config_file, captions_dataset, tmp_path):
    command = _command(config_file, captions_dataset, tmp_path)
    for moment_s in np.random.default_rng().uniform(0, 1.0, 2):
        print(f"killed {moment_s} s after its first step")  # shown if the test fails
        known, began_at = _steps(tmp_path), []

        def due(moment_s=moment_s, known=known, began_at=began_at) -> bool:
            """`moment_s` after this process has done its first step."""
            if not began_at and _steps(tmp_path) not in ([], known):
                began_at.append(time.monotonic())
            return bool(began_at) and time.monotonic() - began_at[0] > moment_s

        _kill_when(command, due)
    _finish(command)
    _assert_same_run(tmp_path, uninterrupted)


def test_a_finished_run_is_left_alone(uninterrupted, config_file, captions_dataset):
    files = lambda: {p: p.stat().st_mtime_ns for p in uninterrupted.rglob("*") if p.is_file()}
    before = files()
    said = _finish(_command(config_file, captions_dataset, uninterrupted))
    assert said.splitlines()[-1] == f"nothing to do: {uninterrupted} is trained ({STEPS} steps)"
    assert files() == before
