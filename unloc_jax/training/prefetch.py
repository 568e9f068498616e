"""Fetches the batches of a run in a thread, so that waiting for them can be reported, timed and ended."""

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import Self

import jax

from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.console import show
from unloc_jax.dataset import Dataset
from unloc_jax.leaving import READER
from unloc_jax.training.task_mixing import mixed_batches

_POLL_S = 0.5  # how often to check whether to stop
_CLOSE_S = 10  # how long to wait at the end for a batch that is being read


class Prefetcher:
    """The batches of steps first_step … total_steps-1, by task.

    Args:
      config: Defines the mixture of tasks, and `data.stall_s`: after how many seconds of waiting to report.
      datasets: By task.
      first_step: Counted from 0.
      stopping: Called while waiting; returns whether to give up.
    """

    def __init__(
        self,
        config: Config,
        datasets: Mapping[str, Dataset],
        first_step: int,
        stopping: Callable[[], bool] = lambda: False,
    ):
        self._stall_s = config.data.stall_s
        self._names = {
            name: f"{datasets[name].metadata.name} ({view.data.dir})"
            for name, view in config.task_configs.items()
        }
        self._reading = next(iter(self._names))
        self._stopping = stopping
        self._batches: Generator[dict[str, Batch], None, None] = mixed_batches(
            config, datasets, first_step, self._reads
        )
        self._ready: queue.Queue[object] = queue.Queue(maxsize=1)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fetch, name=READER, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        # A thread that is still inside TensorFlow when Python ends would abort the process. One that does not come back
        # (a storage that hangs) is left to `leave`.
        self._thread.join(_CLOSE_S)

    def take(self, step: int) -> dict[str, Batch] | None:
        """Returns the batches of the next step by task, or None if it is time to stop and none has arrived.

        Args:
          step: Counted from 0, for messages.

        Raises:
          Exception: Whatever reading the batches has raised.
        """
        began, next_report_s = time.monotonic(), self._stall_s
        while True:
            try:
                item = self._ready.get(timeout=_POLL_S)
                break
            except queue.Empty:
                waited_s = time.monotonic() - began
                if self._stopping():
                    if waited_s >= self._stall_s:
                        self._report(f"still no batch for step {step + 1} after {waited_s:.0f} s; stopping")
                    return None
                if waited_s >= next_report_s:
                    since = time.strftime("%H:%M:%S", time.localtime(time.time() - waited_s))
                    self._report(
                        f"has waited {waited_s:.0f} s, since {since}, for the batch of step {step + 1}"
                    )
                    next_report_s *= 2
        if next_report_s > self._stall_s:
            self._report(f"the batch of step {step + 1} came after {time.monotonic() - began:.0f} s")
        if isinstance(item, BaseException):
            raise item
        assert isinstance(item, dict)
        return item

    def _report(self, text: str) -> None:
        """Reports on this process's own stderr: only it knows, while all others wait for it inside the step."""
        who = f"process {jax.process_index()} of {jax.process_count()}: " if jax.process_count() > 1 else ""
        reading = self._names[self._reading]
        show(f"stalled input: {who}{text}; reading {reading}", file=sys.stderr)

    def _reads(self, name: str) -> None:
        self._reading = name

    def _fetch(self) -> None:
        try:
            with contextlib.closing(self._batches):
                for batches in self._batches:
                    self._put(batches)
                    if self._closed.is_set():
                        return
        except BaseException as error:
            self._put(error)

    def _put(self, item: object) -> None:
        while not self._closed.is_set():
            try:
                return self._ready.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
