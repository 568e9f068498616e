"""Keeps orbax's own reports of failed reads and writes off the terminal: one line of ours says the same.

After one of its many reads or writes has failed, orbax logs the error once per thread, asyncio logs every task that
nobody waits for any more, and tensorstore's threads print that their event loop is closed, some of it much later.
"""

import logging
import sys
import traceback
import warnings
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
    """A hook of `sys` for errors that nobody catches, without those of a closed event loop."""

    def __init__(self, hook: Any):
        self._hook = hook

    def __call__(self, *what: Any) -> None:
        error = what[1] if len(what) > 1 else what[0].exc_value
        if not (isinstance(error, RuntimeError) and "Event loop is closed" in str(error)):
            self._hook(*what)


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


def _is_of_no_task_of_orbax(record: logging.LogRecord) -> bool:
    text, error = record.getMessage(), record.exc_info[1] if record.exc_info else None
    frames = traceback.extract_tb(error.__traceback__) if error else []
    return not any("orbax" in part or "tensorstore" in part for part in [text, *(f.filename for f in frames)])
