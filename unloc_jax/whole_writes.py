"""Writes files whole or not at all: under another name first, then renamed.

Every result is written here. Whatever happens meanwhile (a full disk, Ctrl-C, `kill -9`, a power failure), the file is
the old one or the new one.
"""

import contextlib
import errno
import io
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from unloc_jax.errors import UserError

# The ending of unfinished files. They are hidden, so that patterns such as *.npz do not find them.
UNFINISHED = ".unfinished"
_DESCRIPTOR = re.compile(r"/dev/(?:(stdout)|(stderr)|fd/(\d+))|/proc/self/fd/(\d+)")
# File systems that cannot do it say so in these ways.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
# A new file in the folder is not possible, or the file is a mount point: only its content can be replaced.
_FIXED_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)


def write_result(path: str | Path, content: str | Iterable[str]) -> None:
    """Writes a text file as UTF-8, whole or not at all; see `replacing`.

    Characters that UTF-8 does not have (half a pair of escapes, a byte of a file name that is not UTF-8) are written as
    escapes such as \\udce9, which JSON's readers turn back into what they were.

    Args:
      path: the file.
      content: text, or its parts in order.

    Raises:
      UserError: it cannot be written; the old file is then as it was.
    """
    try:
        with replacing(path) as file:
            for part in (content,) if isinstance(content, str) else content:
                file.write(part.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UserError(cannot_write(path, error)) from error


def cannot_write(path: str | Path, error: OSError) -> str:
    """Returns the message about a file that cannot be written."""
    reason = f"{path} cannot be written: {error.strerror or error}."
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"{reason} Free some space and run the same command again." if full else reason


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Opens a file that takes the place of `path` when the context ends without an error.

    The new file is on the disk before it is renamed. It keeps the permissions of the old one, and where the path is a
    symbolic link, the file that it leads to is replaced. Pipes and devices, such as /dev/stdout, are written directly.

    Yields:
      The file, to be written in binary.

    Raises:
      OSError: it cannot be written. It names `path`, which is as it was.
    """
    try:
        with _place_of(Path(path)) as file:
            yield file
    except OSError as error:
        name = os.fspath(error.filename or "")
        ours = not name or name.endswith(UNFINISHED) or name == os.path.realpath(path)
        if error.errno is None or not ours:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


@contextlib.contextmanager
def _place_of(path: Path) -> Iterator[IO[bytes]]:
    if descriptor := _DESCRIPTOR.fullmatch(os.fspath(path)):
        if sys.stdout is not None:
            sys.stdout.flush()
        number = 1 if descriptor[1] else 2 if descriptor[2] else int(descriptor[3] or descriptor[4])
        # A reader that has seen enough is not an error (`--out=/dev/stdout | head -1`).
        with contextlib.suppress(BrokenPipeError), os.fdopen(os.dup(number), "wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path))
    try:
        old = path.stat()
    except FileNotFoundError:
        old = None
    if old and not stat.S_ISREG(old.st_mode):  # a folder raises here
        with path.open("wb") as file:
            yield file
        return
    if old and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    # Short, because the file's own name may be as long as names can be.
    unfinished = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        descriptor_of_new = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if old is None or error.errno not in _FIXED_PLACE:
            raise
        with _overwriting(path) as file:
            yield file
        return
    try:
        with os.fdopen(descriptor_of_new, "w+b") as file:
            yield file
            file.flush()
            if old:
                _keep_ownership(file.fileno(), old)
            _sync(file.fileno())
            try:
                unfinished.replace(path)
            except OSError as error:
                if old is None or error.errno not in _FIXED_PLACE:
                    raise
                file.seek(0)
                with _overwriting(path) as target:
                    target.write(file.read())
        with contextlib.suppress(OSError):
            _sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def _overwriting(path: Path) -> Iterator[IO[bytes]]:
    """Replaces the content of a file in place, after all of it is known; an error restores the old content."""
    content = io.BytesIO()
    yield content
    with path.open("r+b", buffering=0) as file:
        before = file.read()
        try:
            _fill(file, content.getvalue())
        except OSError:
            with contextlib.suppress(OSError):
                _fill(file, before)
            raise


def _fill(file: io.FileIO, content: bytes) -> None:
    file.seek(0)
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    file.truncate()
    _sync(file.fileno())


def _keep_ownership(descriptor: int, old: os.stat_result) -> None:
    with contextlib.suppress(OSError):  # a file of another user stays readable to its group, if we are in it
        os.fchown(descriptor, -1, old.st_gid)
    with contextlib.suppress(OSError):
        os.fchown(descriptor, old.st_uid, -1)
    with contextlib.suppress(OSError):  # last: a change of owner clears bits
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
