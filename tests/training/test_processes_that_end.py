"""Real processes, one or two of a run, that get SIGTERM or are killed, in the real loop with a toy model.

What the others do, and that the run ends bit for bit like one that nobody disturbed.
"""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_runs import REPOSITORY, child_environment, metric_lines, wait_until_heard, without_clock
from unloc_jax.errors import EXIT_TRY_AGAIN, EXIT_USER_ERROR

pytestmark = pytest.mark.slow

STEPS = 100  # of the toy run
TIMEOUT_S = 600  # a loaded machine is slow to import and compile


class Run:
    """The same `unloc train` in `count` processes, with toys; the last one may differ."""

    def __init__(
        self,
        workdir: Path,
        count: int,
        *settings: str,
        validation_s: float = 0,
        of_last: Sequence[str] = (),
        environment_of_last: Mapping[str, str] = types.MappingProxyType({}),
    ):
        words = ["train", "--config=tests/training/toy_run.py", f"--workdir={workdir}", *settings]
        environment = child_environment() | {"JAX_PLATFORMS": "cpu", "TOY_VALIDATION_S": str(validation_s)}
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        self.began_at = time.time()
        self._errors = [workdir.with_name(f"{workdir.name}_{port}_{i}.txt") for i in range(count)]
        self.processes = []
        for i in range(count):
            is_last = i == count - 1
            place = [f"--coordinator=localhost:{port}", f"--num-processes={count}", f"--process-id={i}"]
            self.processes.append(
                subprocess.Popen(
                    [
                        *(sys.executable, "-m", "tests.training.toy_run", *words),
                        *(place if count > 1 else []),
                        *(of_last if is_last else ()),
                    ],
                    env=environment | (dict(environment_of_last) if is_last else {}),
                    cwd=REPOSITORY,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors[i].open("w"),
                )
            )
        self._log = workdir / "metrics.jsonl"

    def wait_for_step(self, step: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not self._log.exists() or f'"step": {step},' not in self._log.read_text():
            assert time.monotonic() < deadline and None in [p.poll() for p in self.processes], self.said()
            time.sleep(0.002)

    def ended(self) -> list[int]:
        """Exit statuses."""
        try:
            return [process.wait(TIMEOUT_S) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def said(self) -> list[str]:
        return [path.read_text() for path in self._errors]


def _metadata(workdir: Path, step: int) -> dict:
    return json.loads((workdir / "checkpoints" / str(step) / "metadata" / "metadata").read_text())


@pytest.fixture(scope="module", params=[1, 2])
def undisturbed(request, tmp_path_factory) -> tuple[int, Path]:
    """(processes, workdir) of a run that came to its end."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    run = Run(workdir, request.param)
    assert run.ended() == [0] * request.param, run.said()
    return request.param, workdir


def test_sigterm_to_one_stops_all_and_a_restart_ends_the_same(undisturbed, tmp_path):
    """Once in the midst of steps and once in the validation after step 60, which is broken off and made later.

    Several processes need a second or more to tell each other, in which they may do many of these small steps; but the
    validation lasts until they know.
    """
    (count, expected), workdir = undisturbed, tmp_path / "run"
    rng, stopped = np.random.default_rng(), 0
    for moment in (int(rng.integers(2, 25)), 60):
        run, which = Run(workdir, count, validation_s=TIMEOUT_S), int(rng.integers(count))
        print(f"SIGTERM to process {which} after step {moment}")  # shown if the test fails
        run.wait_for_step(moment)
        run.processes[which].send_signal(signal.SIGTERM)
        assert run.ended() == [EXIT_TRY_AGAIN] * count, run.said()
        found = [
            re.search(rf"unloc: stopped by SIGTERM after step (\d+) of {STEPS}", said) for said in run.said()
        ]
        assert len({match[1] for match in found}) == 1
        stopped = int(found[0][1])
        assert moment <= stopped <= 60
        assert stopped in [int(p.name) for p in (workdir / "checkpoints").iterdir()]
        if stopped == 60:
            break
    assert stopped == 60 and _metadata(workdir, 60)["history"]["validation_due"]
    last = Run(workdir, count)
    assert last.ended() == [0] * count and f"continuing from step {stopped} of {STEPS}" in last.said()[0]
    assert _metadata(workdir, STEPS)["fingerprints"] == _metadata(expected, STEPS)["fingerprints"]
    lines, expected_lines = ([*map(without_clock, metric_lines(w))] for w in (workdir, expected))
    assert lines == expected_lines  # the validation of step 60 too, once
    # Goodput remembers: of the last process only what it computed is new, and the time before it counts too.
    productive_s = {step: _metadata(workdir, step)["history"]["productive_s"] for step in (60, STEPS)}
    of_last = [line for line in metric_lines(workdir) if line["step"] > stopped and "goodput" in line]
    computed_s = sum(line["time/compute"] for line in of_last)  # per step, and every step has a line
    assert productive_s[STEPS] == pytest.approx(productive_s[60] + computed_s) and computed_s > 0
    dead_s = last.began_at - float((workdir / "started_at").read_text())
    assert dead_s > 0 and of_last[-1]["goodput"] < productive_s[STEPS] / dead_s


@pytest.mark.parametrize("count", [1, 2])
def test_sigterm_in_the_first_moment_stops_all(tmp_path, count):
    """Before JAX is imported: the others, who are starting too, learn of it as soon as they have met."""
    run = Run(tmp_path / "run", count)
    wait_until_heard(run.processes[-1])
    run.processes[-1].send_signal(signal.SIGTERM)
    assert run.ended() == [EXIT_TRY_AGAIN] * count, run.said()
    for said in run.said():
        (line,) = [line for line in said.splitlines() if line.startswith("unloc: ")]
        assert line.startswith("unloc: stopped by SIGTERM ") and "Traceback" not in said


@pytest.mark.parametrize("which", [0, 1])
def test_when_one_is_killed_the_other_ends_soon(tmp_path, which):
    run = Run(tmp_path / "run", 2, "--config.train.steps=100000")
    run.wait_for_step(25)
    run.processes[which].kill()
    began = time.monotonic()
    statuses = run.ended()
    print(f"after {time.monotonic() - began:.1f} s")
    assert statuses[which] == -signal.SIGKILL and statuses[1 - which] == EXIT_TRY_AGAIN, run.said()
    said = run.said()[1 - which]
    (line,) = [line for line in said.splitlines() if line.startswith("unloc: ")]
    assert re.fullmatch(
        rf"unloc: process {1 - which} of 2 stops, because another process of this run has ended or cannot be reached "
        r"\(.*\)\. Start the same command in all processes again; training continues from the last checkpoint\.",
        line,
    )
    # If a checkpoint was being written, orbax's own thread has logged its traceback before that line.


def test_an_error_of_all_is_no_death(tmp_path, monkeypatch):
    """Both find the loss not finite: both report it, and neither takes the other for dead."""
    monkeypatch.setenv("TOY_BAD_STEP", "7")
    run = Run(tmp_path / "run", 2)
    assert run.ended() == [EXIT_USER_ERROR] * 2, run.said()
    assert all("unloc: error: step 7: " in said and "video6_3. Lower" in said for said in run.said())
