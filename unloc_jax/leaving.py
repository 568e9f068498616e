"""Ends the process of a command, also while one of its threads waits for a storage that does not answer."""

import os
import signal
import sys
import threading
from typing import NoReturn

READER = "unloc-prefetch"  # name of threads that may wait inside of another library for ever


def leave(status: int) -> NoReturn:
    """Ends the process with this exit status.

    Python's own end would abort or hang while a reading thread is inside of TensorFlow; then it is skipped. Everything
    that the command writes has been written before, so SIGTERM changes nothing any more.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Python's end may take a second
    if any(thread.name == READER for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # it was closed before the command started
                stream.flush()
        os._exit(status)
    sys.exit(status)
