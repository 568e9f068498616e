"""Keeps orbax's own reports of failed reads and writes off the terminal: one line of ours says the same.

After one of its many reads or writes has failed, orbax logs the error once per thread, asyncio logs every task that
nobody waits for any more, and tensorstore's threads print that their event loop is closed, some of it much later.
"""

import logging
import sys
import traceback
import warnings
from types import TracebackType
from typing import Any


def hide_reports() -> None:
    """Hides these reports from now on; may be called again."""
    for logger, shown in (("absl", _is_not_of_orbax), ("asyncio", _is_of_no_task_of_orbax)):
        logging.getLogger(logger).addFilter(shown)  # adding it again changes nothing
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)
    if not isinstance(sys.excepthook, _Hook):
        sys.excepthook = _Hook(sys.excepthook)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


class _Hook:
    """`sys.excepthook` or `sys.unraisablehook` without what a failed read or write leaves behind."""

    def __init__(self, hook: Any):
        self._hook = hook

    def __call__(self, *what: Any) -> None:
        if len(what) > 1:  # excepthook: one of our own errors may have passed through orbax
            hidden = _is_closed_loop(what[1])
        else:
            hidden = _is_closed_loop(what[0].exc_value) or _is_of_orbax(what[0].exc_traceback)
        if not hidden:
            self._hook(*what)


def _is_closed_loop(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and "Event loop is closed" in str(error)


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


def _is_of_no_task_of_orbax(record: logging.LogRecord) -> bool:
    text, error = record.getMessage(), record.exc_info[1] if record.exc_info else None
    return not ("orbax" in text or "tensorstore" in text or (error and _is_of_orbax(error.__traceback__)))


def _is_of_orbax(trace: TracebackType | None) -> bool:
    return any("orbax" in frame.filename for frame in traceback.extract_tb(trace))
