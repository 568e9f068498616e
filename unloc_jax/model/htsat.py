"""HTSAT (Chen et al. 2022, arXiv 2202.00874): CLAP's audio tower, a Swin transformer over the log-mel spectrogram.

Computed as `ClapAudioModel` of transformers computes it without dropout. A spectrogram of 10 seconds is cut into four
stretches of time, which are laid one below the other: a square picture.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from unloc_jax.model.transformer import attention_weights

_EPSILON = 1e-5  # of the norms that no setting names
_CUBIC = -0.75  # PyTorch's coefficient of bicubic interpolation
_APART = -100.0  # added to the logits of positions that a shift has brought together


@dataclasses.dataclass(frozen=True)
class HtsatConfig:
    """Sizes of the tower.

    Attributes:
      width: Of the first stage; each further stage is twice as wide.
      depths: Blocks per stage.
      heads: Attention heads per stage.
      mlp_dims: Width inside of the MLPs, per stage.
      window: Side of the windows within which positions attend to each other.
      patch_size: Side of a patch.
      picture_size: Side of the square picture that a spectrogram becomes.
      mel_bins: Rows of a spectrogram; they divide `picture_size`.
      patch_norm: A LayerNorm follows the patch embedding.
      qkv_bias: Queries, keys and values have a bias.
      epsilon: Of the blocks' LayerNorms.
    """

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_dims: tuple[int, ...]
    window: int
    patch_size: int
    picture_size: int
    mel_bins: int
    patch_norm: bool = True
    qkv_bias: bool = True
    epsilon: float = _EPSILON

    @property
    def grid(self) -> int:
        """Rows and columns of patches."""
        return self.picture_size // self.patch_size

    @property
    def stretches(self) -> int:
        """Stretches of time that lie one below the other."""
        return self.picture_size // self.mel_bins

    @property
    def most_frames(self) -> int:
        """Frames of the longest spectrogram; a shorter one is stretched to this length."""
        return self.picture_size * self.stretches

    @property
    def out_width(self) -> int:
        return self.width * 2 ** (len(self.depths) - 1)


class Htsat(nn.Module):
    """The tower.

    Attributes:
      config: Sizes.
      dtype: Of the computation; LayerNorm statistics and softmax are always float32.
    """

    config: HtsatConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, mel: jax.Array) -> jax.Array:
        """Embeds log-mel spectrograms.

        Args:
          mel: float32 [N, F, mel_bins] in decibels, at most `most_frames` frames.

        Returns:
          float32 [N, out_width], the mean over all positions.
        """
        config = self.config
        norm = functools.partial(nn.LayerNorm, epsilon=_EPSILON, dtype=self.dtype)
        x = _Standardize(name="mel_norm")(mel)
        x = _patches(_picture(x, config), config.patch_size).astype(self.dtype)
        x = nn.Dense(config.width, dtype=self.dtype, name="patch_embedding")(x)
        if config.patch_norm:
            x = norm(name="patch_norm")(x)
        for stage, (depth, heads, mlp_dim) in enumerate(zip(config.depths, config.heads, config.mlp_dims)):
            # A picture of one window has nothing to shift.
            shift = config.window // 2 if x.shape[1] > config.window else 0
            for block in range(depth):
                x = _Block(
                    heads, mlp_dim, config.window, shift * (block % 2), config.qkv_bias, config.epsilon, self.dtype,
                    name=f"stage_{stage}_block_{block}",
                )(x)  # fmt: skip
            if stage < len(config.depths) - 1:
                quarters = [x[:, row::2, column::2] for column in range(2) for row in range(2)]
                x = norm(name=f"merge_{stage}_norm")(jnp.concatenate(quarters, -1))
                x = nn.Dense(x.shape[-1] // 2, use_bias=False, dtype=self.dtype, name=f"merge_{stage}")(x)
        return norm(name="norm_out")(x).astype(jnp.float32).mean((1, 2))


class _Standardize(nn.Module):
    """Batch normalisation by stored statistics, per mel bin: float32 [N, F, M] → the same."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        ones, zeros, shape = nn.initializers.ones, nn.initializers.zeros, (x.shape[-1],)
        mean, variance = self.param("mean", zeros, shape), self.param("variance", ones, shape)
        scale, bias = self.param("scale", ones, shape), self.param("bias", zeros, shape)
        return (x - mean) * (scale / jnp.sqrt(variance + _EPSILON)) + bias


