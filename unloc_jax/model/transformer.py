"""The pre-norm transformer block that the towers and the fusion share."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


def quick_gelu(x: jax.Array) -> jax.Array:
    """CLIP's approximation of GELU."""
    return x * jax.nn.sigmoid(1.702 * x)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    num_heads: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        """x [M, L, D]; mask bool [1 or M, 1 or L, L], True = may attend; returns [M, L, D]."""
        sequences, length, width = x.shape
        head_width = width // self.num_heads
        # Of fan-in only: what Xavier gives a [D, D] projection, however many are fused into one kernel.
        qkv = nn.DenseGeneral(
            (3, self.num_heads, head_width),
            kernel_init=nn.initializers.lecun_uniform(),
            dtype=self.dtype,
            name="qkv",
        )(x.reshape(-1, width))
        query, key, value = jnp.moveaxis(qkv.reshape(sequences, length, *qkv.shape[1:]), 2, 0)
        logits = jnp.einsum("mqhd,mkhd->mhqk", query * head_width**-0.5, key).astype(jnp.float32)
        if mask is not None:
            logits = jnp.where(mask[:, None], logits, -1e9)
        weights = jax.nn.softmax(logits).astype(self.dtype)
        out = jnp.einsum("mhqk,mkhd->mqhd", weights, value).reshape(-1, self.num_heads, head_width)
        out = nn.DenseGeneral(
            width, axis=(-2, -1), kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype, name="out"
        )(out)
        return out.reshape(x.shape)


class TransformerBlock(nn.Module):
    """LayerNorm → attention → residual, LayerNorm → MLP → residual.

    Attributes:
      num_heads, mlp_dim: sizes.
      activation: CLIP's towers use `quick_gelu`, the fusion GELU.
      epsilon: of the LayerNorms; 1e-5 in CLIP, 1e-6 in the fusion.
      dtype: of the computation; LayerNorm statistics and softmax are float32 whatever it is.
    """

    num_heads: int
    mlp_dim: int
    activation: Callable[[jax.Array], jax.Array] = nn.gelu
    epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        norm = functools.partial(nn.LayerNorm, epsilon=self.epsilon, dtype=self.dtype)
        x = x + SelfAttention(self.num_heads, self.dtype, name="attention")(
            norm(name="attention_norm")(x), mask
        )
        dense = functools.partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype)
        # Two axes instead of three make the gradients plain matrix products; recomputing the activation is
        # cheaper than what the compiler does with its derivative.
        flat = norm(name="mlp_norm")(x).reshape(-1, x.shape[-1])
        hidden = jax.checkpoint(self.activation)(dense(self.mlp_dim, name="mlp_in")(flat))
        return x + dense(x.shape[-1], name="mlp_out")(hidden).reshape(x.shape)


class Transformer(nn.Module):
    """A stack of identical blocks, scanned: compiled once however deep.

    Parameters are stacked along axis 0. `unroll` layers make one turn of the compiled loop.
    """

    num_layers: int
    num_heads: int
    mlp_dim: int
    activation: Callable[[jax.Array], jax.Array] = nn.gelu
    epsilon: float = 1e-6
    remat: bool = False
    unroll: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """x [M, L, D]; mask bool [1 or M, 1 or L, L], True = may attend; returns [M, L, D]."""
        block = nn.remat(TransformerBlock, prevent_cse=False) if self.remat else TransformerBlock
        layers = nn.scan(
            lambda layer, carry, mask: (layer(carry, mask), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.num_layers,
            unroll=min(self.unroll, self.num_layers),
        )
        x, _ = layers(
            block(self.num_heads, self.mlp_dim, self.activation, self.epsilon, self.dtype, name="layers"),
            x,
            mask,
        )
        return x
