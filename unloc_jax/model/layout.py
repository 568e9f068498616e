"""Sharding of activations: model code names the axes of an array, and a `Layout` maps names to mesh axes.

Unknown names, rules for a mesh axis that does not exist and rules without a mesh raise an error. None of them would
change a number; every device would silently do all the work.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Names of axes that can be sharded. An axis without a name (None) is replicated.
NAMES = (
    "videos",
    "frames",  # in the image tower, and places in the tower of sound
    "windows",  # of all videos, in VideoPrism's tower
    "texts",  # of one video, in the fusion
    "all_texts",  # of a batch or a vocabulary, in the text tower
    "heads",
    "mlp",
)

# Leaves the sharding of an axis to the compiler.
ANY = PartitionSpec.UNCONSTRAINED
AxisName = Any  # a str of NAMES, None or ANY


@dataclasses.dataclass(frozen=True)
class Layout:
    """Maps named axes to mesh axes. Without a mesh nothing is sharded, but names are checked all the same.

    Attributes:
      mesh: The devices, with axes of type Auto.
      rules: (name, mesh axes that split it) for each of `NAMES`.
    """

    mesh: Mesh | None = None
    rules: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        if self.mesh is None:
            if self.rules:
                raise ValueError("rules without a mesh would place nothing")
            return
        if sorted(name for name, _ in self.rules) != sorted(NAMES):
            raise ValueError(f"rules are needed for exactly {NAMES}, got {self.rules}")
        unknown = {axis for _, axes in self.rules for axis in axes} - set(self.mesh.axis_names)
        if unknown:
            raise ValueError(f"the mesh {dict(self.mesh.shape)} has no axis {', '.join(sorted(unknown))}")

    def num_shards(self, name: str) -> int:
        """Returns the number of shards of an axis with this name."""
        return math.prod(self.mesh.shape[axis] for axis in self._axes(name)) if self.mesh else 1

    def padding(self, name: str, size: int) -> int:
        """Returns how many entries an axis must grow by to be split evenly; an axis of size 1 is never split."""
        return 0 if size == 1 else -size % self.num_shards(name)

    def constrain(self, x: jax.Array, *names: AxisName) -> jax.Array:
        """Constrains the sharding of x [...], of any shape and dtype, with one name per axis.

        An axis of size 1 is there for broadcasting and not split.

        Raises:
          KeyError: A name is not in `NAMES`.
          ValueError: The number of names is wrong, or an axis cannot be split evenly.
        """
        if len(names) != x.ndim:
            raise ValueError(f"{len(names)} names {names} for the shape {x.shape}")
        return self._place(x, [self._split(name, size) for name, size in zip(names, x.shape)])

    def constrain_rows(self, x: jax.Array, name: str) -> jax.Array:
        """Constrains the first axis of x [...] if it can be split evenly, and replicates the others."""
        if x.shape[0] % self.num_shards(name):
            return x
        return self.constrain(x, name, *[None] * (x.ndim - 1))

    def map_shards(self, function: Callable[[jax.Array], jax.Array], x: jax.Array, *names: str) -> jax.Array:
        """Applies a function to each device's part of x [...], whose first axes are called `names`.

        For functions of the rows of these axes, which the result must have too, that the compiler would not split by
        itself.
        """
        if self.mesh is None or self.mesh.size == 1:
            return function(x)
        spec = PartitionSpec(*(self._split(name, size) for name, size in zip(names, x.shape)))
        return jax.shard_map(function, mesh=self.mesh, in_specs=spec, out_specs=spec)(x)

    def merge(self, x: jax.Array, *names: str | None) -> jax.Array:
        """Merges the first two axes, called `names`: [A, B, ...] → [A·B, ...], for layers that see a stack of
        sequences.

        The order of the stack is chosen such that no data moves between devices. It depends on the mesh; only `split`
        undoes it.
        """
        (a, b), shards = x.shape[:2], self._shard_counts(names, x.shape)
        rest = x.shape[2:]
        if shards[1] > 1:
            x = x.reshape(shards[0], a // shards[0], shards[1], b // shards[1], *rest).swapaxes(1, 2)
        x = x.reshape(a * b, *rest)
        axes = tuple(axis for name, size in zip(names, (a, b)) for axis in self._split(name, size) or ())
        return self._place(x, [axes or None, *[ANY] * len(rest)])

    def split(self, x: jax.Array, sizes: tuple[int, int], *names: str | None) -> jax.Array:
        """Inverts `merge`: [A·B, ...] → [A, B, ...] with the two given sizes."""
        (a, b), shards, rest = sizes, self._shard_counts(names, sizes), x.shape[1:]
        if shards[1] > 1:
            x = x.reshape(shards[0], shards[1], a // shards[0], b // shards[1], *rest).swapaxes(1, 2)
        x = x.reshape(a, b, *rest)
        return self._place(x, [self._split(names[0], a), self._split(names[1], b), *[ANY] * len(rest)])

    def _axes(self, name: str) -> tuple[str, ...]:
        if name not in NAMES:
            raise KeyError(f"{name!r} is not the name of an axis; known are {', '.join(NAMES)}")
        return dict(self.rules).get(name, ())

    def _split(self, name: AxisName, size: int) -> AxisName:
        """Returns the mesh axes that split one axis: its entry in a PartitionSpec."""
        if name is None or name is ANY:
            return name
        axes = self._axes(str(name))
        if size == 1:
            return None
        if size % self.num_shards(str(name)):
            raise ValueError(f"{size} {name} cannot be split into {self.num_shards(str(name))} equal parts")
        return axes or None

    def _shard_counts(self, names: tuple[str | None, ...], sizes: tuple[int, ...]) -> list[int]:
        return [1 if name is None or size == 1 else self.num_shards(name) for name, size in zip(names, sizes)]

    def _place(self, x: jax.Array, entries: list[AxisName]) -> jax.Array:
        """Constrains the sharding of an array of any shape to the entries of a PartitionSpec."""
        if self.mesh is None or self.mesh.size == 1:
            return x
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, PartitionSpec(*entries)))


UNSHARDED = Layout()
"""No mesh: nothing is sharded."""
