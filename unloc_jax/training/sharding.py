"""Which array goes where: one table per strategy, and the mesh it refers to.

Mesh axes: `data` splits videos, `context` frames and texts, `model` the wide matrices. `jax.jit` with shardings
is what used to be called pjit.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from unloc_jax.config import MeshConfig
from unloc_jax.errors import UserError

MESH_AXES = ("data", "context", "model")

# strategy → [(pattern of the parameter's path, how its last axes are split)]; the first match wins.
STRATEGIES: dict[str, list[tuple[str, PartitionSpec]]] = {
    # Data parallel: every device has all parameters.
    "dp": [(r".*", PartitionSpec())],
    # Fully sharded: matrices are split along their largest axis over data × context.
    "fsdp": [
        (r".*(embedding|kernel)$", PartitionSpec(("data", "context"))),
        (r".*", PartitionSpec()),
    ],
}


def make_mesh(
    config: MeshConfig,
    batch_size: int,
    setting: str = "batch_size",
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """The mesh of a config over `devices` (None = all), for batches of `batch_size` videos (`setting` in errors).

    Raises:
      UserError: axes that do not multiply to the number of devices, or a batch that `data` does not divide.
    """
    count = len(devices) if devices is not None else jax.device_count()
    sizes = [config.data, config.context, config.model]
    known = int(np.prod([size for size in sizes if size > 0]))
    sizes = [count // known if size == -1 else size for size in sizes]
    if int(np.prod(sizes)) != count or min(sizes) < 1:
        raise UserError(
            f"config.mesh = data {config.data} × context {config.context} × model {config.model} does not fit "
            f"{count} devices; let config.mesh.data be -1 to take what is left."
        )
    if batch_size % sizes[0]:
        raise UserError(
            f"config.{setting} = {batch_size} is not divisible by the data axis of {sizes[0]} devices. "
            f"Use {max(batch_size // sizes[0], 1) * sizes[0]}."
        )
    # Auto axes: the compiler propagates shardings; make_mesh's default (Explicit) would make it our job.
    return jax.make_mesh(tuple(sizes), MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Batches are split by video."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def tree_shardings(tree: Any, mesh: Mesh, strategy: str) -> Any:
    """A NamedSharding for every leaf of a tree of arrays or shapes, from the strategy's table."""

    def of_leaf(path: tuple, leaf: Any) -> NamedSharding:
        name = "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)
        spec = next(spec for pattern, spec in STRATEGIES[strategy] if re.fullmatch(pattern, name))
        return NamedSharding(mesh, _place(spec, leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(of_leaf, tree)


def _place(spec: PartitionSpec, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """Puts a one-entry spec on the largest axis that the mesh divides; nothing to divide → replicated."""
    if not spec or not shape:
        return PartitionSpec()
    parts = int(np.prod([mesh.shape[axis] for axis in spec[0]]))
    axis = int(np.argmax([size if size % parts == 0 else -1 for size in shape]))
    if shape[axis] % parts:
        return PartitionSpec()
    return PartitionSpec(*[spec[0] if i == axis else None for i in range(len(shape))])
