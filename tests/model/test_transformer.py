import flax.linen as nn
import jax
import numpy as np
import pytest

from unloc_jax.model.transformer import SelfAttention, Transformer


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_attention_equals_flax():
    x = normal(0, 3, 5, 8)
    mask = np.random.default_rng(1).random((3, 1, 5)) < 0.6
    mask[..., 0] = True
    module = SelfAttention(num_heads=2)
    variables = module.init(jax.random.key(0), x, mask)
    params = jax.tree.map(lambda leaf: normal(leaf.size, *leaf.shape), variables["params"])
    names = ("query", "key", "value")
    split = {
        name: {"kernel": params["qkv"]["kernel"][:, i], "bias": params["qkv"]["bias"][i]}
        for i, name in enumerate(names)
    }
    flax_module = nn.MultiHeadDotProductAttention(num_heads=2)
    expected = flax_module.apply({"params": split | {"out": params["out"]}}, x, mask=mask[:, None])
    np.testing.assert_allclose(module.apply({"params": params}, x, mask), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def stack():
    """Three layers, and the function (change, x, mask) → (output, gradients) of variants with the same parameters."""
    make = lambda **change: Transformer(num_layers=3, num_heads=2, mlp_dim=16, **change)
    x, mask = normal(0, 2, 6, 8), np.ones((2, 1, 6), bool)
    mask[1, :, 4:] = False
    params = jax.jit(make().init)(jax.random.key(0), x, mask)

    def run(**change):
        loss = lambda params: (make(**change).apply(params, x, mask) ** 2).sum()
        return jax.device_get(jax.jit(jax.value_and_grad(loss))(params))

    return params, run, run()


def test_layers_are_stacked(stack):
    assert {leaf.shape[0] for leaf in jax.tree.leaves(stack[0])} == {3}
    kernels = stack[0]["params"]["layers"]["mlp_in"]["kernel"]
    assert abs(kernels[0] - kernels[1]).max() > 0.1  # each starts from numbers of its own


@pytest.mark.parametrize("change", [{"remat": True}, {"unroll": 2}])
def test_remat_and_unroll_change_no_number(stack, change):
    _, run, (expected, expected_gradients) = stack
    value, gradients = run(**change)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), gradients, expected_gradients
    )


def test_masked_positions_are_not_seen(stack):
    params = stack[0]
    apply = jax.jit(Transformer(num_layers=3, num_heads=2, mlp_dim=16).apply)
    x, mask = normal(0, 2, 6, 8), np.ones((2, 1, 6), bool)
    mask[:, :, 3] = False
    changed = x.copy()
    changed[:, 3] = 100
    real = [0, 1, 2, 4, 5]
    np.testing.assert_array_equal(apply(params, x, mask)[:, real], apply(params, changed, mask)[:, real])
