"""The assertions at the borders of the rooms; tests/localization/test_borders.py shows them at work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unloc_jax.shapes import assert_rank, assert_same_layout, assert_shape, assert_type

PICTURE = np.zeros((2, 3, 4), np.uint8)
TREE = {"a": np.zeros((2, 3), np.float32), "b": [np.int32(1)]}


def test_what_fits_is_accepted_also_while_tracing():
    def borders(x):
        assert_shape(x, (2, None, {4, 5}))
        assert_shape([x, x], (2, 3, 4))
        assert_shape([x, x[0]], (..., 4))
        assert_rank(x, 3)
        assert_rank([x, x[0]], [3, 2])
        assert_type([x, jnp.int32(0)], int)
        assert_type(x > 0, bool)
        return x

    borders(PICTURE)
    jax.eval_shape(borders, PICTURE)
    assert_shape(jnp.float32(0), ())
    assert_same_layout(TREE, jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), TREE))


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: assert_shape(PICTURE, (2, 3)), r"\(2, 3, 4\), expected \(2, 3\)"),
        (lambda: assert_shape(PICTURE, (2, 3, 5)), "expected"),
        (lambda: assert_shape(PICTURE, (2, {4, 1}, None)), "expected"),
        (lambda: assert_shape([PICTURE, PICTURE[0]], (2, 3, 4)), "expected"),
        (lambda: assert_shape(PICTURE, (..., 2)), "expected"),
        (lambda: assert_shape(PICTURE[0, 0], (..., 3, 4)), "expected"),
        (lambda: assert_rank(PICTURE, 2), "expected"),
        (lambda: assert_rank([PICTURE, PICTURE], [3, 2]), "expected"),
        (lambda: assert_type(PICTURE, bool), "uint8, expected bool"),
        (lambda: assert_type(PICTURE > 0, int), "bool, expected int"),
        (lambda: assert_type(PICTURE.astype(np.float32), int), "float32, expected int"),
        (lambda: assert_same_layout(TREE, {"a": TREE["a"]}), "trees"),
        (lambda: assert_same_layout(TREE, TREE | {"b": [np.float32(1)]}), r"\['b'\]\[0\]"),
        (lambda: assert_same_layout(TREE, TREE | {"a": TREE["a"].T}), r"\['a'\]: \(\(2, 3\)"),
    ],
)
def test_what_differs_is_refused(refused, message):
    with pytest.raises(AssertionError, match=message):
        refused()
