"""Several processes on CPUs: all groups of devices that exchange numbers get to know each other at the start."""

import itertools

import jax
import jax.numpy as jnp
from jax._src import distributed
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

LONGEST_WAIT_S = 1800  # as long as XLA lets a collective of a group that is connected wait

_numbers = itertools.count()


def connect(mesh: Mesh) -> None:
    """Waits for the other processes, then lets every group of devices along axes of the mesh add up something.

    Gloo connects a group when it is used for the first time, and gives its members 30 s to come, which nothing changes:
    a process that still compiles or reads would end the run. Once connected they wait for each other for half an hour.

    Args:
      mesh: over the devices of all processes, which must all call this equally often.
    """
    if jax.process_count() == 1 or mesh.devices.flat[0].platform != "cpu":
        return
    client = distributed.global_state.client
    assert client is not None
    client.wait_at_barrier(f"unloc_connect_{next(_numbers)}", LONGEST_WAIT_S * 1000)
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
