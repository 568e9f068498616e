"""The one exception for mistakes a user can mend."""


class UserError(Exception):
    """Bad input. The message names the file, row or field that is wrong and says what to do about it.

    The command line prints it as one line, without a stack trace, and exits with status 2.
    """
