"""The largest batch that fits into the devices' memory."""

import sys
from collections.abc import Callable, Mapping, Sequence

import jax

from unloc_jax.aot.report import Memory
from unloc_jax.aot.step import compile_step, with_batch_size
from unloc_jax.config import Config
from unloc_jax.errors import UserError
from unloc_jax.training.flops import Chip
from unloc_jax.training.sharding import make_mesh


def largest_batch(
    config: Config, devices: Sequence[jax.Device], classes: Mapping[str, int | None], chip: Chip | None
) -> int:
    """Videos per step over all devices, found by compiling; says on standard error what it tries.

    Raises:
      UserError: not even one video per group of devices fits, or how much fits is not known (a CPU).
    """
    if chip is None:
        raise UserError(f"--fit: the memory of {devices[0].device_kind} is not known; use a TPU's topology.")
    groups = make_mesh(config.mesh, 0, devices=devices).shape["data"]

    def fits(videos: int) -> bool:
        steps = compile_step(with_batch_size(config, videos * groups), devices, classes)
        totals = [step.program and Memory.of(step.program).total for step in steps]
        fit = all(total is not None and total <= chip.memory_bytes for total in totals)
        print(f"batch {videos * groups}: {'fits' if fit else 'does not fit'}", file=sys.stderr, flush=True)
        return fit

    videos = largest(fits)
    if not videos:
        raise UserError(
            f"--fit: not even {groups} videos fit; raise config.mesh.context, or lower config.model.text_chunk."
        )
    return videos * groups


def largest(fits: Callable[[int], bool]) -> int:
    """The largest number ≥ 1 for which `fits` is true, 0 if there is none; what fits, fits with less."""
    high = 1
    while fits(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
