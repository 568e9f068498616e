"""Reads an annotation file as text or as lines; errors name every fault of the file itself."""

from pathlib import Path

from unloc_jax.errors import UserError


def read_text(path: Path) -> str:
    """Returns the text of a UTF-8 file, with or without a byte order mark.

    Raises:
      UserError: the file does not exist, may not be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such annotation file.") from error
    except OSError as error:
        raise UserError(f"{path}: this annotation file cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}). Convert the file to UTF-8.") from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Returns (line number from 1, line) of all non-blank lines, which end with \\n, \\r\\n or \\r.

    Unlike str.splitlines, does not split at characters that texts may contain (U+2028, form feed, …).

    Raises:
      UserError: as `read_text`.
    """
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
