"""VideoPrism as the towers of a model: windows of frames → one token per frame, and its text encoder."""

import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.config import ModelConfig, VideoPrismTowerConfig
from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.transformer import ComputeOptions
from unloc_jax.model.videoprism import TextEncoder, VideoPrism, VideoPrismConfig, VideoPrismTextConfig
from unloc_jax.sampling import window_end, window_starts


def videoprism_config(sizes: VideoPrismTowerConfig, *, with_text: bool) -> VideoPrismConfig:
    """Returns the sizes of a VideoPrism as its modules take them."""
    pooled = sizes.pooling == "attention"
    text = VideoPrismTextConfig(sizes["vocabulary_size"], sizes["text_layers"], sizes["text_mlp_dim"])
    return VideoPrismConfig(
        patch_size=sizes["patch_size"],
        num_frames=sizes["num_frames"],
        grid=(sizes["grid"], sizes["grid"]),
        width=sizes["width"],
        num_heads=sizes["num_heads"],
        mlp_dim=sizes["mlp_dim"],
        spatial_layers=sizes["spatial_layers"],
        temporal_layers=sizes["temporal_layers"],
        auxiliary_layers=sizes["auxiliary_layers"] if pooled else 0,
        pooler_width=sizes["pooler_width"] if pooled else 0,
        logit_cap=sizes.logit_cap,
        text=text if with_text else None,
    )


class VideoPrismTower(VideoPrism):
    """The video side, over windows of the T frames of a video.

    Windows have `config.model.videoprism.window` frames and begin `window - overlap` frames apart; a last one ends with
    the last frame. A frame takes its token from the window in which it is farthest from the border, the earlier one of
    two equal ones, as in `unloc features`. Where T is smaller than a window, all T frames are one.

    Attributes:
      config, compute: See `VideoPrism`; chunks are whole windows.
      window, overlap: In frames.
    """

    window: int = 16
    overlap: int = 0

    def __call__(self, frames: jax.Array, frame_mask: jax.Array | None = None) -> jax.Array:  # type: ignore[override]
        """Encodes frames.

        Args:
          frames: [B, T, H, W, 3], uint8, or floating in [0, 1].
          frame_mask: bool [B, T], True = real frame; real frames come first, and the last of them is seen in the place
            of those that follow. None = all are real.

        Returns:
          Frame tokens, [B, T, D] in the compute dtype.
        """
        layout, (batch, time) = self.compute.layout, frames.shape[:2]
        length = min(self.window, time)
        starts = window_starts(time, length, self.overlap if length < time else 0)
        if frame_mask is not None:
            last = jnp.maximum(frame_mask.sum(1, keepdims=True) - 1, 0)
            seen = jnp.minimum(jnp.arange(time), last)
            frames = jnp.take_along_axis(frames, seen[:, :, None, None, None], axis=1)
        if len(starts) * length > time:  # they overlap
            frames = frames[:, np.add.outer(starts, np.arange(length)).ravel()]
        windows = frames.reshape(batch, len(starts), length, *frames.shape[2:])
        windows = layout.constrain(windows, "videos", "frames", None, None, None, None)
        windows = layout.merge(windows, "videos", "frames")
        made = layout.split(self._encode(windows), (batch, len(starts)), "videos", "frames")
        made = made.reshape(batch, -1, made.shape[-1])
        return made[:, _rows(starts, length, time)] if made.shape[1] > time else made

    def _encode(self, windows: jax.Array) -> jax.Array:
        """Encodes windows [M, W, H, W, 3] → [M, W, D], some of each device's at a time."""
        layout = self.compute.layout
        per_chunk = self.compute.chunk_size and max(1, self.compute.chunk_size // windows.shape[1])
        chunked = dataclasses.replace(self.compute, chunk_size=per_chunk)
        devices = layout.num_shards("videos") * layout.num_shards("frames")
        num_chunks = chunked.num_chunks(len(windows), devices)
        if num_chunks == 1 or self.is_initializing():
            return self.encode_frames(windows)
        scan = nn.scan(
            lambda tower, carry, chunk: (carry, tower.encode_frames(chunk)),
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
        )
        # As in `Transformer`: strided chunks take some windows of every device.
        chunks = windows.reshape(-1, num_chunks, *windows.shape[1:]).swapaxes(0, 1)
        made = scan(self, (), chunks)[1]
        return made.swapaxes(0, 1).reshape(len(windows), *made.shape[2:])


def _rows(starts: list[int], length: int, time: int) -> np.ndarray:
    """Returns for each of T frames its place among the frames of all windows, int [T]."""
    ends = [window_end(*pair, length) for pair in itertools.pairwise(starts)] + [time]
    of_frame = np.searchsorted(ends, np.arange(time), side="right")
    return of_frame * length + np.arange(time) - np.array(starts)[of_frame]


class VideoPrismTextTower(TextEncoder):
    """The text side. A text is represented by its class token, which stands after the last word piece.

    Attributes:
      config, compute: See `TextEncoder`.
    """

    def __call__(self, text_tokens: jax.Array) -> TextFeatures:  # type: ignore[override]
        """Encodes texts.

        Args:
          text_tokens: int32 [..., L] as `unloc_jax.piece_text.PieceTokens` makes them.

        Returns:
          Features in the compute dtype: tokens [..., L, D], mask [..., L], sentence [..., D].
        """
        layout = self.compute.layout
        *leading, length = text_tokens.shape
        text_tokens = text_tokens.reshape(-1, length)
        num_texts = len(text_tokens)
        padding = layout.padding("all_texts", num_texts)
        text_tokens = layout.constrain(jnp.pad(text_tokens, ((0, padding), (0, 0))), "all_texts", None)
        pieces = text_tokens[:, :-1]
        x = self.encode(jnp.maximum(pieces - 1, 0), pieces > 0)
        x = layout.constrain(x, "all_texts", None, None)
        sentence, place, end = x[:, -1], jnp.arange(length), (pieces > 0).sum(-1, keepdims=True)
        tokens = jnp.where((place == end)[..., None], sentence[:, None], x)
        features = TextFeatures(tokens, place <= end, sentence)
        return jax.tree.map(lambda leaf: leaf[:num_texts].reshape(*leading, *leaf.shape[1:]), features)


def video_tower(model: ModelConfig, compute: ComputeOptions) -> VideoPrismTower:
    """Returns the video tower of a model."""
    sizes = model.videoprism
    config = videoprism_config(sizes, with_text=False)
    return VideoPrismTower(config, compute, sizes.window or config.num_frames, sizes.overlap)


def text_tower(model: ModelConfig, compute: ComputeOptions) -> VideoPrismTextTower:
    """Returns the text tower of a model."""
    return VideoPrismTextTower(videoprism_config(model.videoprism, with_text=True), compute)
