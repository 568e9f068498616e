import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import random_tree
from unloc_jax.model.transformer import (
    ACTIVATIONS,
    ComputeOptions,
    SelfAttention,
    Transformer,
    attention_logits,
    attention_weights,
)


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
    make = lambda **change: Transformer(
        num_layers=3, num_heads=2, mlp_dim=16, compute=ComputeOptions(**change)
    )
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
    assert abs(kernels[0] - kernels[1]).max() > 0.1  # each is initialised differently


@pytest.mark.parametrize("change", [{"remat": "dots"}, {"remat": "full"}, {"unroll": 2}])
def test_remat_and_unroll_change_no_number(stack, change):
    _, run, (expected, expected_gradients) = stack
    value, gradients = run(**change)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), gradients, expected_gradients
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_attention_logits_are_not_rounded(dtype):
    """Neither by the product nor, in a program without a compiler's freedom, after it; derivatives are of the type."""
    query, key = (jax.random.normal(jax.random.key(i), (2, 5, 3, 8), dtype) for i in range(2))
    exact = [np.asarray(x, np.float64) for x in (query, key)]
    logits = attention_logits(query, key)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, np.einsum("mqhd,mkhd->mhqk", *exact), rtol=1e-5, atol=1e-5)
    weight = jax.random.normal(jax.random.key(2), logits.shape)
    loss = lambda logits_of: lambda query, key: (logits_of(query, key) * weight).sum()
    found = jax.grad(loss(attention_logits), argnums=(0, 1))(query, key)
    plain = lambda query, key: jnp.einsum("mqhd,mkhd->mhqk", query, key)
    expected = jax.grad(loss(plain), argnums=(0, 1))(*(jnp.asarray(x, jnp.float32) for x in exact))
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == dtype
        tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
        np.testing.assert_allclose(np.asarray(x, np.float32), y, rtol=tolerance, atol=tolerance * 5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_derivative_of_attention_weights(dtype):
    logits, given = normal(0, 4, 5, 7), jnp.asarray(normal(1, 4, 5, 7), dtype)
    expected, pull_back = jax.vjp(jax.nn.softmax, logits)
    found, pull_back_ours = jax.vjp(lambda x: attention_weights(x, dtype), logits)
    precision = 1e-6 if dtype == jnp.float32 else 2**-8
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=precision)
    expected_gradient = pull_back(given.astype(jnp.float32))[0]
    np.testing.assert_allclose(pull_back_ours(given)[0], expected_gradient, atol=2 * precision)


@pytest.mark.parametrize(("at_a_time", "num_chunks"), [(0, 1), (12, 1), (6, 2), (5, 3), (1, 12)])
def test_chunks_of_a_device(at_a_time, num_chunks):
    """24 sequences on 2 devices; the chunks are equally long and no longer than asked for."""
    assert ComputeOptions(chunk_size=at_a_time).num_chunks(24, 2) == num_chunks


def test_chunks_change_no_number(stack):
    params = stack[0]
    x = normal(3, 6, 5, 8)
    make = lambda num_chunks: Transformer(
        num_layers=3, num_heads=2, mlp_dim=16, compute=ComputeOptions(remat="full"), num_chunks=num_chunks
    )
    of = lambda num_chunks: jax.jit(
        jax.value_and_grad(lambda p, x: (make(num_chunks).apply(p, x) ** 2).sum(), (0, 1))
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),  # gradients of about 10
        of(3)(params, x),
        of(1)(params, x),
    )


def test_remat_says_how_many_products_run_again():
    """A layer has six products; its gradient has twice as many, and those that were not saved once more."""
    x = np.zeros((2, 6, 8), np.float32)

    def products(remat: str) -> int:
        module = Transformer(num_layers=3, num_heads=2, mlp_dim=16, compute=ComputeOptions(remat=remat))
        params = jax.eval_shape(module.init, jax.random.key(0), x)
        gradient = jax.grad(lambda params, x: module.apply(params, x).sum(), argnums=(0, 1))
        return str(jax.make_jaxpr(gradient)(params, x)).count("dot_general[")

    # The last product of a layer is needed by nobody once more; with "dots" the two of attention are recomputed.
    assert [products(remat) for remat in ("none", "dots", "full")] == [18, 20, 23]


def test_masked_positions_are_not_seen(stack):
    params = stack[0]
    apply = jax.jit(Transformer(num_layers=3, num_heads=2, mlp_dim=16).apply)
    x, mask = normal(0, 2, 6, 8), np.ones((2, 1, 6), bool)
    mask[:, :, 3] = False
    changed = x.copy()
    changed[:, 3] = 100
    real = [0, 1, 2, 4, 5]
    np.testing.assert_array_equal(apply(params, x, mask)[:, real], apply(params, changed, mask)[:, real])


def _tower_loss(length: int, cudnn: bool, dtype=jnp.float32):
    """(loss of params and x, x, params) of a stack without a mask."""
    module = Transformer(
        num_layers=2, num_heads=2, mlp_dim=32, compute=ComputeOptions(remat="full", dtype=dtype, cudnn=cudnn)
    )
    x = jnp.asarray(normal(3, 4, length, 16))
    params = random_tree(jax.eval_shape(module.init, jax.random.key(0), x))
    return lambda params, x: (module.apply(params, x).astype(jnp.float32) ** 2).sum(), params, x


