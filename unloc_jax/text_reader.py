"""What reads the texts of an encoder: CLIP's word pieces, and those of a tokenizer.json (SigLIP 2, CLAP)."""

import abc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import normalizers

from unloc_jax import text as clip_text
from unloc_jax.errors import UserError


class TextReader(abc.ABC):
    """Texts → tokens.

    Attributes:
      most_pieces: Word pieces of a text that are read.
    """

    most_pieces: int

    @abc.abstractmethod
    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        """Tokenizes N texts → int32 [N, L]; one that does not fit loses its tail."""

    @abc.abstractmethod
    def num_pieces(self, text: str) -> int:
        """Returns the number of word pieces of a text, of which `most_pieces` are read."""


class ClipWords(TextReader):
    """CLIP's vocabulary, see `unloc_jax.text`.

    Args:
      vocabulary_size: Number of word pieces of the model that reads them.
      max_tokens: L.
      source: The model, for messages.

    Raises:
      UserError: The model has another vocabulary.
    """

    def __init__(self, vocabulary_size: int, max_tokens: int, source: str):
        if vocabulary_size != clip_text.VOCABULARY_SIZE:
            raise UserError(
                f"{source}: a vocabulary of {vocabulary_size} instead of CLIP's {clip_text.VOCABULARY_SIZE}: its texts "
                "must come as tokens."
            )
        self._max_tokens = max_tokens
        self.most_pieces = max_tokens - 2

    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        return clip_text.tokenize(texts, self._max_tokens)

    def num_pieces(self, text: str) -> int:
        return clip_text.num_tokens(text) - 2


class TokenizerFile(TextReader):
    """A tokenizer.json as SigLIP 2 reads one: lower case, word pieces, <eos>, then <pad> up to L tokens.

    Padding, truncation and special tokens of the file itself are not used.

    Args:
      file: As the library tokenizers saves one.
      vocabulary_size: Number of word pieces of the model that reads them.
      max_tokens: L.

    Raises:
      UserError: The file is missing, damaged, lacks <eos> or <pad>, or has more word pieces than the model.
    """

    def __init__(self, file: Path, vocabulary_size: int, max_tokens: int):
        tokenizer = self._tokenizer = _opened(file, vocabulary_size)
        lower = [normalizers.Lowercase(), *([tokenizer.normalizer] if tokenizer.normalizer else [])]
        tokenizer.normalizer = normalizers.Sequence(lower)
        end, padding = tokenizer.token_to_id("<eos>"), tokenizer.token_to_id("<pad>")
        if end is None or padding is None:
            raise UserError(
                f"{file} lacks <eos> or <pad>: it is not the Gemma tokenizer that SigLIP 2 was trained with."
            )
        self._end, self._padding = end, padding
        self._max_tokens = max_tokens
        self.most_pieces = max_tokens - 1

    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        ids = np.full((len(texts), self._max_tokens), self._padding, np.int32)
        for row, text in enumerate(texts):
            pieces = [*self._ids(text)[: self.most_pieces], self._end]
            ids[row, : len(pieces)] = pieces
        return ids

    def num_pieces(self, text: str) -> int:
        return len(self._ids(text))

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


class RobertaFile(TextReader):
    """A tokenizer.json as RoBERTa and so CLAP reads one: <s>, word pieces of bytes, </s>, then padding up to L tokens.

    Padding, truncation and special tokens of the file itself are not used.

    Args:
      file: As the library tokenizers saves one.
      vocabulary_size: Number of word pieces of the model that reads them.
      max_tokens: L.
      padding: Id of the padding.

    Raises:
      UserError: The file is missing, damaged, lacks <s> or </s>, has another <pad>, or more word pieces than the model.
    """

    def __init__(self, file: Path, vocabulary_size: int, max_tokens: int, padding: int):
        self._tokenizer = _opened(file, vocabulary_size)
        start, end = self._tokenizer.token_to_id("<s>"), self._tokenizer.token_to_id("</s>")
        if start is None or end is None or self._tokenizer.token_to_id("<pad>") != padding:
            raise UserError(
                f"{file} lacks <s> or </s>, or its <pad> is not {padding}: it is not the RoBERTa tokenizer that CLAP "
                "was trained with."
            )
        self._start, self._end, self._padding = start, end, padding
        self._max_tokens = max_tokens
        self.most_pieces = max_tokens - 2

    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        ids = np.full((len(texts), self._max_tokens), self._padding, np.int32)
        for row, text in enumerate(texts):
            pieces = [self._start, *self._ids(text)[: self.most_pieces], self._end]
            ids[row, : len(pieces)] = pieces
        return ids

    def num_pieces(self, text: str) -> int:
        return len(self._ids(text))

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _opened(file: Path, vocabulary_size: int) -> tokenizers.Tokenizer:
    """Opens a tokenizer.json without its padding and truncation.

    Raises:
      UserError: The file is missing or damaged, or has more word pieces than the model.
    """
    try:
        tokenizer = tokenizers.Tokenizer.from_str(file.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # foreign bytes
        raise UserError(f"{file} is damaged or no tokenizer.json. Get it again.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    size = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if not 0 < size <= vocabulary_size:
        raise UserError(
            f"{file} has {size} word pieces, the model's table {vocabulary_size}: give the vocabulary that the "
            "model was trained with."
        )
    return tokenizer
