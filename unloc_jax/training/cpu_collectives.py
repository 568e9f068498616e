"""Connects all groups of CPU devices that will communicate, at the start of a run with several processes."""

import itertools

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from unloc_jax.coordination import wait_for_all

LONGEST_WAIT_S = 1800  # how long XLA lets a collective wait once its group is connected

_numbers = itertools.count()


def connect(mesh: Mesh) -> None:
    """Waits for the other processes, then runs one sum over every group of devices along axes of the mesh.

    Gloo connects a group on first use and gives its members a fixed 30 s to arrive, so a process that is still
    compiling or reading would end the run. Once connected, they wait for each other for half an hour.

    Args:
      mesh: Over the devices of all processes. All processes must call this equally often.
    """
    if jax.process_count() == 1 or mesh.devices.flat[0].platform != "cpu":
        return
    wait_for_all(f"unloc_connect_{next(_numbers)}", LONGEST_WAIT_S)
    axes = [axis for axis, size in mesh.shape.items() if size > 1]
    for count in range(1, len(axes) + 1):
        for along in itertools.combinations(axes, count):
            add = jax.shard_map(
                lambda along=along: jax.lax.psum(jnp.ones(()), along),
                mesh=mesh,
                in_specs=(),
                out_specs=PartitionSpec(),
            )
            jax.block_until_ready(jax.jit(add)())
    multihost_utils.sync_global_devices("unloc_connect")  # the groups of process_allgather
