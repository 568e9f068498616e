"""Small videos whose pictures carry their own time, so that a test can read it back from a frame."""

import contextlib
import struct
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

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
    clockwise: int = 0,
    pictures_ms: list[int] | None = None,
    sound_s: float = 0.0,
    live: bool = False,
    last_s: float = 0.0,
) -> Path:
    """A video that shows pictures of `size`; with `clockwise` (90, 180, 270) it stores them turned and marks them so.

    A phone held upright does that: what is shown is the stored picture turned clockwise. `pictures_ms` are the times
    that the pictures carry, where these are not their time stamps; with `sound_s` there is sound from 0 on; `live`
    writes as to a pipe, where no length can be put into the header at the end; `last_s` is how long the last packet
    lasts.
    """
    formats = {".mkv": "matroska", ".webm": "webm", ".mp4": "mp4", ".flv": "flv", ".ts": "mpegts"}
    with contextlib.ExitStack() as stack:
        file = _Pipe(stack.enter_context(path.open("wb"))) if live else str(path)
        container = stack.enter_context(
            av.open(file, "w", format=formats[path.suffix] if live else None, options=container_options or {})
        )
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = size if clockwise % 180 == 0 else size[::-1]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base
        packets = _sound(container, sound_s) if sound_s else []
        for time_ms, shown_ms in zip(times_ms, pictures_ms or times_ms, strict=True):
            stored = np.ascontiguousarray(np.rot90(timed_picture(shown_ms, *size), clockwise // 90))
            frame = av.VideoFrame.from_ndarray(stored, "rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if last_s:
            packets[-1].duration = round(last_s / packets[-1].time_base)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    if clockwise:
        set_matrix(path, *{90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[clockwise])
    return path


class _Pipe:
    """A file that can only be written to."""

    def __init__(self, file: BinaryIO):
        self.write = file.write


def _sound(container: av.container.OutputContainer, seconds: float) -> list[av.Packet]:
    rate = 16000
    stream = container.add_stream("aac", rate=rate, layout="mono")
    packets = []
    for start in range(0, round(seconds * rate), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def set_matrix(path: Path, *matrix: int) -> None:
    """Writes a display matrix (a, b, c, d) into the track header of an MP4 (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (x << 16 for x in matrix)
    start = data.index(b"tkhd") + 4 + 40  # after the other fields
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def regular_times_ms(seconds: float, fps: int = 25) -> list[int]:
    return [1000 * k // fps for k in range(round(seconds * fps))]
