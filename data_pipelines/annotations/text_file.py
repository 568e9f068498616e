"""Reads an annotation file as text or as lines so that every fault of the file itself is named."""

from pathlib import Path

from unloc_jax.errors import UserError


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises:
      UserError: no such file, no permission, or not UTF-8.
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
    """(line number from 1, line) of all lines that are not blank, whatever ends them: \\n, \\r\\n or \\r.

    Not str.splitlines, which also ends lines at characters that texts may contain (U+2028, form feed, …).

    Raises:
      UserError: as `read_text`.
    """
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
