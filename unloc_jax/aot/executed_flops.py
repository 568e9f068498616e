"""What a program really computes, as opposed to what the mathematics needs: recomputation counts."""

import math
from typing import Any

from jax.extend.core import jaxprs_in_params


def product_flops(jaxpr: Any) -> float:
    """FLOPs of all products of matrices and convolutions in a jaxpr, loops counted as often as they turn."""
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
        turns = params["length"] if name == "scan" else 1
        for called in jaxprs_in_params(params):
            total += turns * product_flops(called)
    return total
