"""The output folder of a build: local or in a cloud, locked for one build at a time, without partial files."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.remote_paths import is_remote
from unloc_jax.errors import UserError
from unloc_jax.whole_writes import write_result


@contextlib.contextmanager
def only_build_in(out: Path) -> Iterator[None]:
    """Holds a lock on `out`; the system releases it when the process ends, in whatever way.

    Raises:
      UserError: another build holds it, or `out` is not writable.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if is_remote(out):  # without support for locks
            yield
            return
        lock = (out / ".build.lock").open("w")
    except OSError as error:
        raise UserError(f"{out}: cannot write there: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{out}: another build is writing there. Wait for it or choose another --out."
            ) from error
        yield


@contextlib.contextmanager
def reporting_full_disk(out: Path) -> Iterator[None]:
    """Turns a full disk into one clear UserError, whichever library was writing."""
    try:
        yield
    except Exception as error:
        # TensorFlow has its own exceptions, and TFDS wraps those that it catches.
        full = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]
        if not any(text in str(error) for text in full):
            raise
        raise UserError(
            f"{out}: the disk is full. Free some space; then the same command continues where this one stopped."
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Writes a file so that it exists only once it is complete."""
    if is_remote(path):  # objects in a cloud appear when they are complete
        path.write_text(text.encode("utf-8", "backslashreplace").decode(), "utf-8")
    else:
        write_result(path, text)


def remove_tree(folder: Path) -> None:
    """Removes a folder with its content, if it exists."""
    if not folder.exists():
        return
    if isinstance(folder, Path):
        shutil.rmtree(folder)
    else:
        folder.rmtree()
