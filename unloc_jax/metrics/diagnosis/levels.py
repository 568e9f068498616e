"""Which pyramid level is responsible for which ground-truth segment."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unloc_jax.errors import UserError

if TYPE_CHECKING:
    from unloc_jax.localization.geometry import PyramidGeometry

_BLOCK = 1 << 12  # segments at a time, so that memory does not grow with all of them


@dataclasses.dataclass(frozen=True)
class Pyramid:
    """What a model looks at.

    Attributes:
      geometry: its points.
      radius: of centre sampling, in strides; None = all points in a segment.
      step_s: seconds from a frame to the next of a model that sees windows; None = T frames spread over the video.
    """

    geometry: "PyramidGeometry"
    radius: float | None
    step_s: float | None

    def steps_s(self, duration_s: np.ndarray) -> np.ndarray:
        """Float64 [n]: seconds per grid unit in videos of `duration_s [n]`."""
        if self.step_s is not None:
            return np.full(len(duration_s), self.step_s)
        return duration_s / (self.geometry.num_frames - 1)


def read_pyramid(checkpoint: Path, task: str | None = None) -> Pyramid:
    """Of a checkpoint (a workdir or one of its steps).

    UserError: no checkpoint; a task that it does not have; a model that localises nothing.
    """
    from unloc_jax.training.checkpoints.reading import find_checkpoint, load_checkpoint  # imports JAX

    whole, facts = load_checkpoint(find_checkpoint(checkpoint))
    configs = whole.task_configs
    name = task or next(iter(configs))
    if name not in configs:
        raise UserError(f"--task={name}: the checkpoint has {', '.join(configs)}")
    config = configs[name]
    if config.model.pyramid.type == "none":
        raise UserError(f"{checkpoint}: its model has no pyramid")
    step_s = config.data.window_stride / facts[name].fps if config.data.windowed else None
    return Pyramid(config.model.geometry(config.data.num_frames), config.loss.radius, step_s)


def points_of_levels(pyramid: Pyramid, segments_s: np.ndarray, duration_s: np.ndarray) -> np.ndarray:
    """How many points of each level learn each segment → int [n, levels]; the rule of `targets.assign_targets`.

    A segment alone: another one of its class that overlaps it may take points away. Windows are taken to start
    shortly before it; where their grid lies exactly changes a count by one.

    Args:
      segments_s: float64 [n, 2].
      duration_s: float64 [n], of each segment's video; NaN where unknown: its counts are 0 if they depend on it.
    """
    geometry = pyramid.geometry
    grid = segments_s / pyramid.steps_s(duration_s)[:, None]
    if pyramid.step_s is not None:
        widest = geometry.stride ** (geometry.num_levels - 1)
        grid = grid - np.floor(grid[:, :1] / widest) * widest
    grid = np.clip(grid, 0, geometry.num_frames - 1)
    level_of_point = np.repeat(np.arange(geometry.num_levels), geometry.level_lengths)
    low, high = geometry.ranges.T
    counts = np.zeros((len(grid), geometry.num_levels), np.int64)
    for first in range(0, len(grid), _BLOCK):
        start, end = np.split(grid[first : first + _BLOCK], 2, axis=1)
        to_start, to_end = geometry.positions - start, end - geometry.positions
        farthest = np.maximum(to_start, to_end)
        positive = (to_start >= 0) & (to_end >= 0) & (farthest >= low) & (farthest < high)
        if pyramid.radius is not None:
            positive &= np.abs(geometry.positions - (start + end) / 2) <= pyramid.radius * geometry.strides
        for level in range(geometry.num_levels):
            counts[first : first + _BLOCK, level] = positive[:, level_of_point == level].sum(axis=1)
    return counts
