"""How activations are spread over devices, by the names of their axes. Model code names axes; a `Layout` places them.

A name that no rule knows, a rule for a mesh axis that does not exist and rules without a mesh raise an error: none of
them would change a number, only every device would quietly do all the work.
"""

import dataclasses
import math
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Of axes that are split. An axis without a name (None) is whole on every device.
NAMES = (
    "videos",
    "frames",  # in the image tower
    "texts",  # of a video, in fusion
    "all_texts",  # of a batch or a vocabulary, in the text tower
    "heads",
    "mlp",
)

# An axis that stays as it comes.
ANY = PartitionSpec.UNCONSTRAINED
AxisName = Any  # a str of NAMES, None or ANY


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where named axes go. Without a mesh everything is in one place, but names are checked all the same.

    Attributes:
      mesh: the devices, with axes of type Auto.
      rules: (name, mesh axes that split it) for each of NAMES.
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

    def parts(self, name: str) -> int:
        """Into how many parts an axis of this name is split."""
        return math.prod(self.mesh.shape[axis] for axis in self._axes(name)) if self.mesh else 1

    def padding(self, name: str, size: int) -> int:
        """By how many entries an axis of this name has to grow to be split evenly; one entry is never split."""
        return 0 if size == 1 else -size % self.parts(name)

    def constrain(self, x: jax.Array, *names: AxisName) -> jax.Array:
        """Places x, one name per axis; an axis of size 1, which is there to be broadcast, is not split.

        Raises:
          KeyError: a name that is none of NAMES.
          ValueError: too few or too many names, or an axis that cannot be split evenly.
        """
        if len(names) != x.ndim:
            raise ValueError(f"{len(names)} names {names} for the shape {x.shape}")
        return self._place(x, [self._split(name, size) for name, size in zip(names, x.shape)])

    def merge(self, x: jax.Array, *names: str | None) -> jax.Array:
        """[A, B, …] → [A·B, …], for layers that see a stack of sequences; `names` of the two axes.

        The order of the stack is such that nothing moves between devices: it depends on the mesh, and only `split`
        knows it.
        """
        (a, b), parts = x.shape[:2], self._split_sizes(names, x.shape)
        rest = x.shape[2:]
        if parts[1] > 1:
            x = x.reshape(parts[0], a // parts[0], parts[1], b // parts[1], *rest).swapaxes(1, 2)
        x = x.reshape(a * b, *rest)
        axes = tuple(axis for name, size in zip(names, (a, b)) for axis in self._split(name, size) or ())
        return self._place(x, [axes or None, *[ANY] * len(rest)])

    def split(self, x: jax.Array, sizes: tuple[int, int], *names: str | None) -> jax.Array:
        """Inverse of `merge`: [A·B, …] → [A, B, …] of the given two sizes."""
        (a, b), parts, rest = sizes, self._split_sizes(names, sizes), x.shape[1:]
        if parts[1] > 1:
            x = x.reshape(parts[0], parts[1], a // parts[0], b // parts[1], *rest).swapaxes(1, 2)
        x = x.reshape(a, b, *rest)
        return self._place(x, [self._split(names[0], a), self._split(names[1], b), *[ANY] * len(rest)])

    def _axes(self, name: str) -> tuple[str, ...]:
        if name not in NAMES:
            raise KeyError(f"{name!r} is no name of an axis; known are {', '.join(NAMES)}")
        return dict(self.rules).get(name, ())

    def _split(self, name: AxisName, size: int) -> AxisName:
        """The mesh axes that split one axis: the entry of a PartitionSpec."""
        if name is None or name is ANY:
            return name
        axes = self._axes(str(name))
        if size == 1:
            return None
        if size % self.parts(str(name)):
            raise ValueError(f"{size} {name} cannot be split into {self.parts(str(name))} equal parts")
        return axes or None

    def _split_sizes(self, names: tuple[str | None, ...], sizes: tuple[int, ...]) -> list[int]:
        return [1 if name is None or size == 1 else self.parts(name) for name, size in zip(names, sizes)]

    def _place(self, x: jax.Array, entries: list[AxisName]) -> jax.Array:
        if self.mesh is None or self.mesh.size == 1:
            return x
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, PartitionSpec(*entries)))


ONE_PLACE = Layout()
"""No mesh: one device computes everything."""
