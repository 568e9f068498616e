"""The pre-norm transformer block that the towers and the fusion share.

Dropout and stochastic depth are on when the caller of `apply` passes a "dropout" generator, and off otherwise.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from unloc_jax.model.layout import ANY, ONE_PLACE, Layout


def quick_gelu(x: jax.Array) -> jax.Array:
    """CLIP's approximation of GELU."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": nn.gelu,  # by tanh
    "gelu_exact": functools.partial(nn.gelu, approximate=False),  # PyTorch's, so open_clip's
}


# What the backward pass finds saved of a layer besides its input; it recomputes the rest (all of it: "full").
# "dots" saves the four products with weights, so little more than attention and activations is recomputed.
_SAVED: dict[str, Callable | None] = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": None,
}


@dataclasses.dataclass(frozen=True)
class Run:
    """How a stack of layers runs; what it computes does not change (but for rounding).

    Attributes:
      remat: what the backward pass recomputes: "none", "dots" or "full", see `ModelConfig`.
      unroll: layers per turn of the compiled loop.
      dtype: of the computation; LayerNorm statistics and softmax are float32 whatever it is.
      layout: which device computes what.
      sequences: that a device takes through all layers at a time; 0 = all.
      cudnn: attention without a mask is cuDNN's; for bfloat16 on a GPU.
    """

    remat: str = "none"
    unroll: int = 1
    dtype: DTypeLike = jnp.float32
    layout: Layout = ONE_PLACE
    sequences: int = 0
    cudnn: bool = False

    def turns(self, num_sequences: int, num_parts: int) -> int:
        """How often a stack runs to take its share of the sequences of num_parts devices, alike each time."""
        share, rest = divmod(num_sequences, num_parts)
        if not self.sequences or rest:
            return 1
        return next(n for n in range(-(-share // self.sequences), share + 1) if share % n == 0)


@jax.custom_vjp
def attention_logits(query: jax.Array, key: jax.Array) -> jax.Array:
    """Twice [M, L, H, D / H] → float32 [M, H, L, L], never rounded to less.

    Their derivative is rounded to the inputs' type, so that what follows are products of that type, as fast as those
    of the forward pass and of half the size.
    """
    return jnp.einsum("mqhd,mkhd->mhqk", query, key, preferred_element_type=jnp.float32)


def _logits_forward(query: jax.Array, key: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return attention_logits(query, key), (query, key)


def _logits_backward(inputs: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    query, key = inputs
    gradient = gradient.astype(query.dtype)
    of_query = jnp.einsum("mhqk,mkhd->mqhd", gradient, key)
    return of_query, jnp.einsum("mhqk,mqhd->mkhd", gradient, query)


attention_logits.defvjp(_logits_forward, _logits_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def attention_weights(logits: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Softmax over the last axis: float32 [...] → dtype [...].

    The derivative is computed from the rounded weights, which are kept anyway: those of float32, which
    `jax.nn.softmax` keeps beside them, are the largest arrays of a layer.
    """
    return jax.nn.softmax(logits).astype(dtype)


def _weights_forward(logits: jax.Array, dtype: DTypeLike) -> tuple[jax.Array, jax.Array]:
    weights = attention_weights(logits, dtype)
    return weights, weights


def _weights_backward(dtype: DTypeLike, weights: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    del dtype
    weights, gradient = weights.astype(jnp.float32), gradient.astype(jnp.float32)
    return (weights * (gradient - (weights * gradient).sum(-1, keepdims=True)),)


attention_weights.defvjp(_weights_forward, _weights_backward)


def _cudnn_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Three times [M, L, H, D / H] → [M, L, H, D / H].

    JAX refuses odd lengths in training, and CLIP's are odd: one token is added that nobody sees.
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
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    num_heads: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    layout: Layout = ONE_PLACE
    cudnn: bool = False

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
        qkv = self.layout.constrain(qkv, ANY, None, "heads", None)
        qkv = qkv.reshape(sequences, length, *qkv.shape[1:])
        query, key, value = (x[:, :, 0] for x in jnp.split(qkv, 3, axis=2))
        if self.cudnn and mask is None and not (self.dropout and self.has_rng("dropout")):
            out = _cudnn_attention(query, key, value)
        else:
            out = self._attend(query, key, value, mask)
        out = self.layout.constrain(out.reshape(-1, self.num_heads, head_width), ANY, "heads", None)
        out = nn.DenseGeneral(
            width, axis=(-2, -1), kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype, name="out"
        )(out)
        return out.reshape(x.shape)

    def _attend(
        self, query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None
    ) -> jax.Array:
        """Three times [M, L, H, D / H] → [M, L, H, D / H]."""
        logits = attention_logits(query * query.shape[-1] ** -0.5, key)
        if mask is not None:
            logits = jnp.where(mask[:, None], logits, -1e9)
        weights = attention_weights(logits, self.dtype)
        weights = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(weights)
        return jnp.einsum("mhqk,mkhd->mqhd", weights, value)


class TransformerBlock(nn.Module):
    """LayerNorm → attention → residual, LayerNorm → MLP → residual.

    Attributes:
      num_heads, mlp_dim: sizes.
      activation: CLIP's towers use `quick_gelu`, the fusion GELU.
      epsilon: of the LayerNorms; 1e-5 in CLIP, 1e-6 in the fusion.
      dropout, attention_dropout: rates.
      dtype: of the computation.
      layout, cudnn: see `Run`.
    """

    num_heads: int
    mlp_dim: int
    activation: Callable[[jax.Array], jax.Array] = nn.gelu
    epsilon: float = 1e-6
    dropout: float = 0.0
    attention_dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    layout: Layout = ONE_PLACE
    cudnn: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, drop_rate: jax.Array) -> jax.Array:
        """x [M, L, D]; mask bool [1 or M, 1 or L, L]; drop_rate: scalar chance to skip each branch, per sequence."""
        norm = functools.partial(nn.LayerNorm, epsilon=self.epsilon, dtype=self.dtype)
        dropout = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))
        attention = SelfAttention(
            self.num_heads, self.attention_dropout, self.dtype, self.layout, self.cudnn, name="attention"
        )
        whole = lambda x: self.layout.constrain(x, ANY, None, None)  # on all devices that share a sequence
        x = whole(x + self._maybe_skip(dropout(attention(norm(name="attention_norm")(x), mask)), drop_rate))
        dense = functools.partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype)
        # Two axes instead of three make the gradients plain matrix products; recomputing the activation is
        # cheaper than what the compiler does with its derivative.
        flat = norm(name="mlp_norm")(x).reshape(-1, x.shape[-1])
        hidden = self.layout.constrain(dense(self.mlp_dim, name="mlp_in")(flat), ANY, "mlp")
        hidden = dropout(jax.checkpoint(self.activation)(hidden))
        out = dropout(dense(x.shape[-1], name="mlp_out")(hidden)).reshape(x.shape)
        return whole(x + self._maybe_skip(out, drop_rate))

    def _maybe_skip(self, branch: jax.Array, rate: jax.Array) -> jax.Array:
        """Stochastic depth (Huang et al. 2016), each sequence for itself."""
        if not self.has_rng("dropout"):
            return branch
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - rate, (len(branch), 1, 1))
        return branch * (kept / (1.0 - rate)).astype(branch.dtype)


class Transformer(nn.Module):
    """A stack of identical blocks, scanned: compiled once however deep.

    Parameters are stacked along axis 0.

    Attributes:
      num_layers … attention_dropout: see `TransformerBlock`.
      drop_rates: stochastic depth of the first and of the last layer; in between it grows linearly.
      run: see `Run`.
      turns: the sequences go through the layers in so many equal parts, one after the other: less memory.
    """

    num_layers: int
    num_heads: int
    mlp_dim: int
    activation: Callable[[jax.Array], jax.Array] = nn.gelu
    epsilon: float = 1e-6
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_rates: tuple[float, float] = (0.0, 0.0)
    run: Run = Run()
    turns: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """x [M, L, D]; mask bool [1 or M, 1 or L, L] (1 if there are turns), True = may attend; returns [M, L, D]."""
        block = TransformerBlock
        if self.run.remat != "none":
            block = nn.remat(TransformerBlock, prevent_cse=False, policy=_SAVED[self.run.remat])
        layers = nn.scan(
            lambda layer, carry, rate, mask: (layer(carry, mask, rate), None),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, nn.broadcast),
            length=self.num_layers,
            unroll=min(self.run.unroll, self.num_layers),
        )
        stack = block(
            self.num_heads, self.mlp_dim, self.activation, self.epsilon, self.dropout, self.attention_dropout,
            self.run.dtype, self.run.layout, self.run.cudnn, name="layers",
        )  # fmt: skip
        rates = jnp.asarray(np.linspace(*self.drop_rates, self.num_layers), jnp.float32)
        if self.turns == 1 or self.is_initializing():
            return layers(stack, x, rates, mask)[0]
        in_turns = nn.scan(
            lambda stack, carry, some: (carry, layers(stack, some, rates, mask)[0]),
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
        )
        # Every device has a row of sequences in M, and takes some of them in each turn.
        parts = x.reshape(-1, self.turns, *x.shape[1:]).swapaxes(0, 1)
        return in_turns(stack, (), parts)[1].swapaxes(0, 1).reshape(x.shape)
