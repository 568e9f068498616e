"""Counting bytes and replacing them by a table: all that most operations on colours need of a frame.

TPUs read and write single bytes at given addresses one by one; there, both are products of one-hot vectors of a byte's
two halves, which their matrix units do in passing. They give the same numbers, to the last bit.
"""

import jax
import jax.numpy as jnp


def histogram(frame: jax.Array) -> jax.Array:
    """uint8 [H, W, 3] → int32 [3, 256], how often each channel has each value."""
    return jax.lax.platform_dependent(frame, cpu=count_by_scatter, default=count_by_one_hot)


def lookup(frame: jax.Array, tables: jax.Array) -> jax.Array:
    """uint8 [H, W, 3], uint8 [3, 256] (one table per channel) → uint8 [H, W, 3]."""
    return jax.lax.platform_dependent(frame, tables, tpu=lookup_by_one_hot, default=lookup_by_gather)


def count_by_scatter(frame: jax.Array) -> jax.Array:
    return jnp.zeros((3, 256), jnp.int32).at[jnp.arange(3), frame].add(1, mode="promise_in_bounds")


def count_by_one_hot(frame: jax.Array) -> jax.Array:
    high, low = _one_hot_halves(frame)
    # Sums of ones are exact in float32 up to 2^24, more pixels than a frame has.
    counts = jnp.einsum("chp,clp->chl", high, low, preferred_element_type=jnp.float32)
    return counts.reshape(3, 256).astype(jnp.int32)


def lookup_by_gather(frame: jax.Array, tables: jax.Array) -> jax.Array:
    return tables.at[jnp.arange(3), frame].get(mode="promise_in_bounds")


def lookup_by_one_hot(frame: jax.Array, tables: jax.Array) -> jax.Array:
    high, low = _one_hot_halves(frame)
    # bfloat16 holds all integers up to 256.
    rows = tables.reshape(3, 16, 16).astype(jnp.bfloat16)
    candidates = jnp.einsum("chl,chp->clp", rows, high, preferred_element_type=jnp.float32)
    found = jnp.where(low > 0, candidates, 0).sum(1)
    return found.astype(jnp.uint8).T.reshape(frame.shape)


def _one_hot_halves(frame: jax.Array) -> tuple[jax.Array, jax.Array]:
    """uint8 [H, W, 3] → bfloat16 [3, 16, H·W] twice: of the upper and of the lower four bits."""
    pixels = frame.reshape(-1, 3).T[:, None]
    values = jnp.arange(16, dtype=jnp.uint8)[:, None]
    return (pixels >> 4 == values).astype(jnp.bfloat16), (pixels & 15 == values).astype(jnp.bfloat16)
