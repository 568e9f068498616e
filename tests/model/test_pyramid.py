import flax.linen as nn
import jax
import numpy as np
import pytest

from unloc_jax.localization.geometry import PyramidGeometry, default_regression_ranges
from unloc_jax.model.heads import LocalizationHead
from unloc_jax.model.pyramid import DepthwiseConv, SimplePyramid


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("length", [8, 9])
@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (3, 2), (3, 4), (5, 2), (2, 3)])
def test_depthwise_convolution_equals_flax(kernel_size, stride, length):
    x = normal(0, 2, length, 6)
    params = {"kernel": normal(1, kernel_size, 1, 6), "bias": normal(2, 6)}
    flax_module = nn.Conv(6, (kernel_size,), (stride,), padding="SAME", feature_group_count=6)
    expected = flax_module.apply({"params": params}, x)
    found = DepthwiseConv(kernel_size, stride).apply({"params": params}, x)
    assert found.shape == (2, -(-length // stride), 6)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


GEOMETRY = PyramidGeometry(16, 3, 2, default_regression_ranges(3))


@pytest.fixture(scope="module")
def pyramid_and_head():
    """(x [M, T, D]) → Localization [1, M, P], and the parameters of both modules."""
    pyramid, head = SimplePyramid(GEOMETRY), LocalizationHead(GEOMETRY, 1, 3, -3.0, 2.0)

    def init(x):
        points, pyramid_params = pyramid.init_with_output(jax.random.key(0), x)
        return pyramid_params, head.init(jax.random.key(1), points[None])

    params = jax.jit(init)(normal(0, 1, 16, 8))
    run = jax.jit(lambda params, x: head.apply(params[1], pyramid.apply(params[0], x)[None]))
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
