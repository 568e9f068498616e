"""Ends all processes of a run when one fails: soon, and with one clear line."""

import contextlib
import ctypes
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

import jax

from unloc_jax.console import show
from unloc_jax.coordination import wait_for_all
from unloc_jax.errors import EXIT_TRY_AGAIN, EXIT_USER_ERROR, TryAgain, exit_status

_WAIT_FOR_OTHERS_S = 5
# Messages of JAX's collectives and barriers when the other side is gone, in a RuntimeError or ValueError.
_LOST = re.compile(
    r"gloo|nccl|UNAVAILABLE|DEADLINE_EXCEEDED|Connection (closed|reset)|heartbeat", re.IGNORECASE
)


_last_actions: list[Callable[[], None]] = []


def before_end(action: Callable[[], None]) -> None:
    """Makes `ending_together` do something before it ends this process; it must be allowed to come twice."""
    _last_actions.append(action)


def lost_a_process(error: BaseException) -> bool:
    """Returns whether the error means that another process of the run is gone."""
    return (
        jax.process_count() > 1
        and isinstance(error, jax.errors.JaxRuntimeError | ValueError)
        and "RESOURCE_EXHAUSTED" not in str(error)
        and _LOST.search(str(error)) is not None
    )


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Surrounds the work of several processes; a single process is unaffected.

    An error ends the process immediately: Python's normal exit would first wait, for minutes, for processes that are
    waiting for this one. When JAX notices that another process is gone it aborts; here that ends with a clear line and
    the exit status for "try again" instead of a core dump. JAX notices immediately if the connections to the other
    process break, and otherwise when its heartbeats have been missing for as long as `processes.join` sets.
    """
    if jax.process_count() == 1:
        yield
        return
    _explain_aborts()
    try:
        yield
    except TryAgain:
        raise
    except BaseException as error:
        if lost_a_process(error):
            _end(EXIT_TRY_AGAIN, _gone(str(error).strip().splitlines()[0]))
        ended = exit_status(error)
        if ended is None:
            traceback.print_exc()
            ended = 1, f"unloc: process {jax.process_index()} of {jax.process_count()} failed; see above"
        elif ended[0] == EXIT_USER_ERROR:
            # Most of these errors occur in all processes, and none should mistake the end of another for a crash.
            _wait_for_others()
        _end(*ended)


def _gone(reason: str) -> str:
    shown = reason if len(reason) <= 200 else reason[:200] + "…"
    return (
        f"unloc: process {jax.process_index()} of {jax.process_count()} stops, because another process of this run has "
        f"ended or cannot be reached ({shown}). Start the same command in all processes again; training continues from "
        "the last checkpoint."
    )


def _end(status: int, text: str) -> NoReturn:
    """Prints a line and exits without Python's cleanup."""
    for action in _last_actions:
        action()
    show(text, file=sys.stderr)
    os._exit(status)


def _wait_for_others() -> None:
    try:
        wait_for_all("unloc_error", _WAIT_FOR_OTHERS_S)
    except jax.errors.JaxRuntimeError:
        return  # the error is this process's own: the others do not arrive
    if jax.process_index() == 0:
        time.sleep(1)  # keeps the others' connection to this process open


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _on_abort(number: int) -> None:
    del number
    _end(EXIT_TRY_AGAIN, _gone("JAX aborted; its reason is above"))


def _explain_aborts() -> None:
    # A Python handler would run only after the main thread has returned from the collective in which it waits.
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(_on_abort, ctypes.c_void_p))
