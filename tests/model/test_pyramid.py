"""Both pyramids next to numbers that are worked out token by token."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from tests.tiny import random_tree
from unloc_jax.config import HeadConfig
from unloc_jax.localization.decode import Localization
from unloc_jax.localization.geometry import PyramidGeometry, default_regression_ranges
from unloc_jax.model.heads import LocalizationHead
from unloc_jax.model.pyramid import DepthwiseConv, Downsample, FeaturePyramid, SimplePyramid


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def filled_up(x: np.ndarray, stride: int) -> np.ndarray:
    """[M, T, D]: the last token again until the stride divides the length."""
    return np.concatenate([x, x[:, -1:].repeat(-x.shape[1] % stride, axis=1)], axis=1)


@pytest.mark.parametrize("length", [8, 9])
@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (3, 2), (3, 4), (5, 2), (2, 3)])
def test_depthwise_convolution_equals_flax(kernel_size, stride, length):
    x = normal(0, 2, length, 6)
    params = {"kernel": normal(1, kernel_size, 1, 6), "bias": normal(2, 6)}
    flax_module = nn.Conv(6, (kernel_size,), (stride,), padding="SAME", feature_group_count=6)
    expected = flax_module.apply({"params": params}, filled_up(x, stride))
    found = DepthwiseConv(kernel_size, stride).apply({"params": params}, x)
    assert found.shape == (2, -(-length // stride), 6)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def windows(x: np.ndarray, stride: int, size: int) -> np.ndarray:
    """[M, T, D] → [M, ⌈T/stride⌉, size, D]: tokens stride·i, stride·i + 1, …; zeros beyond the end."""
    x = filled_up(x, stride)
    ended = np.concatenate([x, np.zeros((len(x), size, x.shape[2]))], axis=1)
    return np.stack([ended[:, i : i + size] for i in range(0, x.shape[1], stride)], axis=1)


def downsampled(kind: str, x: np.ndarray, stride: int, params: dict) -> np.ndarray:
    """By hand, for kernels of 3 and a stride of 2 or 3."""
    if kind == "subsample":
        return x[:, ::stride]
    if kind in ("max_pool", "avg_pool"):
        return getattr(windows(x, stride, stride), kind.removesuffix("_pool").replace("avg", "mean"))(2)
    kernel, bias = params["conv"]["kernel"].astype(np.float64), params["conv"]["bias"]
    if kind == "strided_conv":
        return np.einsum("mtkd,kde->mte", windows(x, stride, 3), kernel) + bias
    return np.einsum("mtkd,kd->mtd", windows(x, stride, 3), kernel[:, 0]) + bias


KINDS = ("max_pool", "avg_pool", "strided_conv", "strided_depthwise_conv", "subsample")


@pytest.mark.parametrize(("length", "stride"), [(6, 2), (7, 2), (7, 3), (1, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_downsampling(kind, length, stride):
    x = normal(length, 2, length, 4)
    module = Downsample(kind, stride)
    params = random_tree(jax.eval_shape(module.init, jax.random.key(0), x)).get("params", {})
    assert bool(params) == kind.endswith("conv")
    found = module.apply({"params": params}, x)
    assert found.shape == (2, -(-length // stride), 4)
    np.testing.assert_allclose(found, downsampled(kind, x, stride, params), rtol=1e-4, atol=1e-5)


def smoothed_and_normed(x: np.ndarray, params: dict, level: int) -> np.ndarray:
    """A level's last step: a depthwise convolution of each token and its neighbours, and LayerNorm."""
    kernel, bias = params[f"conv_{level}"]["kernel"][:, 0].astype(np.float64), params[f"conv_{level}"]["bias"]
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    x = sum(padded[:, i : i + x.shape[1]] * kernel[i] for i in range(3)) + bias
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * params[f"norm_{level}"]["scale"] + params[f"norm_{level}"]["bias"]


@pytest.mark.parametrize("length", [8, 7, 5])
def test_the_top_down_path(length):
    """Each level is its own tokens and those above it: of token i the tokens i // 2 and i // 4."""
    geometry = PyramidGeometry(length, 3, 2, default_regression_ranges(3))
    levels = [normal(level, 2, n, 6) for level, n in enumerate(geometry.level_lengths)]
    module = FeaturePyramid(geometry)
    params = random_tree(jax.eval_shape(module.init, jax.random.key(0), levels))["params"]
    found = module.apply({"params": params}, levels)
    at = lambda level, above: levels[above].astype(np.float64)[
        :, np.arange(len(levels[level][0])) // 2 ** (above - level)
    ]
    expected = [
        smoothed_and_normed(sum(at(level, above) for above in range(level, 3)), params, level)
        for level in range(3)
    ]
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-3, atol=1e-4)


