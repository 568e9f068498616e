"""Texts to search for, from the command line, from Python or from a file."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.names import normal_text
from unloc_jax.text import num_tokens, words

_LONGEST_SHOWN = 60  # characters


def _clip_pieces(text: str) -> int:
    return num_tokens(text) - 2  # start and end


def check_texts(
    texts: str | Sequence[str], most_pieces: int | None, num_pieces: Callable[[str], int] = _clip_pieces
) -> list[str]:
    """Returns texts that a model can search for, as a list; warns on stderr of those that it truncates.

    Args:
      texts: one or several.
      most_pieces: word pieces that the model reads of a text; None = the model reads no tokens.
      num_pieces: counts the word pieces of a text.

    Raises:
      UserError: there is no text, or one has no words.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts:
        raise UserError('nothing to look for: give at least one text, such as --text="a person sits down".')
    for number, text in enumerate(texts, 1):
        if not words(text):
            raise UserError(f"text {number} of {len(texts)} has no words: {text!r}.")
    long = [text for text in texts if most_pieces and num_pieces(text) > most_pieces]
    if long:
        more = f" (and of {len(long) - 1} more)" if len(long) > 1 else ""
        first = long[0] if len(long[0]) <= _LONGEST_SHOWN else f"{long[0][:_LONGEST_SHOWN]}…"
        show(
            f"note: the model reads {most_pieces} word pieces of a text; the end of {first!r}{more} is left out",
            file=sys.stderr,
        )
    return texts


def read_texts(file: Path) -> list[str]:
    """Returns the lines of a text file, one text each.

    Raises:
      UserError: the file cannot be read or is empty, or a line is empty, has no words or repeats another.
    """
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"--vocabulary={file} cannot be read: {reason}.") from error
    if not lines:
        raise UserError(f"--vocabulary={file} is empty: write one text per line.")
    first: dict[str, int] = {}
    for number, text in enumerate(map(normal_text, lines), 1):
        if not words(text):
            what = f"has no words: {text!r}" if text else "is empty"
            raise UserError(f"--vocabulary={file}, line {number} {what}. Write one text per line.")
        if text in first:
            raise UserError(f"--vocabulary={file}, line {number} repeats line {first[text]}: {text!r}.")
        first[text] = number
    return list(first)
