"""Positions of the objects of a synthetic video: poses on the frame, and paths on which they stay visible."""

import dataclasses

import numpy as np

# On average over its event, at most this part of an object may be hidden by later ones.
_MAX_HIDDEN = 0.25


@dataclasses.dataclass(frozen=True)
class Pose:
    """Centre (x to the right, y down) and diameter of an object, as fractions of the frame's side."""

    x: float
    y: float
    diameter: float


@dataclasses.dataclass(frozen=True)
class Path:
    """An object's path from one pose to another, at constant speed, over consecutive frames.

    Attributes:
      first, last: the poses on the first and on the last of `frames`.
      frames: the indices of the frames that show the object.
    """

    first: Pose
    last: Pose
    frames: range

    def boxes(self) -> np.ndarray:
        """Returns x, y and diameter on each of the frames, as fractions of its side: float64 [len(frames), 3]."""
        return np.linspace(dataclasses.astuple(self.first), dataclasses.astuple(self.last), len(self.frames))


def draw_paths(rng: np.random.Generator, motions: list[str], frames: list[range]) -> list[Path]:
    """Draws one path per motion, later ones on top of earlier ones, such that none hides another for long."""
    paths: list[Path] = []
    hidden: list[np.ndarray] = []  # per path and frame: the part of the object hidden by later ones
    for motion, own_frames in zip(motions, frames):
        trials = []
        for _ in range(20):
            path = Path(*_draw_poses(rng, motion), own_frames)
            trial_hidden = [np.minimum(h + _covered(p, path), 1) for h, p in zip(hidden, paths)]
            worst = max((h.mean() for h in trial_hidden), default=0.0)
            trials.append((worst, path, trial_hidden))
            if worst <= _MAX_HIDDEN:
                break
        _, path, hidden = min(trials, key=lambda trial: trial[0])
        paths.append(path)
        hidden.append(np.zeros(len(own_frames)))
    return paths


def _draw_poses(rng: np.random.Generator, motion: str) -> tuple[Pose, Pose]:
    """Draws the first and last pose of a motion that stays within the frame and is easy to see."""
    if motion in ("grow", "shrink"):
        small, large = rng.uniform(0.15, 0.19), rng.uniform(0.44, 0.50)
        x, y = rng.uniform(large / 2, 1 - large / 2, size=2)
        poses = Pose(x, y, small), Pose(x, y, large)
        return poses if motion == "grow" else poses[::-1]
    diameter = rng.uniform(0.28, 0.38)
    margin = diameter / 2
    distance = rng.uniform(0.40, 1 - diameter)
    near = rng.uniform(margin, 1 - margin - distance)
    across = rng.uniform(margin, 1 - margin)
    ends = (near, near + distance) if motion in ("right", "down") else (near + distance, near)
    if motion in ("left", "right"):
        return Pose(ends[0], across, diameter), Pose(ends[1], across, diameter)
    return Pose(across, ends[0], diameter), Pose(across, ends[1], diameter)


def _covered(below: Path, above: Path) -> np.ndarray:
    """Returns the part of the bounding box of `below` that `above` covers, float64 [len(below.frames)]."""
    covered = np.zeros(len(below.frames))
    start = max(below.frames.start, above.frames.start)
    stop = min(below.frames.stop, above.frames.stop)
    if start >= stop:
        return covered
    a, b = (path.boxes()[start - path.frames.start : stop - path.frames.start] for path in (below, above))
    reach_a, reach_b = a[:, 2:] / 2, b[:, 2:] / 2
    near = np.maximum(a[:, :2] - reach_a, b[:, :2] - reach_b)
    far = np.minimum(a[:, :2] + reach_a, b[:, :2] + reach_b)
    shared = np.clip(far - near, 0, None).prod(axis=1)
    covered[start - below.frames.start : stop - below.frames.start] = shared / a[:, 2] ** 2
    return covered