@pytest.mark.parametrize("length", [17, 10])
def test_attention_of_jax_is_ours(monkeypatch, length):
    """The call meant for cuDNN, computed by JAX's own implementation, gives our values and gradients."""
    loss, params, x = _tower_loss(length, cudnn=False)
    expected = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)
    asked, attention = [], jax.nn.dot_product_attention

    def xla(*inputs, implementation, **settings):
        asked.append(implementation)
        return attention(*inputs, implementation="xla", **settings)

    monkeypatch.setattr(jax.nn, "dot_product_attention", xla)
    found = jax.jit(jax.value_and_grad(_tower_loss(length, cudnn=True)[0], argnums=(0, 1)))(params, x)
    assert set(asked) == {"cudnn"}
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [17, 10])
def test_cudnn_gets_attention_without_a_mask_of_any_length(monkeypatch, length):
    """Lowered for a GPU that is not here: forward and backward are calls of cuDNN; those with a mask are not."""
    from jax._src.cudnn import fused_attention_stablehlo

    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(fused_attention_stablehlo, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(
        fused_attention_stablehlo, "is_cuda_compute_capability_equal", lambda capability: False
    )
    loss, params, x = _tower_loss(length, cudnn=True, dtype=jnp.bfloat16)
    lower = lambda fn, *of: jax.jit(fn).trace(*of).lower(lowering_platforms=("cuda",)).as_text()
    program = lower(jax.grad(loss), params, x)
    assert "cudnn$fmhaSoftmax" in program and "cudnn$fmhaSoftmaxBackward" in program
    masked = SelfAttention(num_heads=2, dtype=jnp.bfloat16, cudnn=True)
    mask = jnp.ones((4, 1, length), bool)
    with_mask = lambda params, x: masked.apply(params, x, mask)
    params = random_tree(jax.eval_shape(masked.init, jax.random.key(0), x, mask))
    assert "cudnn" not in lower(with_mask, params, x)


def test_activations():
    x = np.linspace(-4, 4, 33, dtype=np.float32)
    np.testing.assert_allclose(ACTIVATIONS["quick_gelu"](x), x / (1 + np.exp(-1.702 * x)), rtol=1e-5)
    tanh = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))  # Hendrycks and Gimpel 2016
    np.testing.assert_allclose(ACTIVATIONS["gelu"](x), 0.5 * x * (1 + tanh), rtol=1e-4, atol=1e-6)


SEQUENCES = 2000


def added_by_each_layer(key: int | None, **change) -> np.ndarray:
    """[M, L, 3]: three layers of which number l adds 1 to channel l and nothing else, as a share of that 1."""
    module = Transformer(num_layers=3, num_heads=1, mlp_dim=1, **change)
    x = np.zeros((SEQUENCES, 2, 3), np.float32)
    params = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32), jax.eval_shape(module.init, jax.random.key(0), x)
    )
    params["params"]["layers"]["mlp_out"]["bias"] = np.eye(3, dtype=np.float32)
    rngs = {} if key is None else {"dropout": jax.random.key(key)}
    return np.asarray(jax.jit(module.apply)(params, x, rngs=rngs))


def test_stochastic_depth_skips_whole_sequences_more_often_the_deeper():
    added = added_by_each_layer(0, drop_rates=(0.0, 0.6))
    np.testing.assert_array_equal(added[:, 0], added[:, 1])  # all tokens of a sequence or none
    for layer, rate in enumerate((0.0, 0.3, 0.6)):
        kept = added[:, 0, layer] > 0
        assert abs(kept.mean() - (1 - rate)) < 0.05
        np.testing.assert_allclose(added[kept, 0, layer], 1 / (1 - rate), rtol=1e-5)  # so the mean is 1
    second, third = added[:, 0, 1] > 0, added[:, 0, 2] > 0
    assert abs((second & third).mean() - 0.7 * 0.4) < 0.05  # drawn for each layer


def test_dropout_zeroes_single_numbers_and_keeps_the_mean():
    added = added_by_each_layer(0, dropout=0.25).reshape(-1, 3)
    assert abs((added > 0).mean() - 0.75) < 0.03
    np.testing.assert_allclose(added[added > 0], 1 / 0.75, rtol=1e-5)
    assert abs(added.all(1).mean() - 0.75**3) < 0.03  # each for itself


@pytest.mark.parametrize("change", [{"dropout": 0.5}, {"drop_rates": (0.5, 0.5)}])
def test_nothing_is_dropped_without_a_generator(change):
    assert (added_by_each_layer(None, **change) == 1).all()
    one, again, other = (added_by_each_layer(key, **change) for key in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_attention_dropout_keeps_the_mean():
    """Uniform attention to values of 1: what is left of the weights is what comes out."""
    module = SelfAttention(num_heads=1, dropout=0.4)
    x = np.ones((SEQUENCES, 5, 2), np.float32)
    params = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32), jax.eval_shape(module.init, jax.random.key(0), x, None)
    )
    params["params"]["qkv"]["bias"][2] = 1
    params["params"]["out"]["kernel"][0] = np.eye(2)
    np.testing.assert_allclose(module.apply(params, x, None), 1, rtol=1e-6)
    found = np.asarray(module.apply(params, x, None, rngs={"dropout": jax.random.key(0)}))[..., 0]
    np.testing.assert_allclose(np.unique(found.round(4)), np.arange(6) / 5 / 0.6, atol=1e-4)
    assert abs(found.mean() - 1) < 0.02
