"""Fingerprints of arrays, by which a restored checkpoint is compared with what was saved, on any mesh.

Orbax and tensorstore detect files that are missing or truncated, but not a flipped bit in a larger array.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def fingerprints(tree: Any) -> dict[str, int]:
    """Computes a fingerprint of each array, by its name ("params/head/bias").

    A fingerprint has 32 bits, depends on every bit of the array and not on its sharding: it is the sum, modulo 2^32, of
    a hash of each element's bits and position. All processes get the same values.
    """
    arrays = {array_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return {name: int(value) for name, value in jax.device_get(_fingerprints(arrays)).items()}


def different(metadata: Mapping[str, Any], tree: Any) -> list[str]:
    """Returns the names of arrays in `tree` whose fingerprint differs from that in a checkpoint's metadata.

    An array without a stored fingerprint differs too, unless an older version wrote the checkpoint (see `metadata.py`).
    """
    stored, found = metadata.get("fingerprints", {}), fingerprints(tree)
    names = found.keys() if "checksum" in metadata else found.keys() & stored.keys()
    return [name for name in sorted(names) if found[name] != stored.get(name)]


def not_finite(tree: Any) -> list[str]:
    """Returns the names of arrays that hold a NaN or an infinity."""
    arrays = {array_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return [name for name, finite in jax.device_get(_are_finite(arrays)).items() if not finite]


@jax.jit
def _fingerprints(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Computes the fingerprint, uint32 scalar, of each array."""
    return {name: _fingerprint(x) for name, x in arrays.items()}


@jax.jit
def _are_finite(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns, for each array, whether all of its elements are finite, bool scalar."""
    return {name: jnp.isfinite(x).all() for name, x in arrays.items()}


def _fingerprint(x: jax.Array) -> jax.Array:
    """Computes the fingerprint of one array: any shape and dtype → uint32 scalar."""
    if x.dtype == bool:
        x = x.astype(jnp.uint8)
    bits = jax.lax.bitcast_convert_type(x, np.dtype(f"uint{8 * x.dtype.itemsize}")).astype(jnp.uint32)
    place = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    mixed = bits + place * jnp.uint32(0x9E3779B9)
    # MurmurHash3's finalizer is a bijection, so a single element that changes always changes the sum.
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
    return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)


def array_name(path: tuple) -> str:
    """Returns the name ("params/head/bias") of the array at a path of a tree."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
