"""Profiles selected steps."""

from collections.abc import Callable
from pathlib import Path

import jax


class Trace:
    """Traces the steps of config.profile with JAX's profiler, into `workdir/profile`.

    Args:
      steps: (first, last), counted from 1; () = none.
      workdir: Of the run.
      log: Called with the location of the trace.
    """

    def __init__(self, steps: tuple[int, ...], workdir: Path, log: Callable[[str], None]):
        self._steps, self._directory, self._log = steps, workdir / "profile", log
        self._running = False

    def before(self, step: int) -> None:
        """Starts the trace when it is due; to be called before each step (from 1)."""
        if self._steps and step == self._steps[0]:
            jax.profiler.start_trace(self._directory)
            self._running = True

    def ends(self, step: int) -> bool:
        """Returns whether this step (from 1) is the trace's last; call `after` only once the device has finished it."""
        return self._running and step == self._steps[1]

    def after(self, step: int) -> None:
        """Ends the trace when it is due; to be called after each step (from 1)."""
        if self.ends(step):
            self.close()

    def close(self) -> None:
        """Ends the trace if it is running."""
        if not self._running:
            return
        self._running = False
        jax.profiler.stop_trace()
        self._log(
            f"profile of the steps from {self._steps[0]} to {self._steps[1]} is in {self._directory}; look at it with "
            f"`pip install xprof && xprof --logdir={self._directory}`"
        )
