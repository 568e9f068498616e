"""Handles SIGTERM, which announces that the machine will be preempted: all processes of a run stop at the same step."""

import contextlib
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import jax
from jax.experimental import multihost_utils

from unloc_jax import sigterm
from unloc_jax.errors import TryAgain

T = TypeVar("T")


class Reached(TryAgain):
    """Raised when it is time to stop."""


def stop_if_signalled() -> None:
    """Raises Reached if this run's only process got SIGTERM while it was starting."""
    if sigterm.arrived() and jax.process_count() == 1:
        raise Reached("stopped by SIGTERM before the first step; the same command starts again")


class Preemption:
    """A context in which SIGTERM does not kill the process but makes `reached` return True.

    A single process uses its own signal handler. With several, whichever gets the signal notifies the others, and JAX's
    coordination service picks the next call of `reached` that none of them has made yet, at which all learn of it. All
    processes must therefore call it equally often.
    """

    def __init__(self) -> None:
        self._alone = jax.process_count() == 1
        self._listening = sigterm.remembered() if self._alone else contextlib.nullcontext()
        self._agreed = False
        self._calls = 0

    def __enter__(self) -> Self:
        self._listening.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.__exit__(kind, error, trace)

    @property
    def signalled(self) -> bool:
        """Whether this run's only process got the signal; always False with several processes."""
        return self._alone and sigterm.arrived()

    def reached(self) -> bool:
        """Returns whether to stop here; once True, it stays True."""
        if self._alone:
            return sigterm.arrived()
        self._calls += 1
        self._agreed = self._agreed or multihost_utils.reached_preemption_sync_point(self._calls)
        return self._agreed

    def watched(self, items: Iterable[T]) -> Iterator[T]:
        """Yields the items (equally many in every process); raises Reached before an item when it is time to stop."""
        for item in items:
            if self.reached():
                raise Reached("stopped by SIGTERM; the same command starts again")
            yield item
