import pytest

from unloc_jax.training import clock as clock_module
from unloc_jax.training.clock import Clock, first_start


@pytest.fixture
def now(monkeypatch):
    """A list whose entry is the time in seconds."""
    now = [1000.0]
    monkeypatch.setattr(clock_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(clock_module.time, "time", lambda: now[0])
    return now


def _spend(clock, now, kind, seconds):
    with clock.measure(kind) as took:
        now[0] += seconds
    return took.seconds


def test_time_is_split_and_counts_once(now):
    clock = Clock(started_at=1000.0)
    assert _spend(clock, now, "input", 2) == 2
    with clock.measure("compute"):
        now[0] += 3
        _spend(clock, now, "checkpoint", 4)  # of it, but not computing
        now[0] += 1
    now[0] += 0.5
    expected = {
        "input": 2,
        "compute": 4,
        "compile": 0,
        "checkpoint": 4,
        "evaluation": 0,
        "other": 0.5,
        "total": 10.5,
    }
    assert clock.split() == expected
    assert set(clock.split().values()) == {0}


def test_goodput_over_restarts(now, tmp_path):
    """60 s of computing of which the second process does 20 s again, in 200 s since the very first start."""
    assert first_start(tmp_path) == 1000
    first = Clock(1000.0)
    _spend(first, now, "compute", 40)
    saved = first.productive_s
    _spend(first, now, "compute", 20)
    now[0] += 100  # killed, and nobody starts it again for a while
    assert first_start(tmp_path) == 1000
    second = Clock(first_start(tmp_path), saved)
    _spend(second, now, "compile", 20)
    _spend(second, now, "compute", 20)
    assert second.goodput == pytest.approx(60 / 200)
