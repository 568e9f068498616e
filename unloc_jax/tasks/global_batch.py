"""The global batch of a step, for losses that are computed part by part."""

import flax.struct
import jax

from unloc_jax.batch import Batch
from unloc_jax.tasks.keys import Use, key_of


@flax.struct.dataclass
class GlobalBatch:
    """Holds the global batch that the rows of a loss belong to. Summed over its parts, the loss is that of all of it.

    batch: all rows, without frames and features.
    rows: int32 [b], where the loss's rows are among them.
    normalizers: what sums are divided by, over all rows (see `Task.normalizers`).
    """

    batch: Batch
    rows: jax.Array
    normalizers: dict[str, jax.Array]


def dropout_rng(rng: jax.Array, global_batch: GlobalBatch | None) -> jax.Array:
    """Returns the key for dropout, a typed random key []: another one for each part if a batch is split in parts."""
    return key_of(rng, Use.DROPOUT, first_row=None if global_batch is None else global_batch.rows[0])
