"""Texts → word pieces of SentencePiece, as VideoPrism's text encoder reads them; the vocabulary is the user's file."""

import dataclasses
import functools
import hashlib
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unloc_jax.errors import UserError

_TO_SPACES = str.maketrans(string.punctuation, " " * len(string.punctuation))


def canonical(text: str) -> str:
    """Lower-cases a text, replaces ASCII punctuation by spaces, collapses white space and ends it with a full stop."""
    return " ".join(text.translate(_TO_SPACES).lower().split()) + "."


class WordPieces:
    """A SentencePiece vocabulary.

    Args:
      file: written by SentencePiece's trainer (`.model`).
      vocabulary_size: number of word pieces of the model that reads them.

    Raises:
      UserError: the library is not installed; the file is missing, damaged, or has more word pieces than the model.
    """

    def __init__(self, file: Path, vocabulary_size: int):
        try:
            import sentencepiece
        except ModuleNotFoundError as error:
            raise UserError(
                "to read texts for VideoPrism the library sentencepiece is needed: "
                "pip install 'unloc_jax[sentencepiece]'"
            ) from error
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(file.read_bytes())
            size = self._pieces.GetPieceSize()
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror or error}.") from error
        except Exception as error:  # foreign bytes
            raise UserError(f"{file} is damaged or no vocabulary of SentencePiece. Get it again.") from error
        if not 0 < size <= vocabulary_size:
            raise UserError(
                f"{file} has {size} word pieces, the model's table {vocabulary_size}: give the vocabulary that the "
                "model was trained with."
            )
        first = self._pieces.bos_id()
        self.first = [first] if first >= 0 else []

    def ids(self, text: str) -> list[int]:
        """Returns the ids of a text's word pieces, without start and end."""
        return list(self._pieces.EncodeAsIds(canonical(text)))

    def tokenize(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokenizes N texts; one that does not fit loses its tail.

        Returns:
          ids int32 [N, length]: the start if the vocabulary has one, word pieces, then zeros.
          mask bool [N, length], True = real.
        """
        ids = np.zeros((len(texts), length), np.int32)
        mask = np.zeros((len(texts), length), bool)
        for row, text in enumerate(texts):
            pieces = [*self.first, *self.ids(text)][:length]
            ids[row, : len(pieces)], mask[row, : len(pieces)] = pieces, True
        return ids, mask


@dataclasses.dataclass(frozen=True)
class PieceTokens:
    """Tokens of VideoPrism's text tower: 0, or 1 + the id of a word piece; the last place is the class token's.

    Nothing is read before the first text.

    Attributes:
      file: See `WordPieces`; "" = none, which the first text refuses.
      vocabulary_size: See there.
    """

    file: str
    vocabulary_size: int

    @property
    def added(self) -> int:
        return 1 + len(self._pieces.first)

    def __call__(self, texts: Sequence[str], max_tokens: int) -> np.ndarray:
        """Returns int32 [N, max_tokens]; see `unloc_jax.text.Tokens`."""
        ids, mask = self._pieces.tokenize(texts, max_tokens - 1)
        return np.pad(np.where(mask, ids + 1, 0), ((0, 0), (0, 1)))

    def count(self, text: str) -> int:
        return self.added + len(self._pieces.ids(text))

    def fingerprint(self) -> str:
        return hashlib.sha256(read_vocabulary(self.file)).hexdigest()

    @property
    def _pieces(self) -> WordPieces:
        try:
            state = Path(self.file).stat()
        except OSError:
            read_vocabulary(self.file)  # says why not
            raise
        return _word_pieces(self.file, self.vocabulary_size, (state.st_mtime_ns, state.st_size, state.st_ino))


@functools.lru_cache(maxsize=4)
def _word_pieces(file: str, vocabulary_size: int, state: tuple[int, ...]) -> WordPieces:
    """Reads a vocabulary once, unless the file's `state` changes."""
    del state
    read_vocabulary(file)
    return WordPieces(Path(file), vocabulary_size)


def read_vocabulary(file: str) -> bytes:
    """Returns the content of a model's SentencePiece file.

    Raises:
      UserError: There is none, or it cannot be read.
    """
    if not file:
        raise UserError(
            "config.model.text.sentencepiece: give the SentencePiece file (.model) that the text tower was trained "
            "with (docs/videoprism.md)."
        )
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UserError(
            f"config.model.text.sentencepiece = {file} cannot be read: {error.strerror or error}."
        ) from error
