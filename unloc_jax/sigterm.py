"""SIGTERM, remembered from a command's first moment on: before JAX is imported, or knows of other processes."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_came = False


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Inside, SIGTERM does not kill: from then on `came` is True, and who works inside looks and ends in good order.

    One inside of another is the same memory. In a thread that is not the main one it does nothing.
    """
    global _came
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.getsignal(signal.SIGTERM) is not _notice:
        _came = False
    previous = signal.signal(signal.SIGTERM, _notice)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous or signal.SIG_DFL)


def listen_again() -> None:
    """Inside of `remembered`, after a library has put a handler of its own in the place: takes it back."""
    if signal.getsignal(signal.SIGTERM) is _notice:  # as far as Python knows
        signal.signal(signal.SIGTERM, _notice)


def came() -> bool:
    """Whether SIGTERM has come. Of several processes that have joined JAX gets it: see `Preemption`."""
    return _came


def _notice(number: int, frame: FrameType | None) -> None:
    global _came
    del number, frame
    _came = True
