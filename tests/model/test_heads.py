"""Every kind of head on the same points."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import random_tree
from unloc_jax.config import HeadConfig
from unloc_jax.localization.geometry import PyramidGeometry, default_regression_ranges
from unloc_jax.model.heads import LevelConv, LocalizationHead, VideoHead

GEOMETRY = PyramidGeometry(6, 2, 2, default_regression_ranges(2))
P, D = GEOMETRY.num_points, 8
FIRST = np.arange(P) < 6  # points of level 0


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def head_of(num_classes: int = 1, **change) -> LocalizationHead:
    return LocalizationHead(GEOMETRY, HeadConfig(**{"num_conv_layers": 1} | change), num_classes)


def both(head: LocalizationHead, x):
    return head.predict_relevance(x), head.predict_offsets(x)


def params_of(head: LocalizationHead, x: np.ndarray, method=both):
    return random_tree(jax.eval_shape(lambda: head.init(jax.random.key(0), x, method=method)))["params"]


def run(head: LocalizationHead, params, x: np.ndarray, method=both):
    return jax.device_get(jax.jit(lambda params: head.apply({"params": params}, x, method=method))(params))


X = normal(0, 2, 3, P, D)


@pytest.fixture(scope="module")
def shared():
    """Parameters of the default head with scales of 1 and shifts of 0, and its output for X."""
    params = params_of(head_of(), X)
    for name, value in params.items():
        if name.startswith(("scale", "shift")):
            value[:] = name.startswith("scale")
    return params, run(head_of(), params, X)


def test_each_output_is_that_of_its_own_pair(shared):
    relevance, distances = shared[1]
    assert relevance.shape == (2, 3, P) and distances.shape == (2, 3, P, 2)
    assert relevance.dtype == distances.dtype == np.float32
    alone = run(head_of(), shared[0], X[1:, 2:])
    np.testing.assert_allclose(alone[0], relevance[1:, 2:], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(alone[1], distances[1:, 2:], rtol=1e-4, atol=1e-5)


def test_a_head_per_level(shared):
    head = head_of(shared_levels=False)
    params = params_of(head, X)
    assert set(params) == {f"{kind}_of_{level}" for kind in ("relevance", "offsets") for level in (0, 1)}
    copies = {name: shared[0][name.partition("_")[0]] for name in params}
    found = run(head, copies, X)
    for x, expected in zip(found, shared[1], strict=True):
        np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-5)
    # Level 1 has different numbers.
    other = run(head, copies | {name: params[name] for name in params if name.endswith("1")}, X)
    for x, expected in zip(other, shared[1], strict=True):
        differs = (abs(x - expected) > 1e-4).any(axis=tuple(i for i in range(x.ndim) if i != 2))
        np.testing.assert_array_equal(differs, ~FIRST)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_convolution_of_all_levels_is_flax_convolution_of_each(size):
    """With the same parameters; and so are their gradients. The last level is shorter than the largest kernel."""
    ours, flax = LevelConv(size), nn.Conv(D, (size,))
    x, weight = X[:, 0], normal(1, 2, P, D)
    params = random_tree(jax.eval_shape(lambda: flax.init(jax.random.key(0), x)))

    def each(params, x):
        return jnp.concatenate([flax.apply(params, level) for level in GEOMETRY.split_levels(x, axis=1)], 1)

    def all_at_once(params, x):
        return ours.apply(params, x, GEOMETRY.levels)

    def value_and_gradients(conv):
        y, backward = jax.vjp(conv, params, x)
        return y, *backward(weight)

    found, expected = value_and_gradients(all_at_once), value_and_gradients(each)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)


def test_scale_and_shift_are_applied_before_distances_are_made_positive(shared):
    params = shared[0] | {"scale_0": np.array([-2.0], np.float32), "shift_0": np.array([0.5], np.float32)}
    raw = run(head_of(distances="sigmoid"), shared[0], X)[1]
    logit = np.log(raw / (1 - raw))
    expected = np.where(FIRST[:, None], np.maximum(0.5 - 2 * logit, 0), np.maximum(logit, 0))
    np.testing.assert_allclose(run(head_of(), params, X)[1], expected, rtol=1e-3, atol=1e-4)


def test_ranges_of_distances(shared):
    """relu: ≥ 0. relu_clip: the same, cut at 1. sigmoid: between 0 and 1, and 1/2 where relu begins."""
    params = shared[0] | {"scale_1": np.array([9.0], np.float32), "shift_0": np.array([0.7], np.float32)}
    relu, clipped, sigmoid = (
        run(head_of(distances=kind), params, X)[1] for kind in ("relu", "relu_clip", "sigmoid")
    )
    assert relu.min() == 0 and relu.max() > 1
    np.testing.assert_allclose(clipped, np.minimum(relu, 1), rtol=1e-6)
    assert (sigmoid > 0).all() and (sigmoid < 1).all()
    positive = relu > 0
    np.testing.assert_allclose(sigmoid[positive], 1 / (1 + np.exp(-relu[positive])), rtol=1e-4)
    assert (sigmoid[~positive] <= 0.5).all()


def test_distances_begin_alive():
    """With ReLU a bias of 0 would leave half of the points without a gradient, for good."""
    head = head_of()
    params = jax.jit(lambda: head.init(jax.random.key(0), X, method=both))()
    gradient = jax.jit(
        jax.grad(lambda x: head.apply(params, x, method=LocalizationHead.predict_offsets).sum())
    )(X)
    assert (np.asarray(gradient) != 0).mean() > 0.9


@pytest.mark.parametrize("per_text", [True, False])
def test_a_closed_vocabulary(shared, per_text):
    """Four classes are scored without texts; each output is that of a head of that class alone."""
    head, x = head_of(num_classes=4, offsets_per_text=per_text), X[:, :1]
    params = params_of(head, x)
    relevance, distances = run(head, params, x)
    assert relevance.shape == (2, 4, P) and distances.shape == (2, 4 if per_text else 1, P, 2)
    for c in range(4):
        of_class = jax.tree.map(lambda leaf: leaf, params)
        part = {"relevance": slice(c, c + 1), "offsets": slice(2 * c, 2 * c + 2) if per_text else slice(None)}
        for name, columns in part.items():
            output = params[name]["output"]
            one = {"kernel": output["kernel"][:, columns], "bias": output["bias"][columns]}
            of_class[name] = params[name] | {"output": one}
        alone = run(head_of(), of_class, x)
        np.testing.assert_allclose(relevance[:, c], alone[0][:, 0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(distances[:, c if per_text else 0], alone[1][:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_classes", [1, 4])
def test_a_linear_head_is_one_matrix(num_classes):
    head, x = head_of(num_classes, type="linear"), X if num_classes == 1 else X[:, :1]
    params = params_of(head, x, LocalizationHead.predict_relevance)
    assert set(params) == {"linear"}
    found = run(head, params, x, LocalizationHead.predict_relevance)
    expected = x.astype(np.float64) @ params["linear"]["kernel"] + params["linear"]["bias"]
    expected = expected[..., 0] if num_classes == 1 else np.moveaxis(expected[:, 0], -1, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    fresh = head_of(num_classes, type="linear", relevance_bias=-3.5).init(
        jax.random.key(0), x, method=LocalizationHead.predict_relevance
    )
    np.testing.assert_array_equal(fresh["params"]["linear"]["bias"], [-3.5] * num_classes)


def test_the_video_head_is_one_vector():
    text, head = normal(1, 2, 3, D), VideoHead()
    params = random_tree(jax.eval_shape(head.init, jax.random.key(0), text))
    output = params["params"]["output"]
    expected = text.astype(np.float64) @ output["kernel"][:, 0] + output["bias"][0]
    np.testing.assert_allclose(head.apply(params, text), expected, rtol=1e-4, atol=1e-5)
