"""Arrays are sharded as the tables say, and sharding changes no number."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from tests.tiny import SOUND, VIDEOPRISM, tiny_task
from unloc_jax.config import MeshConfig
from unloc_jax.errors import UserError
from unloc_jax.processes import share_of_batch
from unloc_jax.tasks.parameters import abstract_params
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import (
    MESH_AXES,
    STRATEGY_RULES,
    axes_of_parameter,
    batch_sharding,
    lay_out,
    make_mesh,
    tree_shardings,
)
from unloc_jax.training.state import TrainState

REPOSITORY = Path(__file__).parents[2]


def mesh_of(*sizes: int) -> AbstractMesh:
    return AbstractMesh(sizes, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


@dataclasses.dataclass(frozen=True)
class Device:
    process_index: int
    id: int


@pytest.fixture
def eight_devices(monkeypatch):
    """As far as the checks of a config go; two in each of four processes."""
    devices = [Device(number // 2, number) for number in range(8)]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    monkeypatch.setattr("unloc_jax.training.sharding.Mesh", lambda devices, *_, **__: devices)
    return devices


@pytest.mark.parametrize(
    ("change", "batch_size", "message"),
    [
        ({}, 12, r"config\.batch_size = 12 is not divisible by the data axis of 8 devices\. Use 8, or put"),
        ({}, 3, r"batch_size = 3 .* Use 8, or put devices on config\.mesh\.context \(8 × 1 now\)"),
        (
            {"data": 3},
            9,
            r"data 3 × context 1 × model 1 does not fit 8 devices; let config\.mesh\.data be -1",
        ),
        ({"context": 3}, 8, r"does not fit 8 devices"),
        ({"data": 16}, 16, r"does not fit 8 devices"),
        ({"data": 0}, 8, r"does not fit 8 devices"),
        ({"data": -1, "context": -1}, 8, r"does not fit 8 devices"),
        (
            {"model": 2},
            8,
            r"model = 2: with config\.mesh\.strategy = 'dp' these devices .* Use tp or fsdp_tp",
        ),
    ],
)
def test_meshes_that_do_not_fit(eight_devices, change, batch_size, message):
    with pytest.raises(UserError, match=message):
        make_mesh(MeshConfig(**change), batch_size)


def test_the_batch_size_at_fault_is_named(eight_devices):
    make_mesh(MeshConfig(), 16, "evaluation.batch_size")
    make_mesh(MeshConfig(context=4), 2)
    with pytest.raises(UserError, match=r"config\.evaluation\.batch_size = 12 is not divisible"):
        make_mesh(MeshConfig(), 12, "evaluation.batch_size")


def test_devices_of_a_process_have_neighbouring_rows(eight_devices, monkeypatch):
    """Cables may run otherwise, but each process reads a block of a batch's rows."""
    eight_devices.sort(key=lambda device: device.id % 3)
    mesh = make_mesh(MeshConfig(data=4, context=2), 8)
    assert [[device.process_index for device in row[:, 0]] for row in mesh] == [
        [0, 0],
        [1, 1],
        [2, 2],
        [3, 3],
    ]
    # With two rows, processes 0 and 1 read the first one.
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    shares = {}
    for process in range(4):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        shares[process] = [share_of_batch(data) for data in (1, 2, 4, 8)]
    assert shares[0] == [(0, 1), (0, 2), (0, 4), (0, 4)] and shares[1] == [(0, 1), (0, 2), (1, 4), (1, 4)]
    assert shares[2] == [(0, 1), (1, 2), (2, 4), (2, 4)] and shares[3] == [(0, 1), (1, 2), (3, 4), (3, 4)]
    monkeypatch.setattr(jax, "devices", lambda: [Device(number // 2, number) for number in range(12)])
    with pytest.raises(UserError, match=r"data = 4 neither divides nor is a multiple of the 6 processes"):
        make_mesh(MeshConfig(data=4, context=3), 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"num_frames": 10}}, r"num_frames = 10 .* config\.mesh\.context = 4\. Use 8 or 12\."),
        (
            {"model": VIDEOPRISM},
            r"num_frames = 8 makes 2 windows of 4 frames, not a multiple of config\.mesh\.context",
        ),
        ({"data": {"num_frames": 3}}, r"num_frames = 3 .* config\.mesh\.context = 4\. Use 4\."),
        ({"model": {"text": {"num_heads": 1}}}, r"text\.num_heads = 1 .* config\.mesh\.model = 2\."),
        ({"model": {"fusion": {"mlp_dim": 31}}}, r"fusion\.mlp_dim = 31 .* config\.mesh\.model = 2\."),
        (
            {"accumulate": 2},
            r"batch_size = 2 .* data axis of 2 devices times config\.accumulate = 2\. Use 4\.",
        ),
    ],
)
def test_what_a_mesh_does_not_divide(change, message):
    with pytest.raises(UserError, match=message):
        lay_out(tiny_task(**change, mesh={"strategy": "tp"}), mesh_of(2, 4, 2))


