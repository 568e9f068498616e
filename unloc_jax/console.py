"""Prints for terminals: nothing that is printed can steer one, and no terminal or pipe can stop the work."""

import contextlib
import errno
import io
import re
import sys
from collections.abc import Iterator
from typing import IO, Any

# Control characters except for tab and line feed; the separators that only some programs end a line at; what reorders
# text (Unicode's bidirectional embeddings, overrides and isolates); halves of characters, and bytes of file names that
# are not UTF-8.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Returns a text with characters that would steer a terminal as escapes: ESC as "\\x1b"."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def show(text: object = "", *, end: str = "\n", file: IO[str] | None = None) -> None:
    """Prints a text, `printable`, to stdout or to `file`, at once.

    Everything that may hold words of files (ids, sentences, classes, names, settings) is printed by this function.
    """
    stream: IO[str] | None = sys.stdout if file is None else file
    if stream is None:  # a process that was started without
        return
    shown = printable(str(text)) + end
    try:
        stream.write(shown)
    except UnicodeEncodeError:
        encoding = getattr(stream, "encoding", None) or "ascii"
        stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


@contextlib.contextmanager
def patient_streams() -> Iterator[list[OSError]]:
    """Makes stdout and stderr take everything: what cannot be written is dropped, what cannot be encoded is escaped.

    A reader that has seen enough (`| head`), a full disk or an ASCII terminal thus stops neither the work nor the
    writing of its results.

    Yields:
      A list that receives why stdout could not be written, unless its reader only ended. Complete after the context.
    """
    reasons: list[OSError] = []
    before = sys.stdout, sys.stderr
    # Others than the process's own are a notebook's, a test's, or made by this function.
    if before[0] is sys.__stdout__ and isinstance(before[0], io.TextIOWrapper):
        sys.stdout = _patient(before[0], reasons)
    if before[1] is sys.__stderr__ and isinstance(before[1], io.TextIOWrapper):
        sys.stderr = _patient(before[1], [])
    try:
        yield reasons
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError, AttributeError):  # closed, or None
                stream.flush()
        sys.stdout, sys.stderr = before


class _PatientFile(io.FileIO):
    """A file descriptor that takes what it cannot write."""

    def __init__(self, descriptor: int, reasons: list[OSError]):
        super().__init__(descriptor, "wb", closefd=False)
        self._reasons = reasons

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno != errno.EPIPE and not self._reasons:
                self._reasons.append(error)
            return memoryview(data).nbytes


def _patient(stream: io.TextIOWrapper, reasons: list[OSError]) -> io.TextIOWrapper:
    stream.flush()
    file: Any = _PatientFile(stream.fileno(), reasons)
    if not isinstance(stream.buffer, io.RawIOBase):  # else `python -u`
        file = io.BufferedWriter(file)
    return io.TextIOWrapper(
        file,
        stream.encoding,
        "backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
