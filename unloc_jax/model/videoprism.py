"""VideoPrism (Zhao et al. 2024, arXiv 2402.13217): a video encoder, and with it a text encoder in one space.

The video encoder is factorised as ViViT's model 2 (Arnab et al. 2021): layers over the patches of each frame, then
layers over the frames at each patch.
"""

import dataclasses
import functools
import math

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from unloc_jax.model.transformer import ACTIVATIONS, ComputeOptions, Transformer

_EPSILON = 1e-6  # of all LayerNorms
_LONGEST_WAVE = 10_000.0  # of the positions of texts, over 2π


@dataclasses.dataclass(frozen=True)
class VideoPrismTextConfig:
    """Sizes of the text encoder; its width and heads are the video encoder's.

    Attributes:
      vocabulary_size: Number of word pieces.
      num_layers, mlp_dim: Of its transformer.
      causal: A word piece sees only those before it.
    """

    vocabulary_size: int
    num_layers: int
    mlp_dim: int
    causal: bool = True


@dataclasses.dataclass(frozen=True)
class VideoPrismConfig:
    """Sizes of a VideoPrism.

    Attributes:
      patch_size: Height and width of a patch in pixels.
      num_frames: Length of the trained table of times.
      grid: Rows and columns of the trained table of patches.
      width, num_heads, mlp_dim: Of all transformers over video.
      spatial_layers, temporal_layers: Of the video encoder.
      auxiliary_layers: After it, over all patches of all frames, in models with a text encoder.
      pooler_width: Of the attention pooler, all heads together; 0 = the model has neither pooler nor texts.
      logit_cap: Attention logits are kept below it by tanh; 0 = they are not.
      text: Of the text encoder; None = there is none.
    """

    patch_size: int
    num_frames: int
    grid: tuple[int, int]
    width: int
    num_heads: int
    mlp_dim: int
    spatial_layers: int
    temporal_layers: int
    auxiliary_layers: int = 0
    pooler_width: int = 0
    logit_cap: float = 50.0
    text: VideoPrismTextConfig | None = None


def _transformer(config: VideoPrismConfig, layers: int, compute: ComputeOptions, name: str) -> Transformer:
    """Returns layers over patches or frames; those of texts differ."""
    return Transformer(
        layers, config.num_heads, config.mlp_dim, ACTIVATIONS["gelu_exact"], _EPSILON,
        compute=compute, logit_cap=config.logit_cap, name=name,
    )  # fmt: skip


