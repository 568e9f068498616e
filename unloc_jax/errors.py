"""Errors that end a command, and the exit statuses of `unloc` (docs/failures.md)."""

import errno
import os

EXIT_USER_ERROR = 2
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
EXIT_INTERRUPTED = 130

_LONGEST_LINE = 1500  # characters of a message

# Extras by the modules that they bring. Training and evaluation need `data` to read shards; prediction needs none.
_EXTRAS = {"tensorflow": "tensorflow"} | dict.fromkeys(
    ("tensorflow_datasets", "grain", "simplejpeg", "google_crc32c", "importlib_resources", "PIL"), "data"
)


class UserError(Exception):
    """Bad input. The message names the wrong file, row or field and the fix.

    The command line prints it as one line, without a stack trace, and exits with EXIT_USER_ERROR. So do notebooks.
    """

    def _render_traceback_(self) -> list[str]:
        """Tells IPython what to show."""
        return [f"unloc: error: {self}"]


class TryAgain(Exception):
    """The run was stopped from outside; the same command continues it.

    The command line prints the message as one line and exits with EXIT_TRY_AGAIN.
    """

    def _render_traceback_(self) -> list[str]:
        """Tells IPython what to show."""
        return [f"unloc: {self}"]


def exit_status(error: BaseException) -> tuple[int, str] | None:
    """Returns (exit status, the line to print) for an error that a user can fix; None for a bug."""
    ended = _exit_status(error)
    return ended and (ended[0], "\n".join(map(_shortened, ended[1].split("\n"))))


def _shortened(line: str) -> str:
    """Leaves out the middle of a line that quotes much of somebody's file."""
    if len(line) <= _LONGEST_LINE:
        return line
    return f"{line[: _LONGEST_LINE * 2 // 3]} … {line[-_LONGEST_LINE // 3 :]}"


def _exit_status(error: BaseException) -> tuple[int, str] | None:
    match error:
        case UserError():
            return EXIT_USER_ERROR, f"unloc: error: {error}"
        case TryAgain():
            return EXIT_TRY_AGAIN, f"unloc: {error}"
        case OSError() if error.filename is not None:
            return EXIT_USER_ERROR, f"unloc: error: {error.filename}: {error.strerror}"
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):  # while writing to an open file
            return (
                EXIT_USER_ERROR,
                f"unloc: error: {error.strerror}; free some and run the same command again",
            )
        # Python's last defence against what somebody wrote; readers of files name the file instead.
        case RecursionError():
            return (
                EXIT_USER_ERROR,
                "unloc: error: something in the input is nested too deeply (brackets within brackets within …)",
            )
        case MemoryError():
            return (
                EXIT_USER_ERROR,
                f"unloc: error: there is not enough memory{f': {error}' if str(error) else ''}",
            )
        case ModuleNotFoundError() if (module := (error.name or "").split(".")[0]) in _EXTRAS:
            return (
                EXIT_USER_ERROR,
                f"unloc: error: {error.name} is missing: pip install 'unloc_jax[{_EXTRAS[module]}]'",
            )
        case RuntimeError() if str(error).startswith("Symlink loop"):  # pathlib's, before Python 3.13
            return EXIT_USER_ERROR, f"unloc: error: {error}: the link leads to itself"
        case RuntimeError() | AssertionError() if _is_of_jax_backends(error):
            platforms = os.environ.get("JAX_PLATFORMS", "")
            reason = (
                str(error).partition(" (set JAX_PLATFORMS")[0].rstrip(".") or "JAX has no such backend here"
            )
            return (
                EXIT_USER_ERROR,
                f"unloc: error: JAX_PLATFORMS={platforms!r} does not start (unset it?): {reason}",
            )
        case KeyboardInterrupt():
            return EXIT_INTERRUPTED, "\nunloc: interrupted; the same command continues where it can"
    return None


def _is_of_jax_backends(error: BaseException) -> bool:
    """Returns whether JAX raised this because a platform does not start here."""
    if str(error).startswith("Unable to initialize backend"):
        return True
    if str(error) or not os.environ.get("JAX_PLATFORMS"):
        return False
    # For CUDA it is an assertion without a word, in frames that JAX hides. Then the devices still cannot be had.
    import jax  # late: most errors need none

    try:
        jax.devices()
    except (RuntimeError, AssertionError):
        return True
    return False
