"""Assignment of ground-truth segments to the pyramid levels that are responsible for them."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unloc_jax.errors import UserError

if TYPE_CHECKING:
    from unloc_jax.localization.geometry import PyramidGeometry

_BLOCK = 1 << 12  # segments per block, so that memory does not grow with their number


@dataclasses.dataclass(frozen=True)
class Pyramid:
    """The pyramid of a model, and the time between its frames.

    Attributes:
      geometry: its points.
      radius: of centre sampling, in strides; None = all points in a segment.
      step_s: seconds from one frame to the next, for a model that uses windows; None = T frames spread over the video.
    """

    geometry: "PyramidGeometry"
    radius: float | None
    step_s: float | None

    def steps_s(self, duration_s: np.ndarray) -> np.ndarray:
        """Returns seconds per grid unit, float64 [n], in videos of `duration_s` (float64 [n], seconds)."""
        if self.step_s is not None:
            return np.full(len(duration_s), self.step_s)
        return duration_s / (self.geometry.num_frames - 1)


def read_pyramid(checkpoint: Path, task: str | None = None) -> Pyramid:
    """Reads the pyramid of a checkpoint (a workdir or one of its steps).

    Raises:
      UserError: there is no checkpoint, it lacks the task, or the model has no localisation heads.
    """
    from unloc_jax.training.checkpoints.reading import find_checkpoint, load_checkpoint  # imports JAX

    experiment, metadata = load_checkpoint(find_checkpoint(checkpoint))
    configs = experiment.task_configs
    name = task or next(iter(configs))
    if name not in configs:
        raise UserError(f"--task={name}: the checkpoint has {', '.join(configs)}")
    config = configs[name]
    if config.model.pyramid.type == "none":
        raise UserError(f"{checkpoint}: its model has no pyramid")
    step_s = config.data.window_stride / metadata[name].fps if config.data.windowed else None
    return Pyramid(config.model.geometry(config.data.num_frames), config.loss.radius, step_s)


def points_of_levels(pyramid: Pyramid, segments_s: np.ndarray, duration_s: np.ndarray) -> np.ndarray:
    """Counts the points of each level that learn each segment, int [n, levels], by `targets.assign_targets`.

    Each segment is taken alone: another one of its class that overlaps it may take points away. Windows are assumed to
    start shortly before it; the exact place of their grid changes a count by one.

    Args:
      segments_s: float64 [n, 2], start and end in seconds.
      duration_s: float64 [n], of each segment's video in seconds; NaN = unknown: counts that depend on it are 0.
    """
    geometry = pyramid.geometry
    grid = segments_s / pyramid.steps_s(duration_s)[:, None]
    if pyramid.step_s is not None:
        widest = geometry.stride ** (geometry.num_levels - 1)
        grid = grid - np.floor(grid[:, :1] / widest) * widest
    grid = np.clip(grid, 0, geometry.num_frames - 1)
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
            counts[first : first + _BLOCK, level] = positive[:, geometry.levels == level].sum(axis=1)
    return counts
