"""Input that would make a metric silently wrong is refused with the row it is in."""

import numpy as np

from unloc_jax.errors import UserError


def refuse_rows(wrong: np.ndarray, values: np.ndarray, what: str) -> None:
    """UserError with `what`, the count and the first row of `values [rows, ...]` that is wrong anywhere.

    wrong: bool, of the shape of `values` or of its leading dimensions.
    """
    rows = np.unique(np.nonzero(wrong)[0])
    if len(rows):
        row = rows[0]
        raise UserError(
            f"{what} in {len(rows)} of {len(values)} rows, first in row {row}: {values[row].tolist()}"
        )
