"""Bounds in a setting's type, beyond `int` and `float`; choices are `typing.Literal`."""

import dataclasses
import math
from typing import Annotated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bounds of a number, in `typing.Annotated`; a number without them is at least 0 and finite."""

    at_least: float = 0
    at_most: float = math.inf
    below: float = math.inf
    open_end: bool = False
    """It may be infinite."""


Positive = Annotated[int, Bounds(at_least=1)]
Fraction = Annotated[float, Bounds(below=1)]
Share = Annotated[float, Bounds(at_most=1)]
Signed = Annotated[float, Bounds(at_least=-math.inf)]
OpenEnd = Annotated[float, Bounds(open_end=True)]