def test_the_simple_pyramid_goes_up_from_level_to_level():
    geometry = PyramidGeometry(7, 3, 2, default_regression_ranges(3))
    x = normal(0, 2, 7, 6)
    module = SimplePyramid(geometry)
    params = random_tree(jax.eval_shape(module.init, jax.random.key(0), x))["params"]
    found = geometry.split_levels(np.asarray(module.apply({"params": params}, x)), axis=1)
    assert [level.shape[1] for level in found] == [7, 4, 2]
    np.testing.assert_allclose(found[0], smoothed_and_normed(x, params, 0), rtol=1e-3, atol=1e-4)
    for level in (1, 2):
        conv = {"conv": params[f"conv_{level}"]}
        x = downsampled("strided_depthwise_conv", found[level - 1], 2, conv)
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        expected = x * params[f"norm_{level}"]["scale"] + params[f"norm_{level}"]["bias"]
        np.testing.assert_allclose(found[level], expected, rtol=1e-3, atol=1e-4)


GEOMETRY = PyramidGeometry(16, 3, 2, default_regression_ranges(3))


@pytest.fixture(scope="module")
def pyramid_and_head():
    """(x [M, T, D]) → Localization [1, M, P], and the parameters of both modules."""
    pyramid, head = (
        SimplePyramid(GEOMETRY),
        LocalizationHead(GEOMETRY, HeadConfig(num_conv_layers=1, relevance_bias=-3.0)),
    )
    both = lambda head, x: Localization(head.predict_relevance(x), head.predict_offsets(x))

    def init(x):
        points, pyramid_params = pyramid.init_with_output(jax.random.key(0), x)
        return pyramid_params, head.init(jax.random.key(1), points[None], method=both)

    params = jax.jit(init)(normal(0, 1, 16, 8))
    run = jax.jit(lambda params, x: head.apply(params[1], pyramid.apply(params[0], x)[None], method=both))
    return params, run


def test_shapes_and_signs(pyramid_and_head):
    params, run = pyramid_and_head
    found = run(params, normal(0, 5, 16, 8))
    assert found.relevance.shape == (1, 5, 28) and found.offsets.shape == (1, 5, 28, 2)
    assert (found.offsets >= 0).all() and (found.offsets > 0).mean() > 0.9  # the bias keeps them alive
    assert (found.relevance < 0).mean() > 0.9


def test_a_point_sees_the_frames_around_it(pyramid_and_head):
    """Level 0: two frames to either side; every further level one more step to the right, and its head's one."""
    params, run = pyramid_and_head
    x = normal(0, 1, 16, 8).repeat(17, axis=0)
    for frame in range(16):
        x[frame + 1, frame] += 1
    relevance = np.asarray(run(params, x).relevance[0])
    seen = abs(relevance[1:] - relevance[0]) > 1e-6  # [frame, point]
    first, last = seen.argmax(0), 15 - seen[::-1].argmax(0)
    levels = GEOMETRY.split_levels(np.stack([first, last]), axis=1)
    point = np.arange(16)
    np.testing.assert_array_equal(levels[0], np.clip([point - 2, point + 2], 0, 15))
    point = np.arange(8)
    np.testing.assert_array_equal(levels[1], np.clip([2 * point - 3, 2 * point + 5], 0, 15))
    point = np.arange(4)
    np.testing.assert_array_equal(levels[2], np.clip([4 * point - 5, 4 * point + 11], 0, 15))


def test_levels_share_the_head_and_have_their_own_scale(pyramid_and_head):
    (pyramid_params, head_params), run = pyramid_and_head
    assert set(head_params["params"]) == {
        "relevance", "offsets", *(f"{kind}_{level}" for kind in ("scale", "shift") for level in range(3))
    }  # fmt: skip
    x = normal(0, 2, 16, 8)
    before = run((pyramid_params, head_params), x)
    scaled = head_params["params"] | {"scale_1": np.array([2.0], np.float32)}
    after = run((pyramid_params, {"params": scaled}), x)
    np.testing.assert_array_equal(before.relevance, after.relevance)
    factor = np.repeat([1, 2, 1], GEOMETRY.level_lengths)[:, None]
    np.testing.assert_allclose(after.offsets, before.offsets * factor, rtol=1e-6)
