"""One training per workdir: who is refused, whose lock is taken over, and who notices."""

import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.tiny_runs import metric_lines
from tests.training.test_processes_that_end import Run
from unloc_jax.errors import EXIT_TRY_AGAIN, EXIT_USER_ERROR, TryAgain, UserError
from unloc_jax.training import workdir_lock
from unloc_jax.training.workdir_lock import FILE, Holder, WorkdirLock


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Tests do not wait for minutes."""
    monkeypatch.setattr(workdir_lock, "SILENCE_S", 1.0)
    monkeypatch.setattr(workdir_lock, "_LOOK_S", 0.01)
    monkeypatch.setattr(workdir_lock, "_SETTLE_S", 0.3)
    monkeypatch.setattr(workdir_lock, "BEAT_S", 0.1)


def _write(workdir: Path, holder: Holder) -> None:
    (workdir / FILE).write_bytes(workdir_lock._encoded(holder))


def _of_elsewhere(workdir: Path, log=print) -> WorkdirLock:
    """A lock as a process of another machine would hold it."""
    lock = WorkdirLock(workdir, log)
    lock._holder = dataclasses.replace(lock._holder, host="elsewhere", since="2065-01-01 00:00:00 UTC")
    return lock


def _lock(workdir: Path, said: list[str] | None = None, stopping=lambda: False) -> WorkdirLock:
    return WorkdirLock(workdir, (said if said is not None else []).append, stopping)


def test_the_second_is_told_who_trains_there(tmp_path):
    workdir = tmp_path / "new" / "run"
    with _lock(workdir), pytest.raises(UserError) as refused, _lock(workdir):
        pass
    who = rf"\(process {os.getpid()} on {platform.node()}, since \d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\)"
    assert refused.match(rf"--workdir={workdir} is in use: another training writes there {who}")
    assert not list(workdir.iterdir())  # nothing is left
    with _lock(workdir):
        pass


@pytest.fixture
def dead() -> Holder:
    """A process of this machine that has ended, and that nobody has waited for yet."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = dataclasses.replace(
        Holder.this_process(), pid=child.pid, started=workdir_lock._start_of(child.pid), token="other"
    )
    assert holder.is_here and holder.lives
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    yield holder
    child.wait()
    assert not holder.lives


def test_a_dead_process_of_this_machine_does_not_block(tmp_path, dead):
    reused = dataclasses.replace(dead, pid=os.getpid())  # its number now belongs to this process
    for holder in (dead, reused):
        _write(tmp_path, holder)
        said: list[str] = []
        with _lock(tmp_path, said):
            assert said == []  # it did not wait
            assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_another_machine_that_lives_is_noticed(tmp_path):
    with _of_elsewhere(tmp_path) as other:
        with pytest.raises(
            UserError, match=r"in use: .* on elsewhere, since 2065-01-01 .* that machine is gone"
        ):
            _lock(tmp_path).__enter__()
        other.check()


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{}", b"[1]", b'{"token": 3', b"\xff\x00" * 50],
    ids=lambda content: repr(content)[:9],
)
def test_silence_ends_a_lock(tmp_path, content):
    """Of another machine, or a lock that is damaged."""
    if content is None:
        _write(tmp_path, _of_elsewhere(tmp_path)._holder)
    else:
        (tmp_path / FILE).write_bytes(content)
    os.utime(tmp_path / FILE, (4e9, 4e9))  # by a clock that is ahead of ours
    said: list[str] = []
    with _lock(tmp_path, said) as lock:
        lock.check()
    (note,) = said
    assert ("on elsewhere" in note) == (content is None)
    assert "If it gives no sign of life for 1.0 s" in note and f"delete {tmp_path / FILE}" in note


def test_it_can_be_stopped_while_it_waits(tmp_path):
    _write(tmp_path, _of_elsewhere(tmp_path)._holder)
    with pytest.raises(TryAgain, match="stopped by SIGTERM"):
        _lock(tmp_path, stopping=lambda: True).__enter__()


def test_one_that_was_taken_over_notices_before_it_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(workdir_lock, "BEAT_S", 1000)  # suspended
    with _of_elsewhere(tmp_path) as silent:
        silent.check()
        with _lock(tmp_path) as new:
            with pytest.raises(
                UserError, match=rf"was taken over by another training \(process {os.getpid()} on"
            ):
                silent.check()
            silent.release()
            new.check()
            assert (tmp_path / FILE).exists()


def test_its_own_lock_is_mended(tmp_path):
    workdir = tmp_path / "run"
    with _lock(workdir) as lock:
        (workdir / FILE).write_bytes(b"\x00")
        lock.check()
        with pytest.raises(UserError, match="in use"):
            _lock(workdir).__enter__()
        (workdir / FILE).unlink()
        workdir.rmdir()
        lock.check()  # the next write makes the folder again, or fails
        workdir.mkdir()
        lock.check()
        with pytest.raises(UserError, match="in use"):
            _lock(workdir).__enter__()


def test_of_many_at_once_one_gets_what_a_dead_one_left(tmp_path, dead):
    for _ in range(10):
        _write(tmp_path, dead)
        got, refused, all_tried = [], [], threading.Barrier(6)

        def start(got=got, refused=refused, all_tried=all_tried):
            all_tried.wait()
            try:
                with _lock(tmp_path) as lock:
                    got.append(lock)
                    all_tried.wait()
            except UserError as error:
                refused.append(error)
                all_tried.wait()

        threads = [threading.Thread(target=start) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(refused)) == (1, 5)
    assert not list(tmp_path.iterdir())


def test_a_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "odd" / FILE).mkdir(parents=True)
    for name in ("file", "file/run", "loop", "loop/run", "odd"):
        with pytest.raises(UserError, match=rf"--workdir={tmp_path / name} cannot be written: "):
            _lock(tmp_path / name).__enter__()


@pytest.mark.slow
def test_two_runs_in_one_workdir(tmp_path):
    """The second is refused, the first is undisturbed; after kill -9 the next one continues at once."""
    workdir = tmp_path / "run"
    first = Run(workdir, 1, "--config.train.steps=100000")
    first.wait_for_step(5)
    second = Run(workdir, 1, "--config.train.steps=100000")
    assert second.ended() == [EXIT_USER_ERROR]
    (line,) = [line for line in second.said()[0].splitlines() if line.startswith("unloc: ")]
    assert (
        f"in use: another training writes there (process {first.processes[0].pid} on {platform.node()},"
        in line
    )
    assert "Traceback" not in second.said()[0]
    now = len(metric_lines(workdir))
    first.wait_for_step(max(now + 5, 25))
    first.processes[0].send_signal(signal.SIGKILL)
    assert first.ended() == [-signal.SIGKILL] and (workdir / FILE).exists()
    steps = [line["step"] for line in metric_lines(workdir)]
    assert steps == sorted(steps)  # one line per step, and those of validations
    last = Run(workdir, 1, "--config.train.steps=100000")
    last.wait_for_step(steps[-1] + 5)
    last.processes[0].send_signal(signal.SIGTERM)
    assert last.ended() == [EXIT_TRY_AGAIN], last.said()
    assert "sign of life" not in last.said()[0] and "continuing from step" in last.said()[0]
    assert not (workdir / FILE).exists()
