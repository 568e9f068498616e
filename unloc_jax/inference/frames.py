"""The frames of a video file that a model looks at, in memory that does not grow with the video."""

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from unloc_jax.sampling import center_crop, linspace_indices, span_of
from unloc_jax.video import FrameStream

_FEWEST_KEPT = 512


def sample_video(
    path: Path, *, fps: float, short_side: int, crop_size: int, num_frames: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Decodes a video as the builder does and keeps what the input pipeline would sample.

    How many frames there are is known only at the end, so candidates are kept and every second one is dropped when
    they become too many: up to 16·num_frames (at least 512) decoded frames the sample is exact, beyond that a frame
    is off by at most 1/16 of the distance between two sampled frames.

    Args:
      path: any file that PyAV decodes.
      fps, short_side: how the frames of training were stored.
      crop_size: of the central window.
      num_frames: T.

    Returns:
      frames uint8 [T, crop_size, crop_size, 3]; span_s float32 [2], times of the first and the last of them; the
      video's length in seconds.

    Raises:
      VideoError: the file cannot be used.
    """
    stream = FrameStream(path, fps=fps, short_side=short_side)
    most = max(16 * num_frames, _FEWEST_KEPT)
    kept: list[np.ndarray] = []
    every, count = 1, 0
    for frame in tqdm(
        stream, desc=f"decoding {path.name}", unit="frame", delay=3, file=sys.stderr, leave=False
    ):
        if count % every == 0:
            kept.append(center_crop(frame, crop_size).copy())
        count += 1
        if len(kept) > most:
            kept, every = kept[::2], 2 * every
    places = np.minimum(np.rint(linspace_indices(count, num_frames) / every).astype(int), len(kept) - 1)
    return np.stack([kept[place] for place in places]), span_of(count, fps), stream.duration_s
