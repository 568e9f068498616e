"""SIGTERM: the machine will be taken away. All processes of a run stop at the same place."""

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
    """It is time to stop."""


class Preemption:
    """Between `with` and its end SIGTERM does not kill, but makes `reached` True.

    One process notices it by a handler of its own. Of several, whichever gets the signal tells the others, and JAX's
    coordination service finds the next call of `reached` that none of them has made yet: there all learn of it. So all
    must call it equally often.
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
        """Whether this run's only process got the signal; always False for several processes."""
        return self._alone and sigterm.came()

    def reached(self) -> bool:
        """Whether to stop here. From the first True on it stays True."""
        if self._alone:
            return sigterm.came()
        self._calls += 1
        self._agreed = self._agreed or multihost_utils.reached_preemption_sync_point(self._calls)
        return self._agreed

    def watched(self, items: Iterable[T]) -> Iterator[T]:
        """The items (equally many in every process); raises Reached before one when it is time to stop."""
        for item in items:
            if self.reached():
                raise Reached("stopped by SIGTERM; the same command starts again")
            yield item
