"""Encoders that read texts in the space of what they embed: pictures, or sound."""

import abc
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike

from unloc_jax.features.encoder import Encoder, unit
from unloc_jax.text_reader import TextReader


class TextEncoder(Encoder):
    """Embeds texts.

    Embeddings are the outputs of the projections, not normalised to length 1; `logits` normalises them.

    Args:
      params, dtype, batch_size: see `Encoder`.

    Attributes:
      logit_bias: added to the logits, as for a sigmoid.
    """

    logit_bias: float = 0.0

    def __init__(self, params: Any, dtype: DTypeLike, batch_size: int):
        super().__init__(params, dtype, batch_size)
        self._of_texts = jax.jit(self._of_tokens)

    def encode_tokens(self, tokens: np.ndarray) -> np.ndarray:
        """Embeds tokens int32 [..., L] → float32 [..., D]; in CLIP anything may follow the end token."""
        leading = tokens.shape[:-1]
        made = self._in_batches(self._of_texts, tokens.reshape(-1, tokens.shape[-1]))
        return made.reshape(*leading, made.shape[-1])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds N texts → float32 [N, D]; texts that are too long are truncated.

        Raises:
          UserError: the model reads no texts, or its vocabulary is missing or unfit.
        """
        return self.encode_tokens(self._reader.tokenize(texts))

    def num_pieces(self, text: str) -> int:
        return self._reader.num_pieces(text)

    def logits(self, embedded: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Returns cosines times the model's scale plus its bias: float [..., D], float [N, D] → float32 [..., N]."""
        return self.logit_scale * unit(embedded) @ unit(texts).T + np.float32(self.logit_bias)

    @functools.cached_property
    def _reader(self) -> TextReader:
        """What reads texts; opened for the first one."""
        return self._open_reader()

    @abc.abstractmethod
    def _open_reader(self) -> TextReader:
        """Opens what reads texts; raises UserError if the model cannot."""

    @abc.abstractmethod
    def _of_tokens(self, params: Any, tokens: jax.Array) -> jax.Array:
        """Embeds tokens int32 [N, L] → float32 [N, D]; compiled."""