class _Block(nn.Module):
    """LayerNorm → attention within windows → residual, LayerNorm → MLP → residual: [N, H, W, D] → the same.

    Attributes:
      heads, mlp_dim, window, qkv_bias, epsilon, dtype: See `HtsatConfig`.
      shift: By how much the windows are shifted, in rows and in columns.
    """

    heads: int
    mlp_dim: int
    window: int
    shift: int
    qkv_bias: bool
    epsilon: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        height, width, channels = x.shape[1:]
        norm = functools.partial(nn.LayerNorm, epsilon=self.epsilon, dtype=self.dtype)
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        beyond = (-height % self.window, -width % self.window)
        seen = jnp.pad(norm(name="attention_norm")(x), ((0, 0), (0, beyond[0]), (0, beyond[1]), (0, 0)))
        seen = jnp.roll(seen, (-self.shift, -self.shift), (1, 2))
        rows, columns = seen.shape[1:3]
        windows = _to_windows(seen, self.window)
        apart = _apart(rows, columns, self.window, self.shift) if self.shift else None
        out = _from_windows(self._attend(windows, apart), rows, columns, self.window)
        out = jnp.roll(out, (self.shift, self.shift), (1, 2))[:, :height, :width]
        x = x + dense(channels, name="out")(out)
        hidden = dense(self.mlp_dim, name="mlp_in")(norm(name="mlp_norm")(x))
        return x + dense(channels, name="mlp_out")(nn.gelu(hidden, approximate=False))

    def _attend(self, x: jax.Array, apart: np.ndarray | None) -> jax.Array:
        """Computes attention: x [N, windows, L, D], apart float32 [windows, L, L] → [N, windows, L, D]."""
        head_width = x.shape[-1] // self.heads
        qkv = nn.DenseGeneral(
            (3, self.heads, head_width), use_bias=self.qkv_bias, dtype=self.dtype, name="qkv"
        )(x)
        query, key, value = (qkv[..., i, :, :] for i in range(3))
        logits = jnp.einsum("nwqhd,nwkhd->nwhqk", query, key, preferred_element_type=jnp.float32)
        table = self.param(
            "relative_positions", nn.initializers.zeros, ((2 * self.window - 1) ** 2, self.heads)
        )
        bias = jnp.moveaxis(table[_relative(self.window)], -1, 0).astype(jnp.float32)
        logits = logits * head_width**-0.5 + bias
        if apart is not None:
            logits = logits + apart[:, None]
        weights = attention_weights(logits, self.dtype)
        return jnp.einsum("nwhqk,nwkhd->nwqhd", weights, value).reshape(x.shape)


def _picture(mel: jax.Array, config: HtsatConfig) -> jax.Array:
    """Lays stretches of time one below the other: [N, F, mel_bins] → [N, picture_size, picture_size].

    Rows are mel bins, within each stretch; columns are frames.
    """
    if mel.shape[1] != config.most_frames:
        mel = jnp.einsum("of,nfm->nom", _cubic(mel.shape[1], config.most_frames), mel)
    x = mel.reshape(-1, config.stretches, config.picture_size, config.mel_bins)
    return x.swapaxes(2, 3).reshape(-1, config.picture_size, config.picture_size)


@functools.lru_cache(maxsize=8)
def _cubic(length: int, new_length: int) -> np.ndarray:
    """Returns the weights of PyTorch's cubic interpolation with aligned corners, float32 [new_length, length].

    Places are computed in float32, as PyTorch does: in float64 they differ by more than the model's precision.
    """
    step = np.float32(length - 1) / np.float32(max(new_length - 1, 1))
    places = step * np.arange(new_length, dtype=np.float32)
    first = np.minimum(np.floor(places), length - 1).astype(int)
    after = np.clip(places - first, 0, 1).astype(np.float32)
    weights = np.zeros((new_length, length), np.float32)
    for offset in (-1, 0, 1, 2):
        distance = np.abs(after - offset)
        near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
        far = ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
        of_offset = np.where(distance <= 1, near, far).astype(np.float32)
        np.add.at(weights, (np.arange(new_length), np.clip(first + offset, 0, length - 1)), of_offset)
    return weights


def _patches(x: jax.Array, size: int) -> jax.Array:
    """Cuts pictures into patches: [N, H, W] → [N, H / size, W / size, size²]."""
    count, height, width = x.shape
    x = x.reshape(count, height // size, size, width // size, size).swapaxes(2, 3)
    return x.reshape(count, height // size, width // size, size**2)


def _to_windows(x: jax.Array, size: int) -> jax.Array:
    """Cuts a grid into windows: [N, H, W, D] → [N, windows, size², D]."""
    count, height, width, channels = x.shape
    x = x.reshape(count, height // size, size, width // size, size, channels).swapaxes(2, 3)
    return x.reshape(count, -1, size**2, channels)


def _from_windows(x: jax.Array, height: int, width: int, size: int) -> jax.Array:
    """Joins windows into a grid: [N, windows, size², D] → [N, height, width, D]."""
    x = x.reshape(len(x), height // size, width // size, size, size, -1).swapaxes(2, 3)
    return x.reshape(len(x), height, width, -1)


@functools.lru_cache(maxsize=8)
def _relative(window: int) -> np.ndarray:
    """Returns the row of the table of relative positions for every pair of positions: int [window², window²]."""
    rows, columns = np.divmod(np.arange(window**2), window)
    down = rows[:, None] - rows[None] + window - 1
    right = columns[:, None] - columns[None] + window - 1
    return down * (2 * window - 1) + right


@functools.lru_cache(maxsize=8)
def _apart(height: int, width: int, window: int, shift: int) -> np.ndarray:
    """Returns what separates positions that only the shift made neighbours: float32 [windows, window², window²]."""

    def regions(length: int) -> np.ndarray:
        places = np.arange(length)
        return (places >= length - window).astype(int) + (places >= length - shift)

    of_grid = regions(height)[:, None] * 3 + regions(width)[None]
    cut = of_grid.reshape(height // window, window, width // window, window).swapaxes(1, 2)
    cut = cut.reshape(-1, window**2)
    return np.where(cut[:, :, None] == cut[:, None], 0.0, _APART).astype(np.float32)
