"""Sentences on the parts of the ground truth where a method does badly."""

from collections.abc import Sequence

import numpy as np

from unloc_jax.metrics.diagnosis.bins import Bins
from unloc_jax.metrics.diagnosis.comparison import Difference, difference

_MOST_READINGS = 2


def bin_readings(
    bins: Bins, success: np.ndarray, video: np.ndarray, things: str, verb: str, extra: Sequence[str] = ()
) -> list[str]:
    """Describes the loss in bins that do worse than the rest, beyond chance; the worst first, at most two.

    Args:
      bins: n items in bins.
      success: bool [n], of each item.
      video: int [n], the video of each item.
      things: name of the items, such as "segments".
      verb: such as "are found".
      extra: per bin that is not empty, further numbers.
    """
    members = bins.members()
    worse: list[tuple[Difference, int]] = []
    for i, (_, inside) in enumerate(members):
        found = difference(success, inside, video)
        if found and found.points < 0:
            worse.append((found, i))
    texts = []
    for found, i in sorted(worse)[:_MOST_READINGS]:
        label, inside = members[i]
        text = (
            f"{things.capitalize()} with {bins.short_name} {label} ({inside.sum()} of {(bins.index >= 0).sum()}) lose"
            f" {-found.points:.1f} points against the others: {100 * found.inside:.1f} % {verb},"
            f" {100 * found.outside:.1f} % of the others"
        )
        texts.append(text + (f"; {extra[i]}" if extra else "") + ".")
    return texts
