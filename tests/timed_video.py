"""Small videos whose pictures carry their own time, so that a test can read it back from a frame."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_COLUMNS, _ROWS = 4, 3
_UPRIGHT = 1 << 11  # set in every picture, bit 10 clear: a turned picture reads as nonsense


def timed_picture(time_ms: int, width: int, height: int) -> np.ndarray:
    """uint8 [height, width, 3]: the time in 10 ms as ten black or white blocks; two more tell what is up."""
    bits = time_ms // 10 | _UPRIGHT
    rows = np.arange(height) * _ROWS // height
    columns = np.arange(width) * _COLUMNS // width
    block = rows[:, None] * _COLUMNS + columns[None, :]
    return np.repeat(((bits >> block & 1) * 255).astype(np.uint8)[..., None], 3, axis=2)


def read_time_s(picture: np.ndarray) -> float:
    height, width = picture.shape[:2]
    bits = 0
    for block in range(_ROWS * _COLUMNS):
        row, column = divmod(block, _COLUMNS)
        y, x = int((row + 0.5) * height / _ROWS), int((column + 0.5) * width / _COLUMNS)
        bits |= int(picture[y - 2 : y + 3, x - 2 : x + 3].mean() > 127) << block
    assert bits >> 10 == 0b10, "not upright"
    return (bits & 1023) / 100


def write_video(
    path: Path,
    times_ms: list[int],
    *,
    size: tuple[int, int] = (96, 72),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    time_base: Fraction = Fraction(1, 1000),
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base
        for time_ms in times_ms:
            frame = av.VideoFrame.from_ndarray(timed_picture(time_ms, *size), "rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def regular_times_ms(seconds: float, fps: int = 25) -> list[int]:
    return [1000 * k // fps for k in range(round(seconds * fps))]
