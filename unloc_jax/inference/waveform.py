"""The waveform of what a model heard of a video: the strip under the time axis of the report."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unloc_jax.sound import read_sound
from unloc_jax.sound_windows import Sound

_COLUMNS = 1000
_RATE = 8000  # of a file that is read for its waveform alone, in samples per second
_HEIGHT = 100  # units of the drawing from the loudest sample to its negative
# A track that is quieter than this (-48 dB) is not drawn any larger: it would be noise.
_LEAST_PEAK = 2**-8


@dataclasses.dataclass(frozen=True)
class Waveform:
    """A sound in W equal parts of a video. Values are in [-1, 1]; they are NaN where the video has no sound.

    Attributes:
      lowest: float32 [W], the lowest sample of each part.
      highest: float32 [W], the highest.
      rms: float32 [W], the root of the mean square.
      audio_track: the number of the track, see `unloc_jax.sound.read_sound`; None = the file's default.
    """

    lowest: np.ndarray
    highest: np.ndarray
    rms: np.ndarray
    audio_track: int | None = None


def waveform_of(sound: Sound, duration_s: float, audio_track: int | None = None) -> Waveform:
    """Returns the waveform of a sound.

    Args:
      sound: of the video; what lies after `duration_s` is left out.
      duration_s: length of the time axis in seconds, > 0.
      audio_track: see `Waveform`.
    """
    samples = sound.samples
    columns = min(_COLUMNS, max(1, int(duration_s * sound.rate)))
    ends_s = np.linspace(0.0, duration_s, columns + 1)
    ends = np.minimum(np.rint(ends_s * sound.rate).astype(np.int64), len(samples))
    middles_s = (ends_s[:-1] + ends_s[1:]) / 2
    heard = np.any((sound.heard[:, :1] <= middles_s) & (middles_s < sound.heard[:, 1:]), axis=0).tolist()
    lowest, highest, rms = np.full((3, columns), np.nan, np.float32)
    for i, (start, end) in enumerate(itertools.pairwise(ends.tolist())):
        if heard[i] and end > start:
            part = samples[start:end].astype(np.float32) / 32768
            lowest[i], highest[i], rms[i] = part.min(), part.max(), np.sqrt(np.mean(part * part))
    return Waveform(lowest, highest, rms, audio_track)


def waveform_of_file(path: Path, duration_s: float, audio_track: int | None) -> Waveform | None:
    """Returns the waveform of a file whose sound was heard in passing; None = it has no sound.

    Raises:
      VideoError: the file, or its sound, cannot be used.
    """
    sound = read_sound(path, _RATE, audio_track)
    return None if sound is None else waveform_of(sound, duration_s, audio_track)


def drawing(waveform: Waveform) -> str:
    """Renders a waveform as an SVG that CSS stretches and colours; the loudest sample touches its edge."""
    values = np.stack([waveform.lowest, waveform.highest, waveform.rms])
    there = np.isfinite(waveform.rms)
    peak = max(float(np.abs(values[:, there]).max(initial=0.0)), _LEAST_PEAK)
    # Roots, so that quiet sounds show beside loud ones.
    scaled = np.rint(_HEIGHT / 2 * (1 - np.sign(values) * np.sqrt(np.abs(values) / peak)))
    low, high, rms = np.where(there, scaled, _HEIGHT / 2).astype(int)
    spans = list(_spans(there))
    peaks = "".join(_outline(high, low, *span) for span in spans)
    loudness = "".join(_outline(rms, _HEIGHT - rms, *span) for span in spans)
    gaps = "".join(f'<rect x="{start}" width="{end - start}"/>' for start, end in _spans(~there))
    return (
        f'<svg class="waveform" viewBox="0 0 {len(there)} {_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'{gaps}<path class="peaks" d="{peaks}"/><path class="loudness" d="{loudness}"/></svg>'
    )


def _spans(places: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields the first and the end of every run of True."""
    edges = np.flatnonzero(np.diff(places.astype(np.int8), prepend=0, append=0)).tolist()
    yield from zip(edges[::2], edges[1::2])


def _outline(top: np.ndarray, bottom: np.ndarray, start: int, end: int) -> str:
    """Returns a path around the columns from `start` to `end`, one unit wide each; SVG's y grows downwards."""
    above = f"M{start} {top[start]}h1" + "".join(f"V{y}h1" for y in top[start + 1 : end].tolist())
    below = "".join(f"V{y}h-1" for y in bottom[start:end][::-1].tolist())
    return f"{above}{below}z"
