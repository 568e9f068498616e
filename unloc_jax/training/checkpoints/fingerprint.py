"""Fingerprints of arrays: what a checkpoint holds is compared with what was saved, on any mesh.

Orbax and tensorstore notice files that are missing or cut, but not a flipped bit in the data of a larger array.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def fingerprints(tree: Any) -> dict[str, int]:
    """By array ("params/head/bias"), 32 bits that change with any bit of it; the same however it is sharded.

    The sum over all elements, modulo 2^32, of a hash of an element's bits and its place. Every process gets the same.
    """
    arrays = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return {name: int(value) for name, value in jax.device_get(_of_arrays(arrays)).items()}


def different(stored: Mapping[str, int], tree: Any) -> list[str]:
    """The names of the arrays of `tree` that are not those whose fingerprints were stored; unknown ones pass."""
    found = fingerprints(tree)
    return [name for name in sorted(found.keys() & stored.keys()) if found[name] != stored[name]]


def not_finite(tree: Any) -> list[str]:
    """The names of the arrays that hold a NaN or an infinity."""
    arrays = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return [name for name, finite in jax.device_get(_are_finite(arrays)).items() if not finite]


@jax.jit
def _of_arrays(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: _fingerprint(x) for name, x in arrays.items()}


@jax.jit
def _are_finite(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.isfinite(x).all() for name, x in arrays.items()}


def _fingerprint(x: jax.Array) -> jax.Array:
    if x.dtype == bool:
        x = x.astype(jnp.uint8)
    bits = jax.lax.bitcast_convert_type(x, np.dtype(f"uint{8 * x.dtype.itemsize}")).astype(jnp.uint32)
    place = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    mixed = bits + place * jnp.uint32(0x9E3779B9)
    # The finalizer of MurmurHash3: one to one, so that one element that changes always changes the sum.
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
    return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
