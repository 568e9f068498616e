"""Measures how a run's time is spent (input, compute, compilation, checkpoints, evaluation), and its goodput."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

from unloc_jax.processes import is_main
from unloc_jax.whole_writes import write_result

KINDS = ("input", "compute", "compile", "checkpoint", "evaluation")
_START_FILE = "started_at"


@dataclasses.dataclass
class Elapsed:
    """Time that a measured block took, in seconds; set when the block ends."""

    seconds: float = 0.0


class Clock:
    """Splits the time since its creation by kind.

    Args:
      started_at: Start of the run in seconds since 1970; earlier than this process if it continues a run.
      productive_s: Seconds of compute behind the initial parameters.
    """

    def __init__(self, started_at: float, productive_s: float = 0.0):
        self.started_at = started_at
        self.productive_s = productive_s
        self._spent = dict.fromkeys(KINDS, 0.0)
        self._last = time.monotonic()
        self._inner_s = 0.0

    @contextlib.contextmanager
    def measure(self, kind: str) -> Iterator["Elapsed"]:
        """Attributes the time of a `with` block to `kind`, except for nested blocks, which count as their own kind."""
        began, took = time.monotonic(), Elapsed()
        outer, self._inner_s = self._inner_s, 0.0
        try:
            yield took
        finally:
            total_s = time.monotonic() - began
            took.seconds = total_s - self._inner_s
            self._inner_s = outer + total_s
            self._spent[kind] += took.seconds
            if kind == "compute":
                self.productive_s += took.seconds

    @property
    def goodput(self) -> float:
        """Fraction of the time since the run's first start that was spent on computing steps that count.

        It excludes input, compilation, checkpoints, evaluation, the time between a kill and the next start, and steps
        that had to be repeated.
        """
        return self.productive_s / max(time.time() - self.started_at, 1e-9)

    def split(self) -> dict[str, float]:
        """Returns seconds by kind since the last call, with "other" and "total"."""
        now = time.monotonic()
        spent, total = self._spent, now - self._last
        self._spent, self._last = dict.fromkeys(KINDS, 0.0), now
        return {**spent, "other": max(total - sum(spent.values()), 0.0), "total": total}


def first_start(workdir: Path) -> float:
    """Returns when the run in `workdir` began, in seconds since 1970; the first call records it."""
    try:
        return float((workdir / _START_FILE).read_text())
    except (OSError, ValueError):
        now = time.time()
        if is_main():
            record_start(workdir, now)
        return now


def record_start(workdir: Path, started_at: float) -> None:
    """Records when the run in `workdir` began, in seconds since 1970.

    Raises:
      UserError: It cannot be written.
    """
    write_result(workdir / _START_FILE, f"{started_at}\n")
