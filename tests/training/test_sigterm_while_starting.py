"""SIGTERM at random moments of a command's first seconds, with real input pipelines: status 75, and nothing is left.

Threads of TensorFlow that were still reading when Python ended have aborted a few runs in a hundred, or made them hang.
SIGTERM_TRIES=100 makes as many tries instead of a few; `pytest -s` prints them.
"""

import collections
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.tiny_runs import child_environment, command_of, wait_until_heard
from unloc_jax.errors import EXIT_TRY_AGAIN

pytestmark = pytest.mark.slow

TRIES = int(os.environ.get("SIGTERM_TRIES", 3))
TIMEOUT_S = 300


# SIGTERM comes at the first record, and every record takes a while: threads are reading when the command ends.
_READING = """
import os, signal, time
from data_pipelines.reading.planner import Planner
from unloc_jax.cli import run
plan, sent = Planner.plan, []
def slow(self, place):
    if not sent:
        sent.append(os.kill(os.getpid(), signal.SIGTERM))
    time.sleep(0.3)
    return plan(self, place)
Planner.plan = slow
run()
"""


def _start(words: Sequence[object], program: str | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        command_of(*words) if program is None else [sys.executable, "-c", program, *map(str, words)],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _of_session(leader: int) -> list[str]:
    """The processes of a session that still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] not in "ZX":
            found.append(process.name)
    return found


def _stop(
    words: Sequence[object], after_s: float = 0, program: str | None = None
) -> tuple[int, str, list[str]]:
    """Exit status, stderr, and the processes that are left."""
    process = _start(words, program)
    try:
        if program is not None:
            _, said = process.communicate(timeout=TIMEOUT_S)
            return process.returncode, said, _of_session(process.pid)
        wait_until_heard(process)
        time.sleep(after_s)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, said, _of_session(process.pid)
    finally:
        process.kill()


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_sigterm_at_any_moment(command, config_file, captions_dataset, trained, tmp_path):
    out = tmp_path / "out"
    train = ["train", f"--config={config_file}", f"--config.data.dir={captions_dataset}", f"--workdir={out}"]
    evaluate = ["evaluate", f"--checkpoint={trained}", f"--data-dir={captions_dataset}", f"--out={out}"]
    words = {"train": [*train, "--config.train.steps=100000"], "evaluate": evaluate}[command]
    began = time.monotonic()
    process = _start(words)
    while not (out / "metrics.jsonl").exists() and not (out / "metrics.json").exists():
        assert time.monotonic() - began < TIMEOUT_S and process.poll() is None
        time.sleep(0.1)
    starting_s = time.monotonic() - began
    process.kill()
    process.communicate()

    rng, statuses = random.Random(), collections.Counter()
    for number in range(TRIES):
        after_s, out = rng.uniform(0, starting_s), tmp_path / f"out{number}"
        status, said, left = _stop([*words, f"--{'workdir' if command == 'train' else 'out'}={out}"], after_s)
        print(f"SIGTERM {after_s:.2f} s after it is heard: {status}", flush=True)
        statuses[status] += 1
        if status == 0:  # it came after the last batch
            assert command == "evaluate" and (out / "metrics.json").exists()
            continue
        lines = [line for line in said.splitlines() if line.startswith("unloc: ")]
        assert (status, len(lines), left) == (EXIT_TRY_AGAIN, 1, []), (after_s, said)
        assert lines[0].startswith("unloc: stopped by SIGTERM") and "Traceback" not in said
        names = [path.name for path in out.rglob("*")]
        assert not [name for name in names if re.search(r"tmp|partial|unfinished|\.lock|writable", name)]
    print(dict(statuses))


@pytest.mark.parametrize("reader", ["tf.data", "grain"])
def test_sigterm_while_threads_read(reader, config_file, captions_dataset, tmp_path):
    out = tmp_path / "out"
    words = ["train", f"--config={config_file}", f"--config.data.dir={captions_dataset}", f"--workdir={out}"]
    settings = [f"--config.data.reader={reader}", "--config.data.num_workers=8"]
    status, said, left = _stop([*words, *settings], program=_READING)
    lines = [line for line in said.splitlines() if line.startswith("unloc: ")]
    assert (status, len(lines), left) == (EXIT_TRY_AGAIN, 1, []), said
