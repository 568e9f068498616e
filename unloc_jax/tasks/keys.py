"""Random keys of a training step: every use has a name, so that no two of them can coincide.

JAX's `split` and `fold_in` give the same keys for the same small numbers, so a key that is used or split is never
folded any further.
"""

import enum

import jax


class Use(enum.IntEnum):
    """Names what a task draws in a step; the number is folded into the task's key."""

    COLORS = 0
    PROMPT = 1
    DROPOUT = 2
    SOUND = 3
    BACKGROUND = 4


def key_of(rng: jax.Array, use: Use, *, first_row: jax.Array | None = None) -> jax.Array:
    """Returns the key of one use, a typed random key [].

    Args:
      rng: typed random key [] of the task in this step.
      use: what is drawn.
      first_row: int32 scalar; of a part of a batch, the place of its first row in the whole batch. Parts draw apart.
    """
    key = jax.random.fold_in(rng, use)
    return key if first_row is None else jax.random.fold_in(key, first_row)