class VideoEncoder(nn.Module):
    """The factorised space–time encoder.

    Attributes:
      config: Sizes.
      compute: See `ComputeOptions`.
    """

    config: VideoPrismConfig
    compute: ComputeOptions = ComputeOptions()

    @nn.compact
    def __call__(self, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Encodes videos.

        Args:
          frames: [B, T, H, W, 3], uint8, or floating in [0, 1]; H and W are whole patches. Where T, H or W differ from
            the trained ones, the tables of positions are interpolated linearly.

        Returns:
          tokens [B, T, N, D], one per frame and patch, and spatial [B, T, N, D], before the layers over time; both in
          the compute dtype.
        """
        config, dtype = self.config, self.compute.dtype
        batch, time, height, width, _ = frames.shape
        size = config.patch_size
        grid = (height // size, width // size)
        # The compiler would rather split the width than gather what fully sharded parameters have split.
        rows = functools.partial(self.compute.layout.constrain_rows, name="windows")
        pixels = frames.astype(dtype) / 255.0 if frames.dtype == jnp.uint8 else frames.astype(dtype)
        patches = pixels.reshape(batch * time, grid[0], size, grid[1], size, 3)
        patches = patches.transpose(0, 1, 3, 2, 4, 5).reshape(batch * time, -1, size * size * 3)
        x = rows(nn.Dense(config.width, dtype=dtype, name="patch_embedding")(rows(patches)))

        table = nn.initializers.lecun_normal()
        norm = functools.partial(nn.LayerNorm, epsilon=_EPSILON, dtype=dtype)
        places = self.param("spatial_position", table, (math.prod(config.grid), config.width))
        x = x + _interpolated(places, config.grid, grid).astype(dtype)
        x = _transformer(config, config.spatial_layers, self.compute, "spatial")(x)
        spatial = rows(norm(name="spatial_norm")(rows(x)).reshape(batch, time, -1, config.width))

        x = spatial.swapaxes(1, 2).reshape(-1, time, config.width)
        times = self.param("temporal_position", table, (config.num_frames, config.width))
        x = rows(x + _interpolated(times, (config.num_frames,), (time,)).astype(dtype))
        x = _transformer(config, config.temporal_layers, self.compute, "temporal")(x)
        x = rows(norm(name="temporal_norm")(rows(x)).reshape(batch, -1, time, config.width))
        return x.swapaxes(1, 2), spatial


def _interpolated(table: jax.Array, trained: tuple[int, ...], wanted: tuple[int, ...]) -> jax.Array:
    """Interpolates a table of positions, [prod(trained), D] → [prod(wanted), D], linearly along every axis."""
    if trained == wanted:
        return table
    table = table.reshape(*trained, -1)
    return jax.image.resize(table, (*wanted, table.shape[-1]), "bilinear").reshape(-1, table.shape[-1])


class AttentionPooler(nn.Module):
    """Pools tokens to one vector by attention of one trained query, whose dimensions are scaled one by one.

    Attributes:
      config: Sizes.
      compute: See `ComputeOptions`.
    """

    config: VideoPrismConfig
    compute: ComputeOptions = ComputeOptions()

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Pools tokens [M, L, D] → [M, D]."""
        config, dtype = self.config, self.compute.dtype
        head_width = config.pooler_width // config.num_heads
        heads = lambda name: nn.DenseGeneral((config.num_heads, head_width), dtype=dtype, name=name)
        trained = self.param("query", nn.initializers.lecun_normal(), (1, config.width)).astype(dtype)
        scale = self.param("scale", nn.initializers.ones, (head_width,)).astype(dtype)
        query = heads("query_projection")(trained) * scale * head_width**-0.5
        key, value = heads("key")(tokens), heads("value")(tokens)
        logits = jnp.einsum("qhd,mkhd->mhqk", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits).astype(dtype)
        out = jnp.einsum("mhqk,mkhd->mqhd", weights, value)
        out = nn.DenseGeneral(config.width, axis=(-2, -1), dtype=dtype, name="out")(out)[:, 0]
        return nn.LayerNorm(epsilon=_EPSILON, dtype=dtype, name="norm")(out)


class TextEncoder(nn.Module):
    """The text encoder: a class token after the word pieces, which sees all of them, represents a text.

    Attributes:
      config: Sizes.
      compute: See `ComputeOptions`.
    """

    config: VideoPrismConfig
    compute: ComputeOptions = ComputeOptions()

    def __call__(self, pieces: jax.Array, mask: jax.Array) -> jax.Array:
        """Encodes texts, int32 [M, L] and bool [M, L], to [M, D] in the compute dtype, not of length 1."""
        return self.encode(pieces, mask)[:, -1]

    @nn.compact
    def encode(self, pieces: jax.Array, mask: jax.Array) -> jax.Array:
        """Encodes word pieces.

        Args:
          pieces: int32 [M, L].
          mask: bool [M, L], True = real word piece.

        Returns:
          [M, L + 1, D] in the compute dtype, the class token last.
        """
        config, dtype = self.config, self.compute.dtype
        assert config.text is not None
        count, length = pieces.shape
        normal = nn.initializers.normal(config.width**-0.5)
        embedding = nn.Embed(
            config.text.vocabulary_size,
            config.width,
            embedding_init=normal,
            dtype=dtype,
            name="token_embedding",
        )
        x = embedding(pieces) * config.width**0.5 + _waves(length, config.width).astype(dtype)
        own = self.param("class_embedding", normal, (config.width,)).astype(dtype) * config.width**0.5
        x = jnp.concatenate([x, jnp.broadcast_to(own, (count, 1, config.width))], axis=1)
        seen = jnp.pad(mask, ((0, 0), (0, 1)), constant_values=True)[:, None]
        if config.text.causal:
            seen = seen & jnp.tril(jnp.ones((length + 1, length + 1), bool))
        x = Transformer(
            config.text.num_layers, config.num_heads, config.text.mlp_dim, nn.relu, _EPSILON,
            compute=self.compute, logit_cap=config.logit_cap, name="transformer",
        )(x, seen)  # fmt: skip
        return nn.LayerNorm(epsilon=_EPSILON, dtype=dtype, name="norm_out")(x)


def _waves(length: int, width: int) -> jax.Array:
    """Returns sinusoidal positions float32 [length, width]: all sines, then all cosines (Vaswani et al. 2017)."""
    count = width // 2
    step = math.log(_LONGEST_WAVE) / max(count - 1, 1)
    angles = jnp.arange(length, dtype=jnp.float32)[:, None] * jnp.exp(jnp.arange(count) * -step)
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return jnp.pad(waves, ((0, 0), (0, width % 2)))


@flax.struct.dataclass
class VideoFeatures:
    """Encoded videos, not of length 1.

    Attributes:
      tokens: [B, T, N, D], as the video encoder returns them.
      spatial: [B, T, N, D], see there.
      frames: [B, T, D], one per frame: pooled by attention, in models without a pooler by the mean.
      video: [B, D], one per video, pooled in the same way.
    """

    tokens: jax.Array
    spatial: jax.Array
    frames: jax.Array
    video: jax.Array


class VideoPrism(nn.Module):
    """The video encoder with its poolers, and the text encoder of models that have one.

    Attributes:
      config: Sizes.
      compute: See `ComputeOptions`.
    """

    config: VideoPrismConfig
    compute: ComputeOptions = ComputeOptions()

    def setup(self) -> None:
        config, compute = self.config, self.compute
        self.encoder = VideoEncoder(config, compute)
        if config.auxiliary_layers:
            self.auxiliary = _transformer(config, config.auxiliary_layers, compute, "auxiliary")
        if config.pooler_width:
            self.pooler = AttentionPooler(config, compute)
        if config.text is not None:
            self.text = TextEncoder(config, compute)

    def encode_videos(self, frames: jax.Array) -> VideoFeatures:
        """Encodes frames as `VideoEncoder` does, and pools."""
        tokens, spatial = self.encoder(frames)
        x = self._before_pooling(tokens)
        video = self._pool(x.reshape(len(x), -1, x.shape[-1]))
        return VideoFeatures(tokens, spatial, self._of_frames(x), video)

    def encode_frames(self, frames: jax.Array) -> jax.Array:
        """Encodes frames as `encode_videos` does, to [B, T, D]: one vector per frame."""
        return self._of_frames(self._before_pooling(self.encoder(frames)[0]))

    def _before_pooling(self, tokens: jax.Array) -> jax.Array:
        """Applies the layers over all patches of all frames, [B, T, N, D] → the same shape."""
        if not self.config.auxiliary_layers:
            return tokens
        rows = functools.partial(self.compute.layout.constrain_rows, name="windows")
        return rows(self.auxiliary(rows(tokens.reshape(len(tokens), -1, tokens.shape[-1])))).reshape(
            tokens.shape
        )

    def _pool(self, tokens: jax.Array) -> jax.Array:
        """Pools tokens [M, L, D] → [M, D]."""
        return self.pooler(tokens) if self.config.pooler_width else tokens.mean(axis=1)

    def _of_frames(self, tokens: jax.Array) -> jax.Array:
        """Pools tokens [B, T, N, D] → [B, T, D]."""
        return self._pool(tokens.reshape(-1, *tokens.shape[2:])).reshape(*tokens.shape[:2], -1)

    def encode_texts(self, pieces: jax.Array, mask: jax.Array) -> jax.Array:
        """Encodes texts, see `TextEncoder`."""
        return self.text(pieces, mask)

    def __call__(
        self, frames: jax.Array, pieces: jax.Array | None = None, mask: jax.Array | None = None
    ) -> tuple[VideoFeatures, jax.Array | None]:
        """Encodes videos, and texts if given."""
        texts = None if pieces is None or mask is None else self.encode_texts(pieces, mask)
        return self.encode_videos(frames), texts
