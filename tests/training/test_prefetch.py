"""Batches from a thread: order, errors, and what is said when none comes."""

import dataclasses
import re
import subprocess
import sys
import threading

import pytest

from tests.tiny import tiny_config, tiny_metadata
from unloc_jax.training import prefetch as prefetch_module
from unloc_jax.training.prefetch import Prefetcher


class Slow:
    """Batches are numbers; before some of them it waits for an event."""

    metadata = tiny_metadata()

    def __init__(self, waits_at: int | None = None, fails_at: int | None = None):
        self.waits_at, self.fails_at, self.go_on = waits_at, fails_at, threading.Event()

    def training_batches(self, start_step, num_steps):
        for step in range(start_step, num_steps):
            if step == self.fails_at:
                raise ValueError("damaged")
            if step == self.waits_at:
                self.go_on.wait(100)
            yield step


def _arguments(dataset, **settings):
    config = tiny_config(train={"steps": 5}, data={"dir": "shards"})
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **settings))
    return config, {"moment_retrieval": dataset}


def test_in_order_from_any_step():
    with Prefetcher(*_arguments(Slow()), 2) as prefetcher:
        assert [prefetcher.take(step) for step in (2, 3, 4)] == [
            {"moment_retrieval": step} for step in (2, 3, 4)
        ]


def test_an_error_arrives_at_its_step():
    with Prefetcher(*_arguments(Slow(fails_at=1)), 0) as prefetcher:
        assert prefetcher.take(0) == {"moment_retrieval": 0}
        with pytest.raises(ValueError, match="damaged"):
            prefetcher.take(1)


def test_a_stall_is_named_while_it_lasts(capfd, monkeypatch):
    """By a clock that advances by half a second whenever it looks, and stands still from 3 s on."""
    now = [0.0]
    monkeypatch.setattr(prefetch_module, "_POLL_S", 0.01)
    monkeypatch.setattr(prefetch_module.time, "monotonic", lambda: now[0])
    dataset = Slow(waits_at=1)

    def looks() -> bool:
        now[0] = min(now[0] + 0.5, 3.0)
        if now[0] == 3.0:
            dataset.go_on.set()
        return False

    with Prefetcher(*_arguments(dataset, stall_s=1.0), 0, looks) as prefetcher:
        while prefetcher._ready.empty():  # before it waits for the first batch
            threading.Event().wait(0.01)
        prefetcher.take(0)
        assert prefetcher.take(1) == {"moment_retrieval": 1}
        assert prefetcher.take(2) == {"moment_retrieval": 2}
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 3  # after 1 s, after 2 s, and when it came
    clock = r"\d\d:\d\d:\d\d"
    first = rf"stalled input: has waited 1 s, since {clock}, for the batch of step 2; reading tiny \(shards\)"
    assert re.fullmatch(first, lines[0]) and "has waited 2 s" in lines[1] and "came after 3 s" in lines[2]


def test_a_stop_ends_the_waiting():
    dataset, looks = Slow(waits_at=0), iter([False, True])
    with Prefetcher(*_arguments(dataset), 0, stopping=lambda: next(looks)) as prefetcher:
        assert prefetcher.take(0) is None
        assert not dataset.go_on.is_set()
        dataset.go_on.set()


def test_a_reader_that_hangs_does_not_keep_the_process():
    """A thread in a storage that does not answer: Python's own end would wait for it."""
    program = (
        "import threading, time\n"
        "from unloc_jax.leaving import READER, leave\n"
        "threading.Thread(target=time.sleep, args=(1000,), name=READER).start()\n"
        "print('written', end='')\n"
        "leave(75)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=False
    )
    assert (done.returncode, done.stdout) == (75, "written")
