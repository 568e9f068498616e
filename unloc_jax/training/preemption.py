"""SIGTERM: the machine will be taken away. All processes of a run stop after the same step."""

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

import jax
from jax.experimental import multihost_utils

T = TypeVar("T")


class Reached(Exception):
    """It is time to stop."""


class Preemption:
    """Between `with` and its end SIGTERM does not kill, but makes `reached` True.

    One process notices it by a handler of its own. Of several, whichever gets the signal tells the others, and JAX's
    coordination service finds the next call of `reached` that none of them has made yet: there all learn of it. So all
    must call it equally often.
    """

    def __init__(self) -> None:
        self._alone = jax.process_count() == 1
        self._signalled = self._agreed = False
        self._calls = 0
        self._previous: Any = None

    def __enter__(self) -> Self:
        if self._alone and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._notice)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._signalled = True

    @property
    def signalled(self) -> bool:
        """Whether this run's only process got the signal; always False for several processes."""
        return self._signalled

    def reached(self) -> bool:
        """Whether to stop here. From the first True on it stays True."""
        if self._alone:
            return self._signalled
        self._calls += 1
        self._agreed = self._agreed or multihost_utils.reached_preemption_sync_point(self._calls)
        return self._agreed

    def watched(self, items: Iterable[T]) -> Iterator[T]:
        """The items (equally many in every process); raises Reached before one when it is time to stop."""
        for item in items:
            if self.reached():
                raise Reached
            yield item
