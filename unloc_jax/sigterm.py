"""Remembers SIGTERM from a command's start on, before JAX is imported or connects to other processes."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_came = False


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Sets `came` on SIGTERM inside the context instead of ending the process; the code inside checks it and stops.

    Nested contexts share this state. Does nothing outside the main thread.
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
    """Restores the handler of `remembered` after a library has replaced it."""
    if signal.getsignal(signal.SIGTERM) is _notice:  # Python does not see handlers that C++ installs
        signal.signal(signal.SIGTERM, _notice)


def arrived() -> bool:
    """Returns whether SIGTERM has come; in joined processes JAX receives it instead, see `Preemption`."""
    return _came


def _notice(number: int, frame: FrameType | None) -> None:
    global _came
    del number, frame
    _came = True
