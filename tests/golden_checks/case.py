"""One case of a pure golden: arguments and inputs of a function of the reference, and what came out of it."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np


class Checked(NamedTuple):
    """The largest difference of a case, and what a reader must know about it."""

    difference: float
    notes: tuple[str, ...] = ()


class Outputs(dict[str, np.ndarray]):
    """Remembers what was read, so that no output of a golden stays unchecked."""

    def __init__(self, values: dict[str, np.ndarray]):
        super().__init__(values)
        self.unseen = set(values)

    def __getitem__(self, key: str) -> np.ndarray:
        self.unseen.discard(key)
        return super().__getitem__(key)


@dataclasses.dataclass(frozen=True)
class Case:
    """name: of the case; arguments: its scalars; inputs, outputs: its arrays."""

    name: str
    arguments: dict[str, Any]
    inputs: dict[str, np.ndarray]
    outputs: Outputs

    def refuse_other_arguments(self, known: Iterable[str]) -> None:
        """ValueError for an argument that the check does not know: ignoring it would compare something else."""
        unknown = sorted(self.arguments.keys() - set(known))
        if unknown:
            raise ValueError(
                f"the check does not know the argument {unknown[0]} = {self.arguments[unknown[0]]!r}"
            )


def cases_of(arrays: dict[str, np.ndarray], arguments: dict[str, dict[str, Any]]) -> Iterator[Case]:
    """The cases of a file whose arrays are CASE/in/NAME and CASE/out/NAME."""
    fields: dict[str, dict[str, dict[str, np.ndarray]]] = {name: {"in": {}, "out": {}} for name in arguments}
    for key, value in arrays.items():
        name, side, field = key.split("/", 2)
        fields.setdefault(name, {"in": {}, "out": {}})[side][field] = value
    for name, sides in fields.items():
        yield Case(name, arguments.get(name, {}), sides["in"], Outputs(sides["out"]))


def difference(ours: Any, theirs: Any, unit: float = 1.0) -> float:
    """The largest |ours - theirs|, as a share of the value where that exceeds `unit`; infinite where one is NaN.

    Raises:
      ValueError: other shapes.
    """
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"shape {ours.shape} instead of {theirs.shape}")
    if not ours.size:
        return 0.0
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        apart = np.abs(ours - theirs) / np.maximum(np.abs(theirs), unit)
    return float(np.where(same, 0.0, np.where(np.isfinite(apart), apart, np.inf)).max())
