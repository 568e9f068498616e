"""Initialises the worker processes of this package."""

import multiprocessing
import os
import signal
import threading

from unloc_jax import siblings


def start_worker() -> None:
    """Makes a worker process end with its parent, and only with it, and run our `data_pipelines`."""
    siblings.always_ours("data_pipelines")
    # On Ctrl-C the parent ends its workers; without this, each would print a stack trace.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A killed parent cannot end its workers, which would wait for their next video forever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
