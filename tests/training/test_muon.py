"""Muon against a singular value decomposition, and which parameters of the model are its matrices."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType

from tests.tiny import tiny_task
from unloc_jax.tasks.parameters import abstract_params
from unloc_jax.training.muon import matrices, scale_by_muon
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import MESH_AXES, tree_shardings
from unloc_jax.training.state import TrainState

# Of each iteration x → a·x + b·x³ + c·x⁵ of the singular values (Jordan et al. 2024).
QUINTIC = 3.4445, -4.775, 2.0315


def orthogonalized(matrix: np.ndarray) -> np.ndarray:
    """What five iterations make of the singular values, times 0.2 · √(longer side): an RMS of about 0.2."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.linalg.norm(matrix)
    for _ in range(5):
        values = sum(factor * values**power for factor, power in zip(QUINTIC, (1, 3, 5)))
    return 0.2 * np.sqrt(max(matrix.shape)) * left * values @ right


def first_update(name: str, gradient: np.ndarray) -> np.ndarray:
    *rooms, last = name.split("/")
    nest = lambda leaf: {"fusion": {"/".join(rooms): {last: leaf}}}
    rule = scale_by_muon(b2=0.98, weight_decay=0.0, decayed=None, momentum_dtype=jnp.float32)
    params = nest(np.zeros_like(gradient))
    updates, _ = rule.update(nest(gradient), rule.init(params), params)
    return np.asarray(updates["fusion"]["/".join(rooms)][last])


@pytest.mark.parametrize(
    ("name", "shape", "inputs"),
    [
        ("mlp_in/kernel", (12, 30), 12),
        ("layers/mlp_out/kernel", (3, 30, 12), 30),
        ("layers/attention/qkv/kernel", (2, 12, 3, 2, 5), 12),
        ("layers/attention/out/kernel", (2, 4, 5, 12), 20),
        ("stem/conv_0/kernel", (3, 3, 4, 10), 36),
        ("relevance/conv_1/kernel", (3, 8, 10), 24),
    ],
)
def test_an_update_is_the_orthogonalized_gradient(name, shape, inputs):
    """The momentum of the first step is the gradient; stacked layers are separate matrices."""
    gradient = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = first_update(name, gradient)
    layers = shape[0] if name.startswith("layers") else 1
    expected = np.stack([orthogonalized(of) for of in gradient.reshape(layers, inputs, -1)]).reshape(shape)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02)
    assert 0.1 < np.sqrt(np.mean(found**2)) < 0.3


def test_the_rest_is_adams():
    """The first step is equally large for all numbers; with Nesterov's momentum it is larger than Adam's."""
    gradient = np.array([3.0, -0.5, 0.01], np.float32)
    found = first_update("norm_out/scale", gradient)
    np.testing.assert_allclose(found, abs(found[0]) * np.sign(gradient), rtol=0.02)
    assert 1 <= found[0] < 1.6


PARAMS = abstract_params(tiny_task())


def names_of(tree, wanted) -> list[str]:
    leaves = jax.tree_util.tree_leaves_with_path(
        tree, is_leaf=lambda x: x is None or hasattr(x, "reduction_axis")
    )
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, x in leaves if wanted(x)]


def test_matrices_of_the_model():
    """All kernels but the heads' outputs, and no embedding."""
    chosen = names_of(matrices(PARAMS), lambda x: x is not None)
    others = names_of(matrices(PARAMS), lambda x: x is None)
    assert chosen and all(name.endswith("kernel") for name in chosen)
    assert {name for name in others if name.endswith("kernel")} == {
        name for name in others if re.search(r"(output|linear)/kernel$", name)
    }


def test_the_state_lies_with_its_parameters():
    task = tiny_task(optimizer={"name": "muon"}, model={"text": {"freeze": True}})
    params = abstract_params(task)
    state = jax.eval_shape(make_optimizer(task.config).init, params)
    mesh = AbstractMesh((2, 2, 2), MESH_AXES, axis_types=(AxisType.Auto,) * 3)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    shardings = tree_shardings(TrainState(step, params, state), mesh, "fsdp_tp")
    by_name = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.spec
        for path, leaf in jax.tree_util.tree_leaves_with_path(shardings)
    }
    moments = {name: spec for name, spec in by_name.items() if "/mu/" in name}
    trained = [name for name in by_name if name.startswith("params/") and "/text_tower/" not in name]
    assert len(moments) == len(trained)
    for name, spec in moments.items():
        assert spec == by_name["params/" + name.partition("/mu/")[2]]
