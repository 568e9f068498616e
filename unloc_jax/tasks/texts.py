"""Texts → what the model reads: prompts around them, then tokens, or vectors from a file."""

import dataclasses
import functools
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unloc_jax.config import Config
from unloc_jax.config.towers import tokens_of
from unloc_jax.errors import UserError
from unloc_jax.names import normal_text
from unloc_jax.text import CLIP_TOKENS, Tokens


@dataclasses.dataclass(frozen=True)
class TextEncoding:
    """Encodes texts on the host.

    Attributes:
      prompts: R templates with one {} each.
      max_tokens: L.
      embeddings_file: .npz with `texts` and `embeddings`, if the model is given vectors instead of tokens.
      embedding_width: D of these.
      tokens: makes the tokens of a text.
    """

    prompts: tuple[str, ...]
    max_tokens: int
    embeddings_file: str = ""
    embedding_width: int = 0
    tokens: Tokens = CLIP_TOKENS

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes N texts to int32 tokens [N, R, L], or float32 embeddings [N, 1, D].

        Raises:
          UserError: a text that the embeddings file does not have.
        """
        if self.embeddings_file:
            return self._look_up(texts)[:, None]
        filled = [prompt.replace("{}", text) for text in texts for prompt in self.prompts]
        return self.tokens(filled, self.max_tokens).reshape(len(texts), len(self.prompts), self.max_tokens)

    def padding(self) -> np.ndarray:
        """Returns padding for rows of texts: [R, L] or [1, D]."""
        if self.embeddings_file:
            return np.zeros((1, self.embedding_width), np.float32)
        return np.zeros((len(self.prompts), self.max_tokens), np.int32)

    def _look_up(self, texts: Sequence[str]) -> np.ndarray:
        known = _embeddings(self.embeddings_file)
        texts = list(map(normal_text, texts))
        missing = [text for text in texts if text not in known]
        if missing:
            raise UserError(
                f"{self.embeddings_file} has no embedding of {missing[0]!r} ({len(missing)} of {len(texts)} texts are "
                "missing)."
            )
        width = np.size(next(iter(known.values()), ()))
        if width != self.embedding_width:
            raise UserError(
                f"{self.embeddings_file} has embeddings of {width} numbers, config.model.text.width is "
                f"{self.embedding_width}."
            )
        return np.array([known[text] for text in texts], np.float32).reshape(len(texts), width)


@functools.lru_cache(maxsize=4)
def _embeddings(file: str) -> dict[str, np.ndarray]:
    """Reads embeddings [D] by normalised text."""
    try:
        with np.load(Path(file), allow_pickle=False) as arrays:
            return dict(zip(map(normal_text, arrays["texts"].tolist()), arrays["embeddings"]))
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
            f"config.model.text.embeddings_file = {file!r} cannot be read: {error}. It is an .npz with `texts` [n] and "
            "`embeddings` [n, width]."
        ) from error


def text_encoding(config: Config) -> TextEncoding:
    """Returns the encoding that a config asks for.

    Raises:
      UserError: given embeddings without a file.
    """
    text = config.model.text
    if text.encoder == "embeddings" and not text.embeddings_file:
        raise UserError("config.model.text.embeddings_file: give the file with the embeddings of the texts.")
    file = text.embeddings_file if text.encoder == "embeddings" else ""
    return TextEncoding(config.data.prompts, text.max_tokens, file, text.width, tokens_of(config.model))
