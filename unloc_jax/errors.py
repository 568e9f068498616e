"""How a command ends when it cannot do its work, and the exit statuses of `unloc` (docs/failures.md)."""

EXIT_USER_ERROR = 2
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Bad input. The message names the file, row or field that is wrong and says what to do about it.

    The command line prints it as one line, without a stack trace, and exits with EXIT_USER_ERROR.
    """


class TryAgain(Exception):
    """The run was stopped from outside: the same command goes on where it was.

    The command line prints the message as one line and exits with EXIT_TRY_AGAIN.
    """
