"""Two real processes of one run, of which one gets SIGTERM or is killed: what the other does, and that a restart is
bit for bit the run that nobody disturbed."""

import json
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_runs import child_environment, command_of, metric_lines, without_clock
from unloc_jax.errors import EXIT_TRY_AGAIN, EXIT_USER_ERROR

pytestmark = pytest.mark.slow

TIMEOUT_S = 600  # a loaded machine is slow to import and compile


class Pair:
    """The same `unloc train` in two processes."""

    def __init__(self, config_file: Path, dataset: Path, workdir: Path, *settings: str):
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        words = ["train", f"--config={config_file}", f"--workdir={workdir}", f"--config.data.dir={dataset}"]
        words += ["--config.pretrain.steps=0", "--config.pretrain.warmup_steps=0", *settings]
        words += [f"--coordinator=localhost:{port}", "--num-processes=2"]
        self._errors = [workdir.with_name(f"{workdir.name}_{port}_{i}.txt") for i in range(2)]
        self.processes = [
            subprocess.Popen(
                command_of(*words, f"--process-id={i}"),
                env=child_environment() | {"JAX_PLATFORMS": "cpu"},
                stdout=subprocess.DEVNULL,
                stderr=self._errors[i].open("w"),
            )
            for i in range(2)
        ]
        self._log = workdir / "metrics.jsonl"

    def wait_for_step(self, step: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not self._log.exists() or f'"step": {step},' not in self._log.read_text():
            assert time.monotonic() < deadline and None in [p.poll() for p in self.processes], self.said()
            time.sleep(0.005)

    def ended(self) -> list[int]:
        """Exit statuses."""
        try:
            return [process.wait(TIMEOUT_S) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def said(self) -> list[str]:
        return [path.read_text() for path in self._errors]


def _state(workdir: Path, step: int) -> dict[str, int]:
    """Fingerprints of all arrays of a checkpoint."""
    file = workdir / "checkpoints" / str(step) / "metadata" / "metadata"
    return json.loads(file.read_text())["fingerprints"]


def test_sigterm_to_one_stops_both_and_a_restart_ends_the_same(config_file, captions_dataset, tmp_path):
    settings = (
        "--config.train.steps=150",
        "--config.evaluation.every_steps=60",
        "--config.checkpoint.every_steps=40",
    )
    undisturbed = Pair(config_file, captions_dataset, tmp_path / "a", *settings)
    assert undisturbed.ended() == [0, 0], undisturbed.said()
    rng, stopped = np.random.default_rng(), 0
    for wait_for in (1, int(rng.integers(40, 70))):
        pair = Pair(config_file, captions_dataset, tmp_path / "b", *settings)
        pair.wait_for_step(stopped + wait_for)
        which = int(rng.integers(2))
        print(f"SIGTERM to process {which} at step {stopped + wait_for}")  # shown if the test fails
        pair.processes[which].send_signal(signal.SIGTERM)
        assert pair.ended() == [EXIT_TRY_AGAIN] * 2, pair.said()
        steps = [re.search(r"stopped by SIGTERM after step (\d+) of 150", said) for said in pair.said()]
        assert steps[0][1] == steps[1][1]
        stopped = int(steps[0][1])
        assert (tmp_path / "b" / "checkpoints" / str(stopped)).is_dir()
    last = Pair(config_file, captions_dataset, tmp_path / "b", *settings)
    assert last.ended() == [0, 0] and f"continuing from step {stopped} of 150" in last.said()[0]
    assert _state(tmp_path / "a", 150) == _state(tmp_path / "b", 150)
    a, b = ([*map(without_clock, metric_lines(tmp_path / name))] for name in "ab")
    assert a == b


@pytest.mark.parametrize("which", [0, 1])
def test_when_one_is_killed_the_other_ends_soon(config_file, captions_dataset, tmp_path, which):
    pair = Pair(config_file, captions_dataset, tmp_path / "run", "--config.train.steps=100000")
    pair.wait_for_step(3)
    pair.processes[which].kill()
    began = time.monotonic()
    statuses = pair.ended()
    print(f"after {time.monotonic() - began:.1f} s")
    assert statuses[which] == -signal.SIGKILL and statuses[1 - which] == EXIT_TRY_AGAIN, pair.said()
    assert time.monotonic() - began < 60
    said = pair.said()[1 - which]
    (line,) = [line for line in said.splitlines() if line.startswith("unloc: ")]
    assert re.fullmatch(
        rf"unloc: process {1 - which} of 2 stops, because another process of this run has ended or cannot be reached "
        r"\(.*\)\. The same command, started in all processes, goes on from the last checkpoint\.",
        line,
    )
    assert "Traceback" not in said


def test_an_error_of_all_is_no_death(config_file, captions_dataset, tmp_path):
    """Both find the loss not finite: both say so, and neither takes the other for dead."""
    settings = ("--config.train.learning_rate=1e30", "--config.train.warmup_steps=0")
    pair = Pair(config_file, captions_dataset, tmp_path / "run", *settings)
    assert pair.ended() == [EXIT_USER_ERROR] * 2, pair.said()
    assert all("unloc: error: step " in said and "is not finite" in said for said in pair.said())
