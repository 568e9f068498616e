"""Assertions at the borders of the rooms: that arrays have the shapes and dtypes which docstrings promise.

Shapes are known when a function is traced, so these cost nothing in a compiled step.
"""

from collections.abc import Collection, Sequence
from types import EllipsisType
from typing import Any

import jax
import jax.numpy as jnp

Dimension = int | Collection[int] | None


def assert_shape(arrays: Any, shape: Sequence[Dimension | EllipsisType]) -> None:
    """Asserts that an array, or each of a list, has this shape.

    Args:
      arrays: array or list of arrays.
      shape: per axis its length, several allowed lengths, or None for any; `...` first: any further axes before these.

    Raises:
      AssertionError: another shape.
    """
    for array in _listed(arrays):
        found = jnp.shape(array)
        last = [each for each in shape if not isinstance(each, EllipsisType)]
        checked = found[-len(last) :] if len(last) < len(shape) else found
        if len(checked) != len(last) or not all(map(_fits, checked, last)):
            raise AssertionError(f"shape {found}, expected {tuple(shape)}")


def assert_rank(arrays: Any, ranks: int | Sequence[int]) -> None:
    """Asserts that an array, or each of a list, has so many axes; `ranks` may give one number per array.

    Raises:
      AssertionError: another rank.
    """
    listed = _listed(arrays)
    expected = [ranks] * len(listed) if isinstance(ranks, int) else ranks
    for array, rank in zip(listed, expected, strict=True):
        assert_shape(array, [None] * rank)


def assert_type(arrays: Any, kind: type) -> None:
    """Asserts that an array, or each of a list, holds booleans (`bool`) or integers (`int`).

    Raises:
      AssertionError: another dtype.
    """
    family = {bool: jnp.bool_, int: jnp.integer}[kind]
    for array in _listed(arrays):
        dtype = jnp.result_type(array)
        if not jnp.issubdtype(dtype, family):
            raise AssertionError(f"dtype {dtype}, expected {kind.__name__}")


def assert_same_layout(a: Any, b: Any) -> None:
    """Asserts that two trees have the same structure, and leaves of equal shapes and dtypes.

    Raises:
      AssertionError: they differ; names the first leaf that does.
    """
    of_a, of_b = str(jax.tree.structure(a)), str(jax.tree.structure(b))
    if of_a != of_b:
        raise AssertionError(f"trees {of_a} and {of_b}")
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b)):
        layouts = [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in (x, y)]
        if layouts[0] != layouts[1]:
            raise AssertionError(f"{jax.tree_util.keystr(path)}: {layouts[0]} and {layouts[1]}")


def _listed(arrays: Any) -> list[Any]:
    return list(arrays) if isinstance(arrays, list | tuple) else [arrays]


def _fits(found: int, expected: Dimension) -> bool:
    if expected is None:
        return True
    return found == expected if isinstance(expected, int) else found in expected
