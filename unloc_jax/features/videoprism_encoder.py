"""VideoPrism as an encoder: overlapping windows of frames → a row per frame, and texts in the same space."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from unloc_jax.errors import UserError
from unloc_jax.features.encoder import Encoder, digest
from unloc_jax.features.picture_encoder import preprocess
from unloc_jax.features.stream_inputs import OverlappingWindows, StreamInputs
from unloc_jax.model.transformer import ComputeOptions
from unloc_jax.model.videoprism import VideoPrism
from unloc_jax.piece_text import WordPieces
from unloc_jax.pretrained.videoprism import VOCABULARY_FILE, VideoPrismWeights

_MOST_PIECES = 64  # of a text, with its start, if the vocabulary has one
_LOGIT_SCALE = 100.0  # of the original's demonstration; the weights hold none


class VideoPrismEncoder(Encoder):
    """Embeds videos and texts by VideoPrism.

    A window has as many frames as the trained table of times, and shares half of them with the next one; see
    `OverlappingWindows` for which window a row comes from. A row is the mean of its frame's tokens; in models with a
    text encoder it is what their attention pooler makes of them, in the space of texts.

    Args:
      weights: as `read_videoprism` returns them.
      dtype, batch_size: see `Encoder`.

    Attributes:
      weights: as given.

    Raises:
      UserError: the trained table of patches is not square.
    """

    def __init__(self, weights: VideoPrismWeights, dtype: DTypeLike = jnp.float32, batch_size: int = 32):
        config = weights.config
        if config.grid[0] != config.grid[1]:
            raise UserError(
                f"{weights.source}: pictures of {config.grid[0]} × {config.grid[1]} patches; only squares are read."
            )
        self.frames_per_input = config.num_frames
        super().__init__(weights.params, dtype, batch_size)
        self.weights = weights
        self.source, self.name = weights.source, weights.name
        self.label = f"windows of {config.num_frames} frames, not trained to localise"
        self.embed_dim, self.image_size = config.width, config.patch_size * config.grid[0]
        self.logit_scale = _LOGIT_SCALE
        self._overlap = config.num_frames // 2
        self._model = VideoPrism(config, ComputeOptions(dtype=dtype))
        self._of_texts = jax.jit(self._of_pieces)

    def fingerprint(self) -> str:
        return digest(dataclasses.asdict(self.weights.config), self.weights.params)

    def settings(self) -> dict[str, Any]:
        return {"window": self.frames_per_input, "overlap": self._overlap}

    def preprocess(self, frames: np.ndarray) -> np.ndarray:
        """Resizes and crops frames uint8 [..., H, W, 3] → uint8 [..., size, size, 3] as CLIP's are."""
        return preprocess(frames, self.image_size)

    def inputs(self) -> StreamInputs:
        return OverlappingWindows(self.preprocess, self.frames_per_input, self._overlap)

    def check_texts(self) -> None:
        _ = self._pieces

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        ids, mask = self._pieces.tokenize(texts, _MOST_PIECES)
        return self._in_batches(self._of_texts, np.stack([ids, mask], axis=1))

    def num_pieces(self, text: str) -> int:
        return len(self._pieces.ids(text))

    @property
    def most_pieces(self) -> int:  # type: ignore[override]
        return _MOST_PIECES - len(self._pieces.first)

    @functools.cached_property
    def _pieces(self) -> WordPieces:
        """The vocabulary; it is read for the first text.

        Raises:
          UserError: the model has no text encoder, or its vocabulary cannot be read.
        """
        text = self.weights.config.text
        if text is None:
            raise UserError(
                f"{self.source}: this VideoPrism is the video encoder alone, which reads no texts. Take the video–text "
                "model, such as videoprism:google/videoprism-lvt-base-f16r288."
            )
        if self.weights.vocabulary is None:
            raise UserError(
                f"{self.source}: to read texts VideoPrism needs its SentencePiece vocabulary: give "
                f"--sentencepiece=FILE, or put {VOCABULARY_FILE} beside the weights (docs/videoprism.md)."
            )
        return WordPieces(self.weights.vocabulary, text.vocabulary_size)

    def _of_inputs(self, params: Any, inputs: jax.Array) -> jax.Array:
        """Embeds windows uint8 [n, T, size, size, 3] → float32 [n, T, D]."""
        videos: Any = self._model.apply({"params": params}, inputs, method="encode_videos")
        return videos.frames.astype(jnp.float32)

    def _of_pieces(self, params: Any, pieces: jax.Array) -> jax.Array:
        """Embeds ids and mask, both int32 [N, 2, L] → float32 [N, D]."""
        texts: Any = self._model.apply(
            {"params": params}, pieces[:, 0], pieces[:, 1] > 0, method="encode_texts"
        )
        return texts.astype(jnp.float32)
