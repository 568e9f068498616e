"""Attention pooling with an MLP (the “MAP head” of Zhai et al. 2022): tokens → one vector per sequence."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from unloc_jax.model.transformer import attention_logits, attention_weights


class MapPooler(nn.Module):
    """One trained query attends to all tokens; a LayerNorm and an MLP with a residual connection follow.

    Attributes:
      num_heads, mlp_dim: Sizes.
      activation: Of the MLP.
      epsilon: Of the LayerNorm.
      dtype: Of the computation.
    """

    num_heads: int
    mlp_dim: int
    activation: Callable[[jax.Array], jax.Array]
    epsilon: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Pools tokens [M, L, D] → [M, D]."""
        width, dtype = tokens.shape[-1], self.dtype
        head_width = width // self.num_heads
        trained = self.param("query", nn.initializers.normal(width**-0.5), (width,)).astype(dtype)
        # One array, as in the layers: queries, keys and values are its first, second and third part.
        shape = (3, self.num_heads, head_width)
        kernel = self.param("qkv_kernel", nn.initializers.lecun_normal(), (width, *shape)).astype(dtype)
        bias = self.param("qkv_bias", nn.initializers.zeros, shape).astype(dtype)
        query = jnp.einsum("d,dhw->hw", trained, kernel[:, 0]) + bias[0]
        key_value = jnp.einsum("mld,dnhw->mlnhw", tokens, kernel[:, 1:]) + bias[1:]
        query = jnp.broadcast_to(query * head_width**-0.5, (len(tokens), 1, *query.shape))
        weights = attention_weights(attention_logits(query, key_value[:, :, 0]), dtype)
        out = jnp.einsum("mhqk,mkhw->mqhw", weights, key_value[:, :, 1])[:, 0]
        x = nn.DenseGeneral(width, axis=(-2, -1), dtype=dtype, name="out")(out)
        hidden = nn.LayerNorm(epsilon=self.epsilon, dtype=dtype, name="norm")(x)
        hidden = self.activation(nn.Dense(self.mlp_dim, dtype=dtype, name="mlp_in")(hidden))
        return x + nn.Dense(width, dtype=dtype, name="mlp_out")(hidden)
