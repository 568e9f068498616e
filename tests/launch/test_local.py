"""`python -m launch.local` with small programs, as a user starts it."""

import os
import signal
import subprocess
import sys

import pytest

from tests.tiny_runs import REPOSITORY

ADD_UP = """
import sys
from unloc_jax import processes
processes.join(timeout_s=200)
import jax, numpy as np
from jax.experimental.multihost_utils import process_allgather
numbers = process_allgather(np.array([10 + jax.process_index()]))
# In one write: gloo's threads write to the same pipe, also between the words of an unbuffered `print`.
sys.stdout.write(f"{numbers.ravel().tolist()} {jax.device_count()} {jax.local_device_count()}\\n")
"""


def start(*words: str) -> subprocess.Popen:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("UNLOC_", "XLA_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "launch.local", *words],
        env=clean | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen) -> tuple[int, list[str]]:
    out, _ = process.communicate(timeout=300)
    return process.returncode, out.splitlines()


@pytest.mark.slow
def test_processes_run_as_one_with_devices_of_their_own():
    process = start("--processes", "2", "--devices-per-process", "4", "--", sys.executable, "-c", ADD_UP)
    status, lines = ended(process)
    assert status == 0
    said = "\n".join(lines)
    assert "2 processes (from UNLOC_COORDINATOR; process 0 at localhost:" in said
    assert "[10, 11] 8 4" in said


def test_when_one_fails_the_others_are_stopped(tmp_path):
    """By SIGTERM, so that they can save."""
    fails = f"while [ $(ls {tmp_path} | wc -l) != 2 ]; do sleep 0.1; done; exit 3"
    listens = f"trap 'echo stopped; exit 75' TERM; touch {tmp_path}/$UNLOC_PROCESS_ID; sleep 600 & wait"
    words = f"if [ $UNLOC_PROCESS_ID = 1 ]; then {fails}; else {listens}; fi"
    status, lines = ended(start("--processes", "3", "--", "bash", "-c", words))
    assert status == 3
    assert lines[0] == "launch.local: process 1 failed with status 3; stopping the others"
    assert sorted(lines[1:]) == ["[0] stopped", "[2] stopped"]


def test_75_of_a_partner_does_not_hide_a_mistake():
    both = "[ $UNLOC_PROCESS_ID = 1 ] && sleep 0.5 && exit 2; exit 75"
    words = ["--processes", "2", "--max-restarts", "9", "--", "bash", "-c"]
    status, lines = ended(start(*words, both))
    assert (status, lines) == (2, ["launch.local: process 1 failed with status 2; stopping the others"])


def test_a_process_that_a_signal_ends_is_named():
    dies = "[ $UNLOC_PROCESS_ID = 0 ] && kill -SEGV $$; sleep 0.2; exit 75"
    status, lines = ended(start("--processes", "2", "--max-restarts", "9", "--", "bash", "-c", dies))
    assert status == 128 + signal.SIGSEGV
    assert lines == ["launch.local: process 0 was ended by signal 11; stopping the others"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(number):
    """As `unloc train` does: all save, then end with 75."""
    listens = f"trap 'echo saved; exit 75' {number.value}; echo ready; sleep 60 & wait"
    process = start("--processes", "2", "--max-restarts", "1", "--", "bash", "-c", listens)
    assert {process.stdout.readline() for _ in range(2)} == {"[0] ready\n", "[1] ready\n"}
    process.send_signal(number)
    assert ended(process)[0] == 75  # and not started again: we were told to stop


def test_the_preempted_are_started_again(tmp_path):
    once = f'echo "step $(ls {tmp_path} | wc -l)"; [ -e {tmp_path}/1 ] && exit 0; touch {tmp_path}/1; exit 75'
    status, lines = ended(start("--processes", "1", "--max-restarts", "1", "--", "bash", "-c", once))
    assert (status, lines) == (0, ["[0] step 0", "launch.local: preempted; restart 1 of 1", "[0] step 1"])


def test_a_dry_run_prints_shell():
    status, lines = ended(
        start("--dry-run", "--devices-per-process", "4", "--", "unloc", "train", "--workdir=a b")
    )
    assert status == 0 and len(lines) == 3 and lines[-1] == "wait"
    assert "XLA_FLAGS=--xla_force_host_platform_device_count=4 " in lines[1]
    assert lines[1].endswith("-m unloc_jax.cli train '--workdir=a b' &") and "UNLOC_PROCESS_ID=1 " in lines[1]
