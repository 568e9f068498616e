"""Another processor, pretended: `pytest --perturb=1e-6` changes the last bits of what JAX computes.

Processors round sums and functions differently, and compilers order sums differently. A test that holds only for this
machine's last bits fails under the switch. The change is a function of the value alone (and a seed): equal results stay
equal, so what must agree bit for bit within a process still does.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax._src.interpreters import mlir  # rules of lowering can be replaced, but not read, in public

# Additions, products, quotients and roots of two numbers are the same on every processor (IEEE 754); these are not.
_PRIMITIVES = {
    "conv_general_dilated", "cos", "cumlogsumexp", "cumsum", "dot_general", "erf", "erf_inv", "exp", "exp2", "expm1",
    "log", "log1p", "logistic", "pow", "reduce_sum", "rsqrt", "sin", "tan", "tanh",
}  # fmt: skip
_EXACT_BITS = 10  # a number whose last bits are all zero, such as a count or a half, is exact everywhere


def perturb(relative: float, seed: int = 0) -> None:
    """Disturbs float32 results of all programs that JAX compiles in this process from now on.

    Args:
      relative: of the change, at most; rounded to a power of two ≥ 2^-23. A number keeps its sign and its exponent, so
        that values in [0, 1] stay there.
      seed: of the changes.
    """
    bits = max(1, round(math.log2(relative) + 23))
    change = mlir.lower_fun(functools.partial(_disturbed, bits=bits, seed=seed), multiple_results=False)

    def disturbing(rule: Any) -> Any:
        def lowering(ctx: mlir.LoweringRuleContext, *operands: Any, **params: Any) -> Any:
            results = rule(ctx, *operands, **params)
            (aval,) = ctx.avals_out
            if aval.dtype != jnp.float32:
                return results
            return change(ctx.replace(avals_in=[aval], tokens_out=None), *results)

        return lowering

    for rules in (mlir._lowerings, *mlir._platform_specific_lowerings.values()):
        for primitive, entry in list(rules.items()):
            if primitive.name in _PRIMITIVES:
                rules[primitive] = mlir.LoweringRuleEntry(disturbing(entry.rule), entry.inline)


def _disturbed(x: jax.Array, bits: int, seed: int) -> jax.Array:
    """Other last bits, drawn by a hash of the number."""
    number = jax.lax.bitcast_convert_type(x, jnp.uint32)
    drawn = (number ^ jnp.uint32(seed * 0x9E3779B9 % 2**32)) * jnp.uint32(0x85EBCA6B)
    drawn = (drawn >> 15) & jnp.uint32(2**bits - 1)
    exact = ((number & jnp.uint32(2**_EXACT_BITS - 1)) == 0) | ~jnp.isfinite(x)
    return jax.lax.bitcast_convert_type(jnp.where(exact, number, number ^ drawn), jnp.float32)
