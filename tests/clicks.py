"""Small files with clicks at known times in their sound, and flashes at the same times in their picture."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CLICKS_S = (0.52, 1.0, 2.48)
_CLICK_S, _CLICK_HZ = 0.004, 1500


def clicks(times_s: Sequence[float], seconds: float, rate: int, loudness: float = 0.8) -> np.ndarray:
    """float32 [n]: silence with a short tone at each time."""
    samples = np.zeros(round(seconds * rate), np.float32)
    tone = loudness * np.sin(2 * np.pi * _CLICK_HZ * np.arange(int(_CLICK_S * rate)) / rate)
    for time_s in times_s:
        at = round(time_s * rate)
        samples[at : at + len(tone)] = tone[: len(samples) - at]
    return samples


def click_times_s(samples: np.ndarray, rate: int) -> list[float]:
    """Returns when clicks begin, in seconds: loud samples after 0.1 s without any."""
    level = np.abs(samples.astype(np.float64))
    loud = np.flatnonzero(level > 0.3 * level.max()) / rate if level.any() else np.zeros(0)
    return [float(t) for i, t in enumerate(loud) if i == 0 or t - loud[i - 1] > 0.1]


def write_clicks(
    path: Path,
    codec: str | Sequence[str],
    *,
    times_s: Sequence[float] = CLICKS_S,
    seconds: float = 3.0,
    rate: int = 48000,
    layout: str = "stereo",
    picture: str | None = "libx264",
    picture_s: float | None = None,
    sound_from_s: float = 0.0,
    missing_s: tuple[float, float] = (0.0, 0.0),
    sample_format: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A file whose sound clicks, and whose picture (25 per second; None = no picture) is white, at `times_s`.

    `codec`: of the sound; several make tracks of which only the first one clicks. `sound_from_s`: the sound begins
    then; `missing_s`: its packets between these times are left out.
    """
    codecs = [codec] if isinstance(codec, str) else codec
    with av.open(str(path), "w", options=options or {}) as container:
        packets: list[av.Packet] = []
        if picture is not None:
            packets += _pictures(container, picture, times_s, seconds if picture_s is None else picture_s)
        # All streams first: a container's header is written with the first packet.
        streams = [container.add_stream(each, rate=rate, layout=layout) for each in codecs]
        for number, stream in enumerate(streams):
            if sample_format is not None:
                stream.format = sample_format
            samples = clicks(times_s if number == 0 else (), seconds, rate)
            made = _encoded(stream, samples[round(sound_from_s * rate) :], round(sound_from_s * rate), layout)
            packets += [p for p in made if not missing_s[0] <= float(p.dts * p.time_base) < missing_s[1]]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def _pictures(
    container: av.container.OutputContainer, codec: str, times_s: Sequence[float], seconds: float
) -> list[av.Packet]:
    stream = container.add_stream(
        codec, rate=25, options={} if codec == "libvpx" else {"preset": "ultrafast"}
    )
    stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
    packets = []
    for number in range(round(seconds * 25)):
        white = any(abs(number / 25 - time_s) < 0.02 for time_s in times_s)
        frame = av.VideoFrame.from_ndarray(np.full((72, 96, 3), 255 * white, np.uint8), "rgb24")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _encoded(stream: av.AudioStream, samples: np.ndarray, first: int, layout: str) -> list[av.Packet]:
    context, rate = stream.codec_context, stream.rate
    resampler = av.AudioResampler(
        format=context.format.name, layout=layout, rate=rate, frame_size=context.frame_size or 1024
    )
    packets = []
    for start in range(0, len(samples), 1024):
        part = np.repeat(samples[start : start + 1024], len(context.layout.channels))
        frame = av.AudioFrame.from_ndarray(part[None], "flt", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, first + start, Fraction(1, rate)
        for resampled in resampler.resample(frame):
            packets += stream.encode(resampled)
    for resampled in resampler.resample(None):
        packets += stream.encode(resampled)
    return [packet for packet in packets + stream.encode(None) if packet.dts is not None]
