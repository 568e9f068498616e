"""Finds devices by name: "v5e:4x4" is a TPU slice that need not be attached, "cpu:8" eight devices of this CPU."""

import contextlib
import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any

import jax

from unloc_jax.errors import UserError

# Answers to what libtpu would ask a TPU machine, so that it looks neither for one nor for other users of it.
_WITHOUT_A_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_MIN_LOG_LEVEL": "3",
}


def devices_of(topology: str) -> Sequence[jax.Device]:
    """Returns the devices of a topology; programs can be compiled for a TPU's but not run on them.

    Must be called before JAX is used, because it restricts JAX to the CPU, of which "cpu:N" takes N devices.

    Args:
      topology: "KIND:SHAPE" as Google writes them, such as v5e:4x4, v5p:2x4x4 or v6e:8x8; or "cpu:N".

    Raises:
      UserError: The topology does not exist, or libtpu is missing.
    """
    kind, _, shape = topology.partition(":")
    jax.config.update("jax_platforms", "cpu")
    if kind == "cpu" and re.fullmatch(r"[1-9]\d*", shape):
        return _of_cpu(int(shape))
    if not re.fullmatch(r"v\d\w*", kind) or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise UserError(f"--topology={topology}: write such as v5e:4x4, v5p:2x4x4 or cpu:8.")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"--topology={topology}: the TPU compiler is missing: pip install 'unloc_jax[tpu]' (a TPU is not needed)."
        )
    return _of_tpu(topology, kind, shape)


def _of_cpu(count: int) -> Sequence[jax.Device]:
    with contextlib.suppress(RuntimeError):  # JAX is already running
        jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices()
    if len(devices) < count:
        raise UserError(f"--topology=cpu:{count}: JAX is running with {len(devices)} devices; restart it.")
    return devices[:count]


def _of_tpu(topology: str, kind: str, shape: str) -> Sequence[Any]:
    from jax.experimental import topologies

    for name, value in _WITHOUT_A_TPU.items():
        os.environ.setdefault(name, value)
    sizes = [int(size) for size in shape.split("x")]
    settings = {}
    if max(sizes) == 1:  # one chip of a host that has more
        settings = {"chips_per_host_bounds": [1, 1, 1]}
    try:
        found = topologies.get_topology_desc(topology, "tpu", **settings)
    except Exception as error:  # libtpu documents no exceptions
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"--topology={topology}: the TPU compiler does not know it ({reason}).") from error
    devices: Any = found.devices
    if kind == "v4":  # XLA uses its two cores as one
        devices = [device for device in devices if device.core_on_chip == 0]
    return devices
