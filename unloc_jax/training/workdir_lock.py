"""Lets one training at a time write to a workdir.

Whoever trains there keeps a file that names it, and changes that file every BEAT_S seconds. The file of a process that
is gone does not block:
  - on the same machine, the process either lives or does not (a reused process id has another start time);
  - of another machine, it is watched: if it does not change for SILENCE_S, nobody holds it. Clocks are not compared.
A file system without locks, such as a mounted bucket, is enough. If the other process was only silent (suspended, cut
off from the storage), it finds another name in the file before its next write, and stops.
"""

import contextlib
import dataclasses
import json
import os
import platform
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from unloc_jax import agreement
from unloc_jax.errors import TryAgain, UserError
from unloc_jax.foreign_text import parse_json
from unloc_jax.processes import is_main
from unloc_jax.training.process_failures import before_end

FILE = "training.lock"
BEAT_S = 20
SILENCE_S = (
    120  # several beats, and longer than network file systems and mounted buckets keep what they have read
)
_LOOK_S = 1.0
_SETTLE_S = 1.0
_TIME_TO_SEE_S = 10  # until a file that one machine has written is seen by another


@dataclasses.dataclass(frozen=True)
class Holder:
    """A process that trains, as its lock names it.

    Attributes:
      token: of this lock; no other has it.
      host: name of the machine.
      machine: identifies the boot of the machine and its process ids, which containers have of their own.
      pid: process id.
      started: when the process started, as the system writes it.
      since: when it began to train, for messages.
      beat: number of times that the file was changed.
    """

    token: str
    host: str
    machine: str
    pid: int
    started: str
    since: str
    beat: int = 0

    @classmethod
    def this_process(cls) -> Self:
        now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        pid = os.getpid()
        return cls(uuid.uuid4().hex, platform.node(), _machine(), pid, _start_of(pid) or "", now)

    @property
    def is_here(self) -> bool:
        """Whether it is or was a process of this machine, so that `lives` is known."""
        return bool(self.machine) and (self.host, self.machine) == (platform.node(), _machine())

    @property
    def lives(self) -> bool:
        """Whether this process of this machine still runs."""
        return _start_of(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextlib.contextmanager
def holding(
    workdir: Path, log: Callable[[str], None], stopping: Callable[[], bool] = lambda: False
) -> Iterator[Callable[[], None]]:
    """Holds a workdir for all processes of this run; yields what to call before each write (see `WorkdirLock.check`).

    The first process has the lock; the others check that they see it, because all of them write checkpoints.

    Args:
      workdir, log, stopping: see `WorkdirLock`.

    Raises:
      UserError: another training writes there, the workdir cannot be written, or it is not the same folder in all
        processes; in all processes.
      TryAgain: `stopping` returned True.
    """
    with contextlib.ExitStack() as stack:
        lock = WorkdirLock(workdir, log, stopping)
        token = agreement.by_first(lambda: stack.enter_context(lock).token)
        before_end(lock.release)
        agreement.check(lambda: {"the folder that --workdir names": _seen(workdir, token)})
        yield lock.check if is_main() else lambda: None


def _seen(workdir: Path, token: str) -> str:
    """Describes the workdir of this process: whether it holds the lock of this run."""
    deadline = time.monotonic() + _TIME_TO_SEE_S
    while True:
        with contextlib.suppress(OSError):
            holder = _read(workdir / FILE)[1]
            if holder is not None and holder.token == token:
                return "that of process 0"
        if time.monotonic() >= deadline:
            return f"another one ({workdir} on {platform.node()})"
        time.sleep(0.1)


class WorkdirLock:
    """Holds a workdir for this training, as a context manager.

    Args:
      workdir: is made if needed.
      log: called with a message while it waits.
      stopping: called while it waits; returns whether to give up.
      setting: what the workdir is called in messages.

    Raises:
      UserError: another process trains there, or the workdir cannot be written.
      TryAgain: `stopping` returned True.
    """

    def __init__(
        self,
        workdir: Path,
        log: Callable[[str], None],
        stopping: Callable[[], bool] = lambda: False,
        setting: str = "--workdir",
    ):
        self._workdir, self._log, self._stopping, self._setting = workdir, log, stopping, setting
        self._file = workdir / FILE
        self._holder = Holder.this_process()
        self._released = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="unloc-workdir-lock", daemon=True)

    @property
    def token(self) -> str:
        """Identifies this lock."""
        return self._holder.token

    def __enter__(self) -> Self:
        try:
            self._workdir.mkdir(parents=True, exist_ok=True)
            while not self._create():
                left = self._wait_until_free()
                if left is not None and self._take_over(left):
                    break
        except OSError as error:
            raise UserError(
                f"{self._setting}={self._workdir} cannot be written: {error.strerror}. Choose another one."
            ) from error
        self._beats.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Lets others train here."""
        self._released.set()
        with contextlib.suppress(
            OSError
        ):  # such as a workdir that was deleted, or cannot be written any more
            now = _read(self._file)[1]
            if now is not None and now.token == self.token:
                self._file.unlink()

    def check(self) -> None:
        """Checks before a write that the workdir is still held.

        Raises:
          UserError: another training has taken it over.
        """
        try:
            other = self._other()
        except OSError:
            return  # the write itself will tell
        if other is not None:
            raise UserError(
                f"{self._setting}={self._workdir} was taken over by another training ({other}) while this one gave no "
                f"sign of life for {SILENCE_S} s. This one stops and writes nothing more."
            )

    def _create(self) -> bool:
        """Creates the file; returns False if there is one."""
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_encoded(self._holder))
        except OSError:
            with contextlib.suppress(OSError):
                self._file.unlink()
            raise
        return True

    def _wait_until_free(self) -> bytes | None:
        """Waits until nobody trains here; returns what is left of the lock, None if it is gone.

        Raises:
          UserError: somebody does.
          TryAgain: it is time to stop.
        """
        seen: bytes | None = None
        silent_since, told = time.monotonic(), False
        while True:
            try:
                now, holder = _read(self._file)
            except FileNotFoundError:
                return None
            if holder is not None and holder.is_here:
                if holder.lives:
                    raise self._in_use(holder)
                return now
            if now != seen:
                if seen is not None and holder is not None:
                    raise self._in_use(holder)
                seen, silent_since = now, time.monotonic()
            elif time.monotonic() - silent_since >= SILENCE_S:
                return now
            elif not told:
                told = True
                who = holder or "a training whose lock is damaged"
                self._log(
                    f"note: {self._setting}={self._workdir} belongs to {who}. If it gives no sign of life for "
                    f"{SILENCE_S} s, its machine is gone and this run continues; if you know that it is, delete "
                    f"{self._file}."
                )
            if self._stopping():
                raise TryAgain("stopped by SIGTERM before the first step; the same command starts again")
            time.sleep(_LOOK_S)

    def _in_use(self, holder: Holder) -> UserError:
        rule = f" If that machine is gone, this is noticed {SILENCE_S} s after its last sign of life."
        return UserError(
            f"{self._setting}={self._workdir} is in use: another training writes there ({holder}). Wait for its end, "
            f"stop it, or choose another folder.{'' if holder.is_here else rule}"
        )

    def _take_over(self, left: bytes) -> bool:
        """Replaces a lock that nobody holds; returns False if somebody else did at the same time."""
        new = self._file.with_name(f"{FILE}.{self.token}")
        try:
            if self._file.read_bytes() != left:
                return False
            new.write_bytes(_encoded(self._holder))
            new.replace(self._file)
            time.sleep(_SETTLE_S)  # of several at the same time the last one gets it
            holder = _read(self._file)[1]
            return holder is not None and holder.token == self.token
        except FileNotFoundError:
            return False
        finally:
            new.unlink(missing_ok=True)

    def _other(self) -> Holder | None:
        """Returns who else holds the workdir, if anybody; makes the lock again if it is deleted or damaged."""
        with contextlib.suppress(FileNotFoundError):
            holder = _read(self._file)[1]
            if holder is not None:
                return None if holder.token == self.token else holder
            self._file.unlink()
        self._create()
        return None

    def _beat(self) -> None:
        beat = 0
        while not self._released.wait(BEAT_S):
            beat += 1
            with contextlib.suppress(OSError):  # a storage that is away for a while
                if self._other() is None:
                    self._change(dataclasses.replace(self._holder, beat=beat))

    def _change(self, holder: Holder) -> None:
        # In place and of the same length: a full disk has room for it, and no reader sees a part.
        with self._file.open("r+b", buffering=0) as file:
            now = _decoded(file.read())
            if now is not None and now.token == self.token:
                file.seek(0)
                file.write(_encoded(holder))


def _encoded(holder: Holder) -> bytes:
    values = dataclasses.asdict(holder) | {"beat": f"{holder.beat:012d}"}
    return (json.dumps(values) + "\n").encode()


def _read(file: Path) -> tuple[bytes, Holder | None]:
    """Returns a lock's content, and whom it names, None if it is damaged."""
    content = file.read_bytes()
    return content, _decoded(content)


def _decoded(content: bytes) -> Holder | None:
    try:
        values = parse_json(content)
        texts = {field: str(values[field]) for field in ("token", "host", "machine", "started", "since")}
        return Holder(**texts, pid=int(values["pid"]), beat=int(values["beat"]))
    except (ValueError, KeyError, TypeError):
        return None


def _machine() -> str:
    """Identifies the boot of this machine and the processes that are visible here; "" where this is unknown."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return _output("sysctl", "-n", "kern.boottime")  # macOS


def _start_of(pid: int) -> str | None:
    """Returns when a process of this machine started, as the system writes it; None if it does not run."""
    try:
        # "PID (name) state …"; the name may contain anything. Field 22 is the start, in ticks since boot.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    return _output("ps", "-o", "lstart=", "-p", str(pid)) or None


def _output(*command: str) -> str:
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return ""