def test_a_mesh_takes_the_devices_that_are_left():
    mesh = make_mesh(MeshConfig(), jax.device_count())
    assert dict(mesh.shape) == {"data": jax.device_count(), "context": 1, "model": 1}
    # The compiler propagates shardings; with the default, Explicit, linen's modules would have to.
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert batch_sharding(mesh).spec == PartitionSpec("data")


# What no config has, but a user may.
RARE = {
    "sound": SOUND,
    "videoprism": VIDEOPRISM,
    "videoprism_without_texts": {
        **VIDEOPRISM,
        "text": {},
        "videoprism": {"pooling": "mean", "patch_size": 8},
    },
    "heads_of_levels": {"head": {"shared_levels": False}},
    "strided_conv": {"fusion": {"num_layers": 2}, "pyramid": {"type": "fpn", "downsampling": "strided_conv"}},
    "features": {
        "modalities": {
            "flow": {"encoder": "features", "feature_dim": 12, "projection_width": 8, "norm": True}
        },
        "video_projection_bias": True,
        "fusion": {"positions": "learned"},
    },
}


@pytest.mark.parametrize("rare", RARE)
def test_every_parameter_has_a_rule(rare):
    """Those of the configs: tests/config/test_configs.py."""
    task = tiny_task(model={**RARE[rare], "pyramid": {"num_levels": 2, **RARE[rare].get("pyramid", {})}})
    for strategy in STRATEGY_RULES:
        tree_shardings(abstract_params(task), mesh_of(2, 2, 2), strategy)


def test_a_parameter_without_a_rule_is_an_error():
    with pytest.raises(LookupError, match=r"fusion/other/kernel: there is no rule for .* PARAMETER_AXES"):
        axes_of_parameter("fusion/other/kernel")
    # The end of a name is a whole part of it.
    with pytest.raises(LookupError):
        axes_of_parameter("fusion/my_logit_scale")


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_optimizers_state_lies_with_its_parameters(optimizer):
    task = tiny_task(optimizer={"name": optimizer}, model={"text": {"freeze": True}})
    params = abstract_params(task)
    opt_state = jax.eval_shape(make_optimizer(task.config).init, params)
    state = TrainState(jax.ShapeDtypeStruct((), jnp.int32), params, opt_state)
    shardings = tree_shardings(state, mesh_of(2, 2, 2), "fsdp_tp")
    kernel = lambda tree: tree["fusion"]["encoder"]["transformer"]["layers"]["mlp_in"]["kernel"]
    for moment in ("mu", "nu") if optimizer == "adamw" else ("trace",):
        found = optax.tree_utils.tree_get(shardings.opt_state, moment)
        assert kernel(found) == kernel(shardings.params)
    assert kernel(shardings.params).spec == PartitionSpec(None, ("data", "context"), "model")


def test_which_axis_is_split():
    """Never the layers, of which there are 8; context alone gives way where the width is too odd for all."""
    shapes = {
        "attention/qkv/kernel": (8, 24, 3, 4, 6),
        "attention/out/kernel": (8, 4, 6, 24),
        "mlp_out/kernel": (8, 96, 20),
        "token_embedding/embedding": (49408, 24),
        "norm_out/scale": (24,),
    }
    expected = {
        "dp": [(), (), (), (), ()],
        "fsdp": [
            (None, ("data", "context"), None, None, None),
            (None, None, None, ("data", "context")),
            (None, None, "data"),
            (None, ("data", "context")),
            (),
        ],
        "tp": [(None, None, None, "model"), (None, "model"), (None, "model"), ("model",), ()],
    }
    tree = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    for strategy, specs in expected.items():
        found = tree_shardings(tree, mesh_of(4, 2, 2), strategy)
        for name, spec in zip(shapes, specs):
            rank = len(shapes[name])
            assert tuple(found[name].spec) == spec + (None,) * (rank - len(spec)), (strategy, name)


def test_a_large_array_that_cannot_be_split_is_refused():
    tree = {"mlp_in": {"kernel": jax.ShapeDtypeStruct((12, 512, 2048), jnp.float32)}}
    with pytest.raises(
        UserError, match=r"mlp_in/kernel \(12, 512, 2048\): data 3 × context 1 does not divide 512"
    ):
        tree_shardings(tree, mesh_of(3, 1, 1), "fsdp")
    tree_shardings(tree, mesh_of(3, 1, 1), "dp")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Results of tests/training/parallel_cases.py, by case."""
    file = tmp_path_factory.mktemp("cases") / "out.json"
    program = [sys.executable, "-m", "tests.training.parallel_cases", str(file)]
    done = subprocess.run(
        program, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


@pytest.mark.slow
def test_eight_devices_train_like_one(cases):
    """Metrics, gradients and parameters after a step: every task, strategy and axis; with parts of batches, too."""
    assert {case["case"][3] for case in cases} == set(STRATEGY_RULES)
    for case in cases:
        assert case["error"] < 1e-5, case
        assert all(value > 0 for value in case["loss"].values()) and case["loss"]


@pytest.mark.slow
def test_devices_share_the_activations(cases):
    """Of two videos, four devices each have a part of the frames and texts, by their memory."""
    (shared,) = [case for case in cases if case["case"][0] == "many_frames"]
    assert shared["temporaries"] < 0.5 * shared["temporaries_of_one"]
