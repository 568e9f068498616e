"""Where the time of a run goes: input, compute, compilation, checkpoints, evaluation; and its goodput."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

from unloc_jax.processes import is_main

KINDS = ("input", "compute", "compile", "checkpoint", "evaluation")


@dataclasses.dataclass
class Took:
    """How long something took; known when it is over."""

    seconds: float = 0.0


class Clock:
    """Splits the time since its making.

    Args:
      started_at: when the run began, in seconds since 1970; before this process, if it goes on with a run.
      productive_s: seconds of computing behind the parameters of the start.
    """

    def __init__(self, started_at: float, productive_s: float = 0.0):
        self.started_at = started_at
        self.productive_s = productive_s
        self._spent = dict.fromkeys(KINDS, 0.0)
        self._last = time.monotonic()
        self._inner_s = 0.0

    @contextlib.contextmanager
    def of(self, kind: str) -> Iterator["Took"]:
        """What happens inside is of this kind, but for what happens inside of another `of` in it."""
        began, took = time.monotonic(), Took()
        outer, self._inner_s = self._inner_s, 0.0
        try:
            yield took
        finally:
            whole_s = time.monotonic() - began
            took.seconds = whole_s - self._inner_s
            self._inner_s = outer + whole_s
            self._spent[kind] += took.seconds
            if kind == "compute":
                self.productive_s += took.seconds

    @property
    def goodput(self) -> float:
        """Share of the time since the run's very first start that was computing, of steps that count.

        Not in it: waiting for input, compilation, checkpoints, evaluation, the time between a kill and the next start,
        and steps that had to be done again.
        """
        return self.productive_s / max(time.time() - self.started_at, 1e-9)

    def split(self) -> dict[str, float]:
        """Seconds by kind since the last call, with "other" and "total"; then they count from 0 again."""
        now = time.monotonic()
        spent, total = self._spent, now - self._last
        self._spent, self._last = dict.fromkeys(KINDS, 0.0), now
        return {**spent, "other": max(total - sum(spent.values()), 0.0), "total": total}


def first_start(workdir: Path) -> float:
    """When the run in `workdir` began, in seconds since 1970; written down the first time."""
    file = workdir / "started_at"
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        now = time.time()
        if is_main():
            file.write_text(f"{now}\n")
        return now
