"""Names of axes → places. What it does on several devices: tests/training/test_sharding.py."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType

from unloc_jax.model.layout import ANY, NAMES, UNSHARDED, Layout
from unloc_jax.training.sharding import MESH_AXES, STRATEGY_RULES

MESH = AbstractMesh((2, 4, 1), MESH_AXES, axis_types=(AxisType.Auto,) * 3)
RULES = tuple(STRATEGY_RULES["dp"].activations.items())
X = jnp.arange(4 * 8 * 3.0).reshape(4, 8, 3)


@pytest.fixture
def layout(monkeypatch):
    """A layout that records its placements."""
    monkeypatch.setattr(Layout, "_place", lambda self, x, entries: (x, tuple(entries)))
    return Layout(MESH, RULES)


@pytest.mark.parametrize("strategy", STRATEGY_RULES)
def test_every_strategy_has_a_rule_for_every_name(strategy):
    assert set(STRATEGY_RULES[strategy].activations) == set(NAMES)
    assert Layout(MESH, tuple(STRATEGY_RULES[strategy].activations.items())).num_shards("all_texts") == 8


def test_what_would_quietly_place_nothing_is_an_error():
    with pytest.raises(ValueError, match="rules without a mesh"):
        Layout(None, RULES)
    with pytest.raises(ValueError, match="rules are needed for exactly"):
        Layout(MESH, RULES[1:])
    with pytest.raises(ValueError, match="rules are needed for exactly"):
        Layout(MESH, (*RULES, ("words", ())))
    with pytest.raises(ValueError, match="has no axis expert"):
        Layout(MESH, (*RULES[1:], (RULES[0][0], ("expert",))))
    for place in (UNSHARDED, Layout(MESH, RULES)):
        with pytest.raises(KeyError, match="'video' is not the name of an axis; known are videos, frames"):
            place.constrain(X, "video", None, None)
        with pytest.raises(ValueError, match="2 names"):
            place.constrain(X, "videos", None)
    with pytest.raises(ValueError, match="3 frames cannot be split into 4 equal parts"):
        Layout(MESH, RULES).constrain(X, None, None, "frames")


def test_places(layout):
    assert layout.constrain(X, "videos", "texts", None)[1] == (("data",), ("context",), None)
    assert layout.constrain(X, ANY, "heads", None)[1] == (ANY, None, None)
    assert layout.constrain(X[:1], "videos", None, None)[1] == (None, None, None)  # one for all
    assert [layout.padding("texts", size) for size in (1, 3, 4, 778)] == [0, 1, 0, 2]
    assert UNSHARDED.padding("texts", 3) == 0


def test_a_stack_is_made_of_what_a_device_has(layout):
    """2 × 4 devices: the first eighth of the stack holds the first half of the videos and a quarter of their frames."""
    stack, place = layout.merge(X, "videos", "frames")
    np.testing.assert_array_equal(stack[:4], X[:2, :2].reshape(4, 3))
    np.testing.assert_array_equal(stack[4:8], X[:2, 2:4].reshape(4, 3))
    np.testing.assert_array_equal(stack[16:20], X[2:, :2].reshape(4, 3))
    assert place == (("data", "context"), ANY)
    np.testing.assert_array_equal(layout.split(stack, (4, 8), "videos", "frames")[0], X)
    one_text, place = layout.merge(X[:, :1], "videos", "texts")
    np.testing.assert_array_equal(one_text, X[:, 0])
    assert place == (("data",), ANY)
    np.testing.assert_array_equal(UNSHARDED.merge(X, "videos", "frames")[0], X.reshape(32, 3))
