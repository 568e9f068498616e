"""Run by the tests in a separate process with 8 devices: prints numbers of compiled programs as JSON."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from tests.tiny import SOUND, tiny_config
from unloc_jax.aot.collectives import collectives
from unloc_jax.aot.hlo import Program
from unloc_jax.aot.report import cost
from unloc_jax.aot.step import abstract_batch, compile_step
from unloc_jax.aot.topology import devices_of
from unloc_jax.config import MeshConfig
from unloc_jax.model.layout import Layout
from unloc_jax.model.log_mel import log_mel
from unloc_jax.tasks import make_task
from unloc_jax.training.flops import train_step_flops
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import STRATEGY_RULES, make_mesh
from unloc_jax.training.state import abstract_state

CHANGES = {"batch_size": 8, "optimizer": {"name": "sgd"}, "model": {"remat": "full"}}


def num_bytes(tree) -> int:
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def of_a_step(devices) -> dict:
    config = tiny_config("temporal_action_localization", **CHANGES)
    compiled = compile_step(config, (config.task,), devices, {config.task: 3})
    found = cost(compiled, train_step_flops(config, 3), None)
    from tests.tiny import tiny_metadata

    tasks = {config.task: make_task(config, tiny_metadata())}
    one = jax.make_mesh((1, 1, 1), ("data", "context", "model"), devices=devices[:1])
    state = abstract_state(tasks, make_optimizer(config), one)
    assert found.memory is not None
    return {
        "arguments": found.memory.arguments,
        "donated": found.memory.donated,
        "temporaries": found.memory.temporaries,
        "peak": found.memory.peak,
        "state": num_bytes(state),
        "parameters": num_bytes(state.params),
        "batch": num_bytes(abstract_batch(config)),
        "executed": found.executed_flops / found.model_flops,
        "all-reduce": sum(one.array_bytes for one in found.collectives if one.kind == "all-reduce"),
        "mesh": dict(compiled.mesh),
    }


def of_a_loop(devices) -> list[dict]:
    """Sums over `data` 5 times what is split over it, and gathers once what `context` splits."""
    mesh = jax.make_mesh((4, 2), ("data", "context"), devices=devices)

    def looped(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        add = lambda carry, _: (carry + jax.lax.psum(x * carry[0], "data").sum(0), None)
        return jax.lax.scan(add, jnp.ones(16), length=5)[0], jax.lax.all_gather(y, "context", tiled=True)

    split = jax.shard_map(
        looped,
        mesh=mesh,
        in_specs=(PartitionSpec("data"), PartitionSpec("context")),
        out_specs=(PartitionSpec(), PartitionSpec()),
        check_vma=False,
    )
    place = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))
    x = jax.ShapeDtypeStruct((32, 16), jnp.float32, sharding=place("data"))
    y = jax.ShapeDtypeStruct((6, 10), jnp.int32, sharding=place("context"))
    program = Program(jax.jit(split).lower(x, y).compile().as_text())
    return [vars(one) for one in collectives(program, 8)]


def of_spectrograms(devices) -> list[dict]:
    """Those of 2 videos, 4 devices for each."""
    config = tiny_config(model=SOUND).model.audio
    mesh = make_mesh(MeshConfig(2, 4, 1), 2, devices=devices)
    layout = Layout(mesh, tuple(STRATEGY_RULES["dp"].activations.items()))
    place = NamedSharding(mesh, PartitionSpec("data", "context"))
    samples = jax.ShapeDtypeStruct((2, 8, config.window_samples), jnp.int16, sharding=place)
    compiled = jax.jit(lambda samples: log_mel(samples, config, layout)).lower(samples).compile()
    return [vars(one) for one in collectives(Program(compiled.as_text()), 8)]


if __name__ == "__main__":
    eight = devices_of("cpu:8")
    print(
        json.dumps(
            {"step": of_a_step(eight), "loop": of_a_loop(eight), "spectrograms": of_spectrograms(eight)}
        )
    )
