"""The rule for which frame is shown at which time, for files and arrays, in building, features and prediction.

The frame of time t is the one that a player shows at t: the last one whose time stamp is not after t. Many files store
time stamps in whole milliseconds (33 for 33.33), so a frame counts as shown up to a millisecond early, but by at most a
quarter of the time since the frame before it.
"""

from typing import overload

import numpy as np

_ROUNDED_TO_S = 1e-3
_MOST_OF_A_STEP = 0.25


@overload
def first_place(shown_from_s: float, step_s: float, fps: float, offset: float = 0.0) -> int: ...
@overload
def first_place(shown_from_s: np.ndarray, step_s: float, fps: float, offset: float = 0.0) -> np.ndarray: ...
def first_place(
    shown_from_s: float | np.ndarray, step_s: float, fps: float, offset: float = 0.0
) -> int | np.ndarray:
    """Returns the first place that shows a frame or a later one; place k is the time (k + offset) / fps.

    Frame i is shown from its first place up to that of frame i + 1. The first place of the end of a video is the number
    of its places.

    Args:
      shown_from_s: the frame's time stamp in seconds; a float or float [F].
      step_s: seconds since the frame before it.
      fps: places per second.
      offset: of place 0, in units of 1 / fps.

    Returns:
      An int, or int64 [F] for an array.
    """
    tolerance_s = min(_ROUNDED_TO_S, _MOST_OF_A_STEP * step_s)
    place = np.ceil((shown_from_s - tolerance_s) * fps - offset).astype(np.int64)
    return place if isinstance(shown_from_s, np.ndarray) else int(place)


def shown_frames(count: int, frames_fps: float, fps: float, offset: float = 0.0) -> np.ndarray:
    """Returns which of `count` frames, shown from i / frames_fps on, is shown at each place.

    Args:
      count: number of frames.
      frames_fps: frames per second.
      fps, offset: of the places, see `first_place`.

    Returns:
      int64 [n] with n ≥ 1: a video that ends before its first place still has one.
    """
    step_s = 1 / frames_fps
    first = first_place(np.arange(count + 1) * step_s, step_s, fps, offset)
    places = np.arange(max(1, int(first[-1])))
    return np.clip(np.searchsorted(first[:-1], places, side="right") - 1, 0, count - 1)
