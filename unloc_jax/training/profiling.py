"""A profile of some steps, on demand."""

from collections.abc import Callable
from pathlib import Path

import jax


class Trace:
    """Traces the steps that config.profile names with JAX's profiler, into `workdir/profile`.

    Args:
      steps: (first, last), counted from 1; () = none.
      workdir: of the run.
      say: told where the trace is.
    """

    def __init__(self, steps: tuple[int, ...], workdir: Path, say: Callable[[str], None]):
        self._steps, self._directory, self._say = steps, workdir / "profile", say
        self._running = False

    def before(self, step: int) -> None:
        """Call before each step (from 1)."""
        if self._steps and step == self._steps[0]:
            jax.profiler.start_trace(self._directory)
            self._running = True

    def ends(self, step: int) -> bool:
        """Whether this step (from 1) is the last one of the trace; `after` must wait until the device has done it."""
        return self._running and step == self._steps[1]

    def after(self, step: int) -> None:
        """Call after each step (from 1)."""
        if self.ends(step):
            self.close()

    def close(self) -> None:
        if not self._running:
            return
        self._running = False
        jax.profiler.stop_trace()
        self._say(
            f"profile of the steps from {self._steps[0]} to {self._steps[1]} is in {self._directory}; look at it with "
            f"`pip install xprof && xprof --logdir={self._directory}`"
        )
