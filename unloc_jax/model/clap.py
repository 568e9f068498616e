"""CLAP (Wu et al. 2023, arXiv 2211.06687): HTSAT and RoBERTa with projections into one space.

Computed as `ClapModel` of transformers computes it without dropout.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from unloc_jax.model.htsat import Htsat, HtsatConfig
from unloc_jax.model.transformer import SelfAttention


@dataclasses.dataclass(frozen=True)
class RobertaConfig:
    """Sizes of the text tower.

    Attributes:
      width, num_layers, num_heads, mlp_dim: Of the layers.
      vocabulary_size: Word pieces.
      num_positions: Rows of the table of positions. Positions count from `padding` + 1.
      padding: Word piece that fills up a text.
      epsilon: Of the LayerNorms.
    """

    width: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    vocabulary_size: int
    num_positions: int
    padding: int = 1
    epsilon: float = 1e-12


@dataclasses.dataclass(frozen=True)
class ClapConfig:
    """Sizes of a model.

    Attributes:
      audio: Of the audio tower.
      text: Of the text tower.
      embed_dim: D of the space that sounds and texts share.
      projection: Activation in the middle of the projections: "relu" or "gelu".
    """

    audio: HtsatConfig
    text: RobertaConfig
    embed_dim: int
    projection: str = "relu"


PROJECTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "gelu": functools.partial(nn.gelu, approximate=False),
}


class Clap(nn.Module):
    """Both towers with their projections.

    Attributes:
      config: Sizes.
      dtype: Of the computation in the towers; the projections are float32.
    """

    config: ClapConfig
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        config = self.config
        self.audio = Htsat(config.audio, self.dtype)
        self.text = Roberta(config.text, self.dtype)
        self.audio_projection = _Projection(config.embed_dim, config.projection)
        self.text_projection = _Projection(config.embed_dim, config.projection)

    def encode_sounds(self, mel: jax.Array) -> jax.Array:
        """Embeds log-mel spectrograms float32 [N, F, mel_bins] → float32 [N, D], not of length 1."""
        return self.audio_projection(self.audio(mel))

    def encode_texts(self, tokens: jax.Array) -> jax.Array:
        """Embeds tokens int32 [N, L] → float32 [N, D], not of length 1."""
        return self.text_projection(self.text(tokens))

    def __call__(self, mel: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Embeds both; creates all parameters except for the scale of the logits."""
        return self.encode_sounds(mel), self.encode_texts(tokens)


class _Projection(nn.Module):
    """Two linear layers: float32 [N, any] → float32 [N, embed_dim]."""

    embed_dim: int
    activation: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = PROJECTIONS[self.activation](nn.Dense(self.embed_dim, name="first")(x))
        return nn.Dense(self.embed_dim, name="second")(hidden)


class Roberta(nn.Module):
    """The text tower (Liu et al. 2019, arXiv 1907.11692): what its pooler makes of the first position.

    Attributes:
      config: Sizes.
      dtype: Of the computation.
    """

    config: RobertaConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Embeds tokens int32 [N, L], with padding at the end → float32 [N, width]."""
        config = self.config
        there = tokens != config.padding
        places = jnp.cumsum(there, 1) * there + config.padding
        embed = functools.partial(nn.Embed, features=config.width, dtype=self.dtype)
        x = embed(config.vocabulary_size, name="token_embedding")(tokens)
        x = x + embed(config.num_positions, name="position_embedding")(places)
        x = x + self.param("type_embedding", nn.initializers.zeros, (config.width,)).astype(self.dtype)
        x = nn.LayerNorm(config.epsilon, self.dtype, name="norm_in")(x)
        layers = nn.scan(
            lambda layer, carry, mask: (layer(carry, mask), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=config.num_layers,
        )
        layer = _Layer(config.num_heads, config.mlp_dim, config.epsilon, self.dtype, name="layers")
        x, _ = layers(layer, x, there[:, None])
        return jnp.tanh(nn.Dense(config.width, name="pooler")(x[:, 0].astype(jnp.float32)))


class _Layer(nn.Module):
    """Attention → residual → LayerNorm, MLP → residual → LayerNorm: [N, L, D], mask bool [N, 1, L] → [N, L, D]."""

    num_heads: int
    mlp_dim: int
    epsilon: float
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        norm = functools.partial(nn.LayerNorm, self.epsilon, self.dtype)
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        attention = SelfAttention(self.num_heads, dtype=self.dtype, name="attention")
        x = norm(name="attention_norm")(x + attention(x, mask))
        hidden = nn.gelu(dense(self.mlp_dim, name="mlp_in")(x), approximate=False)
        return norm(name="mlp_norm")(x + dense(x.shape[-1], name="mlp_out")(hidden))
