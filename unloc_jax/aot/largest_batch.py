"""Finds the largest batch that fits into the devices' memory."""

import math
import sys
from collections.abc import Callable, Mapping

from unloc_jax.aot.memory_assignment import most_assigned
from unloc_jax.aot.step import with_batch_size
from unloc_jax.config import Config
from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.training.flops import Chip


def largest_batch(
    config: Config, topology: str, classes: Mapping[str, int | None], chip: Chip, groups: int
) -> int:
    """Returns the largest number of videos per step over all devices, found by compiling; reports attempts on stderr.

    Args:
      config, topology, classes: See `most_assigned`.
      chip: Of the topology.
      groups: Number of groups of devices; the devices of a group share each video.

    Raises:
      UserError: Not even one video per group of devices fits.
    """

    def needed(videos: int) -> float | None:
        found = most_assigned(with_batch_size(config, videos * groups), topology, classes)
        size = None if isinstance(found, str) else found.total
        outcome = "refused" if size is None else f"{size / 1e9:.2f} GB of {chip.memory_bytes / 1e9:.2f}"
        show(f"batch {videos * groups}: {outcome}", file=sys.stderr)
        return size

    videos = largest(needed, chip.memory_bytes)
    if not videos:
        raise UserError(
            f"--fit: not even {groups} videos fit; raise config.mesh.context, or lower config.model.text_chunk."
        )
    return videos * groups


def largest(needed: Callable[[int], float | None], limit: float) -> int:
    """Returns the largest number ≥ 1 whose need does not exceed `limit`, or 0 if there is none.

    Every evaluation costs a compilation, so guesses extrapolate linearly from the last two results.

    Args:
      needed: Maps a number to its need, which increases; None = too large to be known.
      limit: Of the need.
    """
    low, high, known, refused = 0, math.inf, list[tuple[int, float]](), False
    while high - low > 1:
        guess = (low + int(high)) // 2 if refused else _on_the_line(known, limit)
        number = int(min(max(guess, low + 1), high - 1))
        size = needed(number)
        refused = size is None
        if size is not None:
            known.append((number, size))
        if size is not None and size <= limit:
            low = number
        else:
            high = number
    return low


def _on_the_line(known: list[tuple[int, float]], limit: float) -> int:
    """Extrapolates the last two (number, size) linearly to the limit, by at most a factor of eight."""
    if len(known) < 2:
        return 1 + len(known)
    (first, first_size), (last, last_size) = sorted(known[-2:])
    slope = (last_size - first_size) / (last - first)
    return 8 * last if slope <= 0 else min(8 * last, int(last + (limit - last_size) / slope))
