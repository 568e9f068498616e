"""Counts the FLOPs that a program executes, including recomputation, unlike those that the mathematics needs."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr


def product_flops(jaxpr: Any) -> float:
    """Returns the FLOPs of all matrix products and convolutions in a jaxpr; those in loops count once per iteration."""
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            inner = math.prod([left[axis] for axis in contracted])
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * inner
        elif name == "conv_general_dilated":
            kernel, numbers = equation.invars[1].aval.shape, params["dimension_numbers"]
            taps = math.prod(kernel) / kernel[numbers.rhs_spec[0]]
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * taps
        iterations = params["length"] if name == "scan" else 1
        for called in _jaxprs_in(params):
            total += iterations * product_flops(called)
    return total


def _jaxprs_in(params: Mapping[str, Any]) -> Iterator[Jaxpr]:
    """Yields the programs that an equation calls: the bodies of loops, branches, functions."""
    for value in params.values():
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, Jaxpr):
                yield each
