"""The pre-norm transformer shared by the towers and the fusion.

Dropout and stochastic depth are active when the caller of `apply` passes a "dropout" rng, and off otherwise.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from unloc_jax.model.adapters import LowRank
from unloc_jax.model.layout import ANY, UNSHARDED, Layout
from unloc_jax.model.rotary import rotate


def quick_gelu(x: jax.Array) -> jax.Array:
    """Computes CLIP's approximation of GELU, elementwise: floating [...] → the same shape and dtype."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": nn.gelu,  # tanh approximation
    "gelu_exact": functools.partial(nn.gelu, approximate=False),  # PyTorch's, and so open_clip's
}


# Besides a layer's input, the backward pass finds these values saved and recomputes the rest ("full": everything).
# "dots" saves the four products with weights, so that little more than attention and activations is recomputed.
_SAVED: dict[str, Callable | None] = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": None,
}


@dataclasses.dataclass(frozen=True)
class ComputeOptions:
    """Execution options of a stack of layers. Results do not depend on them, except for rounding and adapters.

    Attributes:
      remat: What the backward pass recomputes: "none", "dots" or "full"; see `ModelConfig`.
      unroll: Layers per iteration of the compiled loop.
      dtype: Of the computation. LayerNorm statistics and softmax are always float32.
      layout: How activations are sharded.
      chunk_size: Largest number of sequences that a device runs through all layers at a time; 0 = all of them.
      cudnn: Use cuDNN for attention without a mask; bfloat16 on a GPU only.
      lora_rank: Rank of the adapters beside all products with weights; 0 = none.
    """

    remat: str = "none"
    unroll: int = 1
    dtype: DTypeLike = jnp.float32
    layout: Layout = UNSHARDED
    chunk_size: int = 0
    cudnn: bool = False
    lora_rank: int = 0

    def num_chunks(self, num_sequences: int, num_devices: int) -> int:
        """Returns the number of equal chunks of each device's sequences; 1 if devices have unequal shares."""
        per_device, remainder = divmod(num_sequences, num_devices)
        if not self.chunk_size or remainder:
            return 1
        return next(
            n for n in range(-(-per_device // self.chunk_size), per_device + 1) if per_device % n == 0
        )


@jax.custom_vjp
def attention_logits(query: jax.Array, key: jax.Array) -> jax.Array:
    """Multiplies queries and keys: twice [M, L, H, D/H] → float32 [M, H, L, L], not rounded to a narrower dtype.

    The gradient is rounded to the inputs' dtype, so that the products of the backward pass have that dtype: as fast as
    those of the forward pass, and half the size.
    """
    return jnp.einsum("mqhd,mkhd->mhqk", query, key, preferred_element_type=jnp.float32)


def _logits_forward(query: jax.Array, key: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Returns the logits, float32 [M, H, L, L], and for the backward pass the inputs, twice [M, L, H, D/H]."""
    return attention_logits(query, key), (query, key)


def _logits_backward(inputs: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of queries and keys, [M, L, H, D/H], from that of the logits, float32 [M, H, L, L]."""
    query, key = inputs
    gradient = gradient.astype(query.dtype)
    query_gradient = jnp.einsum("mhqk,mkhd->mqhd", gradient, key)
    return query_gradient, jnp.einsum("mhqk,mqhd->mkhd", gradient, query)


attention_logits.defvjp(_logits_forward, _logits_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def attention_weights(logits: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Applies softmax over the last axis: float32 [...] → `dtype` [...].

    The gradient is computed from the rounded weights, which are kept anyway. The float32 weights, which
    `jax.nn.softmax` would keep in addition, are the largest arrays of a layer.
    """
    return jax.nn.softmax(logits).astype(dtype)


def _weights_forward(logits: jax.Array, dtype: DTypeLike) -> tuple[jax.Array, jax.Array]:
    """Returns the weights, `dtype` [...], twice: as the result and for the backward pass."""
    weights = attention_weights(logits, dtype)
    return weights, weights


def _weights_backward(dtype: DTypeLike, weights: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    """Returns the gradient of the logits, float32 [...], from the weights and their gradient, `dtype` [...]."""
    del dtype
    weights, gradient = weights.astype(jnp.float32), gradient.astype(jnp.float32)
    return (weights * (gradient - (weights * gradient).sum(-1, keepdims=True)),)


attention_weights.defvjp(_weights_forward, _weights_backward)


def _cudnn_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Computes attention without a mask: three times [M, L, H, D/H] → [M, L, H, D/H].

    JAX rejects odd lengths in training, and CLIP's are odd, so a token is appended that is masked out.
    """
    count, length = query.shape[:2]
    even = lambda x: jnp.pad(x, ((0, 0), (0, length % 2), (0, 0), (0, 0)))
    lengths = jnp.full(count, length, jnp.int32) if length % 2 else None
    out = jax.nn.dot_product_attention(
        even(query),
        even(key),
        even(value),
        query_seq_lengths=lengths,
        key_value_seq_lengths=lengths,
        implementation="cudnn",
    )
    return out[:, :length]


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values.

    Attributes:
      num_heads … cudnn: See `TransformerBlock`.
      logit_cap: Logits are kept between -logit_cap and logit_cap by tanh; 0 = they are not.
      lora_rank: See `ComputeOptions`.
    """

    num_heads: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    layout: Layout = UNSHARDED
    cudnn: bool = False
    logit_cap: float = 0.0
    lora_rank: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, rotation: jax.Array | None = None) -> jax.Array:
        """Attends within each sequence.

        Args:
          x: Floating [M, L, D].
          mask: bool [1 or M, 1 or L, L], True = may attend; None = all may.
          rotation: float32 [2, L, D/H/2] of queries and keys, see `rotary`; None = they are not rotated.

        Returns:
          [M, L, D].
        """
        sequences, length, width = x.shape
        head_width = width // self.num_heads
        # Scaled by fan-in only: what Xavier gives one [D, D] projection, however many are fused into a kernel.
        qkv = nn.DenseGeneral(
            (3, self.num_heads, head_width),
            kernel_init=nn.initializers.lecun_uniform(),
            dtype=self.dtype,
            name="qkv",
        )(x.reshape(-1, width))
        if self.lora_rank:
            qkv += LowRank(self.lora_rank, qkv.shape[1:], self.dtype, name="qkv_lora")(x.reshape(-1, width))
        qkv = self.layout.constrain(qkv, ANY, None, "heads", None)
        qkv = qkv.reshape(sequences, length, *qkv.shape[1:])
        query, key, value = (x[:, :, 0] for x in jnp.split(qkv, 3, axis=2))
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        dropout = self.dropout and self.has_rng("dropout")
        if self.cudnn and mask is None and not (dropout or self.logit_cap):
            out = _cudnn_attention(query, key, value)
        else:
            out = self._attend(query, key, value, mask)
        out = self.layout.constrain(out.reshape(-1, self.num_heads, head_width), ANY, "heads", None)
        heads = out.reshape(-1, width)
        out = nn.DenseGeneral(
            width, axis=(-2, -1), kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype, name="out"
        )(out)
        if self.lora_rank:
            out += LowRank(self.lora_rank, (width,), self.dtype, name="out_lora")(heads)
        return out.reshape(x.shape)

    def _attend(
        self, query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None
    ) -> jax.Array:
        """Computes masked attention: three times [M, L, H, D/H], mask as in `__call__` → [M, L, H, D/H]."""
        logits = attention_logits(query * query.shape[-1] ** -0.5, key)
        if self.logit_cap:
            logits = self.logit_cap * jnp.tanh(logits / self.logit_cap)
        if mask is not None:
            logits = jnp.where(mask[:, None], logits, -1e9)
        weights = attention_weights(logits, self.dtype)
        weights = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(weights)
        return jnp.einsum("mhqk,mkhd->mqhd", weights, value)


class TransformerBlock(nn.Module):
    """LayerNorm → attention → residual, LayerNorm → MLP → residual.

    Attributes:
      num_heads, mlp_dim: Sizes.
      activation: CLIP's towers use `quick_gelu`, the fusion GELU.
      epsilon: Of the LayerNorms; 1e-5 in CLIP, 1e-6 in the fusion.
      dropout, attention_dropout: Rates.
      dtype: Of the computation.
      layout, cudnn: See `ComputeOptions`.
      logit_cap: See `SelfAttention`.
      lora_rank: See `ComputeOptions`.
    """

    num_heads: int
    mlp_dim: int
    activation: Callable[[jax.Array], jax.Array] = nn.gelu
    epsilon: float = 1e-6
    dropout: float = 0.0
    attention_dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    layout: Layout = UNSHARDED
    cudnn: bool = False
    logit_cap: float = 0.0
    lora_rank: int = 0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        drop_rate: jax.Array,
        rotation: jax.Array | None = None,
    ) -> jax.Array:
        """Applies the block.

        Args:
          x: Floating [M, L, D].
          mask: bool [1 or M, 1 or L, L], True = may attend; None = all may.
          drop_rate: float32 scalar, the probability of skipping each residual branch, per sequence.
          rotation: See `SelfAttention`.

        Returns:
          [M, L, D].
        """
        norm = functools.partial(nn.LayerNorm, epsilon=self.epsilon, dtype=self.dtype)
        dropout = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))
        attention = SelfAttention(
            self.num_heads, self.attention_dropout, self.dtype, self.layout, self.cudnn, self.logit_cap,
            self.lora_rank, name="attention",
        )  # fmt: skip
        replicate = lambda x: self.layout.constrain(
            x, ANY, None, None
        )  # on the devices that share a sequence
        x = replicate(
            x + self._drop_path(dropout(attention(norm(name="attention_norm")(x), mask, rotation)), drop_rate)
        )
        dense = functools.partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype)
        # With two axes instead of three the gradients are plain matrix products. Recomputing the activation is
        # cheaper than what the compiler makes of its derivative.
        flat = norm(name="mlp_norm")(x).reshape(-1, x.shape[-1])
        adapter = functools.partial(LowRank, self.lora_rank, dtype=self.dtype)
        hidden = dense(self.mlp_dim, name="mlp_in")(flat)
        if self.lora_rank:
            hidden += adapter((self.mlp_dim,), name="mlp_in_lora")(flat)
        hidden = self.layout.constrain(hidden, ANY, "mlp")
        hidden = dropout(jax.checkpoint(self.activation)(hidden))
        out = dense(x.shape[-1], name="mlp_out")(hidden)
        if self.lora_rank:
            out += adapter((x.shape[-1],), name="mlp_out_lora")(hidden)
        out = dropout(out).reshape(x.shape)
        return replicate(x + self._drop_path(out, drop_rate))

    def _drop_path(self, branch: jax.Array, rate: jax.Array) -> jax.Array:
        """Applies stochastic depth (Huang et al. 2016) per sequence: x [M, L, D], rate float32 scalar → [M, L, D]."""
        if not self.has_rng("dropout"):
            return branch
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - rate, (len(branch), 1, 1))
        return branch * (kept / (1.0 - rate)).astype(branch.dtype)


class Transformer(nn.Module):
    """A stack of identical blocks, scanned such that it compiles once whatever its depth.

    Parameters are stacked along axis 0.

    Attributes:
      num_layers: Depth.
      num_heads … attention_dropout: See `TransformerBlock`.
      drop_rates: Stochastic depth of the first and of the last layer; it grows linearly in between.
      compute: See `ComputeOptions`.
      num_chunks: Number of equal chunks in which the sequences run through all layers in turn, to save
        memory.
      logit_cap: See `SelfAttention`.
    """

    num_layers: int
    num_heads: int
    mlp_dim: int
    activation: Callable[[jax.Array], jax.Array] = nn.gelu
    epsilon: float = 1e-6
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_rates: tuple[float, float] = (0.0, 0.0)
    compute: ComputeOptions = ComputeOptions()
    num_chunks: int = 1
    logit_cap: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: jax.Array | None = None, rotation: jax.Array | None = None
    ) -> jax.Array:
        """Applies all layers.

        Args:
          x: Floating [M, L, D].
          mask: bool [1 or M, 1 or L, L], True = may attend; None = all may. Its first axis must be 1 if there are
            several chunks.
          rotation: See `SelfAttention`.

        Returns:
          [M, L, D].
        """
        block = TransformerBlock
        if self.compute.remat != "none":
            block = nn.remat(TransformerBlock, prevent_cse=False, policy=_SAVED[self.compute.remat])
        layers = nn.scan(
            lambda layer, carry, rate, mask, rotation: (layer(carry, mask, rate, rotation), None),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=self.num_layers,
            unroll=min(self.compute.unroll, self.num_layers),
        )
        stack = block(
            self.num_heads, self.mlp_dim, self.activation, self.epsilon, self.dropout, self.attention_dropout,
            self.compute.dtype, self.compute.layout, self.compute.cudnn, self.logit_cap, self.compute.lora_rank,
            name="layers",
        )  # fmt: skip
        rates = jnp.asarray(np.linspace(*self.drop_rates, self.num_layers), jnp.float32)
        if self.num_chunks == 1 or self.is_initializing():
            return layers(stack, x, rates, mask, rotation)[0]
        chunked = nn.scan(
            lambda stack, carry, chunk: (carry, layers(stack, chunk, rates, mask, rotation)[0]),
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
        )
        # M is sharded into contiguous rows, one per device: strided chunks take some sequences of every device.
        chunks = x.reshape(-1, self.num_chunks, *x.shape[1:]).swapaxes(0, 1)
        return chunked(stack, (), chunks)[1].swapaxes(0, 1).reshape(x.shape)
