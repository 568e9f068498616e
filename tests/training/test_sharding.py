"""Where arrays go, and that it changes no number."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from tests.tiny import random_batch, tiny_task
from unloc_jax.config import MeshConfig
from unloc_jax.errors import UserError
from unloc_jax.tasks.evaluation import to_device
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import (
    MESH_AXES,
    STRATEGIES,
    batch_sharding,
    make_mesh,
    tree_shardings,
)
from unloc_jax.training.state import TrainState, abstract_params, init_state
from unloc_jax.training.step import make_loss, make_train_step

REPOSITORY = Path(__file__).parents[2]


def mesh_of(*sizes: int) -> AbstractMesh:
    return AbstractMesh(sizes, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


@pytest.fixture
def eight_devices(monkeypatch):
    """As far as the checks of a config go."""
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    monkeypatch.setattr(jax, "make_mesh", lambda *_, **__: None)


@pytest.mark.parametrize(
    ("change", "batch_size", "message"),
    [
        ({}, 12, r"config\.batch_size = 12 is not divisible by the data axis of 8 devices\. Use 8\."),
        ({}, 3, r"batch_size = 3 .* Use 8\."),
        (
            {"data": 3},
            9,
            r"data 3 × context 1 × model 1 does not fit 8 devices; let config\.mesh\.data be -1",
        ),
        ({"context": 3}, 8, r"does not fit 8 devices"),
        ({"data": 16}, 16, r"does not fit 8 devices"),
        ({"data": 0}, 8, r"does not fit 8 devices"),
        ({"data": -1, "context": -1}, 8, r"does not fit 8 devices"),
    ],
)
def test_meshes_that_do_not_fit(eight_devices, change, batch_size, message):
    with pytest.raises(UserError, match=message):
        make_mesh(MeshConfig(**change), batch_size)


def test_the_batch_size_at_fault_is_named(eight_devices):
    make_mesh(MeshConfig(), 16, "evaluation.batch_size")
    with pytest.raises(UserError, match=r"config\.evaluation\.batch_size = 12 is not divisible"):
        make_mesh(MeshConfig(), 12, "evaluation.batch_size")


def test_a_mesh_takes_the_devices_that_are_left():
    mesh = make_mesh(MeshConfig(), jax.device_count())
    assert dict(mesh.shape) == {"data": jax.device_count(), "context": 1, "model": 1}
    # The compiler propagates shardings; with the default, Explicit, linen's modules would have to.
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert batch_sharding(mesh).spec == PartitionSpec("data")


@pytest.fixture(scope="module")
def state_shapes():
    task = tiny_task()
    params = abstract_params(task)
    opt_state = jax.eval_shape(make_optimizer(task.config).init, params)
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32), params, opt_state)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (8, 1, 1), (2, 4, 1), (3, 1, 1)])
def test_every_array_has_a_place_that_fits(state_shapes, strategy, sizes):
    shardings = tree_shardings(state_shapes, mesh_of(*sizes), strategy)
    # shard_shape raises where an axis is not divisible.
    shards = jax.tree.map(lambda leaf, sharding: sharding.shard_shape(leaf.shape), state_shapes, shardings)
    parts = np.prod(sizes)
    embedding = shards.params["text_tower"]["token_embedding"]["embedding"]
    if strategy == "dp":
        assert jax.tree.map(lambda leaf: leaf.shape, state_shapes) == shards
    elif parts in (1, 8):
        assert embedding == (49408 // parts, 16)
    # The optimizer's moments lie with their parameters.
    for moment in ("mu", "nu"):
        assert optax.tree_utils.tree_get(shardings.opt_state, moment) == shardings.params


def test_fully_sharded_splits_the_largest_axis_that_can_be():
    specs = {
        (16, 64): PartitionSpec(None, ("data", "context")),
        (64, 16): PartitionSpec(("data", "context"), None),
        (3, 2, 64, 18): PartitionSpec(None, None, ("data", "context"), None),
        (99, 16): PartitionSpec(None, ("data", "context")),  # 99 is larger, but odd
        (99, 7): PartitionSpec(),
    }
    tree = {f"x{i}": {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)} for i, shape in enumerate(specs)}
    tree["other"] = {"bias": jax.ShapeDtypeStruct((64,), jnp.float32)}
    shardings = tree_shardings(tree, mesh_of(4, 2, 1), "fsdp")
    for i, spec in enumerate(specs.values()):
        assert shardings[f"x{i}"]["kernel"].spec == spec
    assert shardings["other"]["bias"].spec == PartitionSpec()


def train_one_step(strategy: str) -> dict[str, np.ndarray]:
    """Loss, gradient norm, parameters and first moments after one step on all devices, and shard sizes."""
    task = tiny_task(batch_size=8, mesh={"strategy": strategy}, train={"steps": 10, "learning_rate": 1e-2})
    mesh = make_mesh(task.config.mesh, task.config.batch_size)
    optimizer = make_optimizer(task.config)
    state = init_state({"task": task}, optimizer, mesh)
    shardings = tree_shardings(state, mesh, strategy)
    loss = make_loss({"task": task}, {"task": 1.0}, "train")
    step = make_train_step(loss, optimizer, mesh, shardings, seed=0)
    batch = to_device(random_batch(task.config, videos=8), batch_sharding(mesh))
    state, metrics = step(state, {"task": batch}, {})

    def flat(name, tree):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {name + jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}

    largest = state.params["text_tower"]["token_embedding"]["embedding"]
    return {
        **flat("metrics", metrics),
        **flat("params", state.params),
        **flat("gradient", optax.tree_utils.tree_get(state.opt_state, "mu")),
        "step": np.asarray(state.step),
        "devices": np.asarray(jax.device_count()),
        "shard": np.asarray(largest.addressable_shards[0].data.shape),
    }


def in_child(strategy: str, num_devices: int, out: Path) -> dict[str, np.ndarray]:
    program = (
        "import sys, numpy; from tests.training.test_sharding import train_one_step; "
        "numpy.savez(sys.argv[2], **train_one_step(sys.argv[1]))"
    )
    environment = os.environ | {
        # What is not optimised is compiled in half the time.
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices} --xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(REPOSITORY),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, strategy, str(out)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(out))


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    return in_child("dp", 1, tmp_path_factory.mktemp("one") / "step.npz")


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "shard"), [("dp", [49408, 16]), ("fsdp", [49408 // 8, 16])])
def test_eight_devices_train_like_one(on_one_device, tmp_path, strategy, shard):
    eight = in_child(strategy, 8, tmp_path / "step.npz")
    assert (on_one_device["devices"], eight["devices"], eight["step"]) == (1, 8, 1)
    assert eight["shard"].tolist() == shard
    assert_same_step(eight, on_one_device)


def assert_same_step(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        if name.startswith(("metrics", "gradient")):
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-7, err_msg=name)
        if name.startswith("params"):
            # Adam makes a full step even of a gradient that is only rounding error, such as that of keys' biases; the
            # moment compared with is a tenth of the gradient, Adam's epsilon is 1e-8.
            real = abs(expected[name.replace("params", "gradient", 1)]) > 1e-8
            np.testing.assert_allclose(found[name][real], value[real], atol=1e-5, err_msg=name)
