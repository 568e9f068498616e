"""Turns and mirrors decoded pictures as a player shows them."""

import dataclasses
from typing import cast

import av
import numpy as np
from av.buffer import Buffer


@dataclasses.dataclass(frozen=True)
class Orientation:
    """One of the eight ways to put a picture into an upright rectangle.

    Attributes:
      transposed: rows and columns change places, before anything is flipped.
      flipped_x: left and right change places.
      flipped_y: top and bottom change places.
    """

    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False

    @property
    def mirrored(self) -> bool:
        """Returns whether no rotation alone has the same effect."""
        return self.transposed ^ self.flipped_x ^ self.flipped_y

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """Converts a picture [H, W, C] as decoded to a contiguous one as shown; [W, H, C] if transposed."""
        shown = picture.swapaxes(0, 1) if self.transposed else picture
        shown = shown[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1]
        return np.ascontiguousarray(shown)


# By quarter turns counterclockwise.
_TURNED = (
    Orientation(),
    Orientation(True, False, True),
    Orientation(False, True, True),
    Orientation(True, True, False),
)


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Reads the display matrix of a frame, from the file or the stream itself (an SEI message of H.264 or H.265).

    The matrix maps (x, y) of the decoded picture to (a·x + c·y, b·x + d·y) of the shown one (ISO/IEC 14496-12, 8.3.2);
    other angles are rounded to the nearest multiple of 90°.
    """
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not support another kind of side data of this frame (such as Exif)
        return _TURNED[round(frame.rotation / 90) % 4]
    if data is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(cast(Buffer, data)), np.int32)[:5].astype(float)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, bool(a < 0), bool(d < 0))
    return Orientation(True, bool(c < 0), bool(b < 0))
