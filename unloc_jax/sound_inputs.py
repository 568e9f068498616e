"""The sound that a model hears: of an array, and in the windows of a forward pass."""

import dataclasses
import math
import numbers
from collections.abc import Iterable, Iterator

import av
import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.frame_inputs import SampledFrames
from unloc_jax.sampling import Timeline, times_of
from unloc_jax.sound import check_rate
from unloc_jax.sound_windows import Sound, sound_around

_MOST_CHANNELS = 64
# Samples beyond -1 and 1 are clipped, as those of a file; from here on they are no longer such samples.
_LARGEST = 4.0
_CHUNK = 1 << 18


def sound_of_samples(samples: np.ndarray, samples_rate: float | None, rate: int) -> Sound:
    """Returns an array as the sound of a file: mixed down to mono and resampled.

    Args:
      samples: int16, or float in [-1, 1]: [S], or [S, channels], whose mean is taken. The first one is heard at
        second 0.
      samples_rate: samples per second of the array, a whole number from 1000 to 192,000.
      rate: samples per second wanted.

    Raises:
      UserError: the array or its rate is not of this kind.
    """
    shape = list(samples.shape)
    if not (samples.dtype == np.int16 or np.issubdtype(samples.dtype, np.floating)):
        raise UserError(f"samples must be int16, or float in [-1, 1]; got {samples.dtype}.")
    if samples.ndim not in (1, 2) or not samples.size:
        raise UserError(f"samples must be [S] or [S, channels], got {shape}.")
    if samples.ndim == 2 and shape[1] > min(shape[0], _MOST_CHANNELS):
        raise UserError(f"samples must be [S, channels], got {shape}: transpose them (samples.T).")
    if samples_rate is None:
        raise UserError("rate is needed: how many samples per second the array has.")
    if not isinstance(samples_rate, numbers.Real) or not float(samples_rate).is_integer():
        raise UserError(f"rate must be a whole number of samples per second, got {samples_rate!r}.")
    check_rate(int(samples_rate))
    mono = samples if samples.ndim == 1 else samples.mean(1, dtype=np.float32)
    if samples.dtype == np.int16:
        mono = mono if samples.ndim == 1 else np.rint(mono).astype(np.int16)
    else:
        _check_values(mono if samples.ndim == 1 else samples)
        mono = np.clip(mono, -1.0, 1.0).astype(np.float32)
    made = _resampled(mono, int(samples_rate), rate)
    return Sound(made, rate, np.array([[0.0, len(mono) / int(samples_rate)]]))


def _check_values(samples: np.ndarray) -> None:
    largest = float(np.abs(samples).max())
    if not math.isfinite(largest):
        raise UserError("samples hold NaN or infinity.")
    if largest > _LARGEST:
        raise UserError(
            f"float samples must be in [-1, 1]; these reach {largest:g}. Divide them by what is full scale, or "
            "convert them to int16."
        )


def _resampled(mono: np.ndarray, samples_rate: int, rate: int) -> np.ndarray:
    """Returns int16 samples at `rate` of int16 or float32 ones, by the library with which files are read."""
    if samples_rate == rate and mono.dtype == np.int16:
        return mono
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    sample_format = "s16" if mono.dtype == np.int16 else "flt"
    made = []
    for start in range(0, len(mono), _CHUNK):
        part = np.ascontiguousarray(mono[None, start : start + _CHUNK])
        frame = av.AudioFrame.from_ndarray(part, format=sample_format, layout="mono")
        frame.sample_rate = samples_rate
        made += resampler.resample(frame)
    made += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().reshape(-1)[: frame.samples] for frame in made])


def sound_timeline(duration_s: float, fps: float) -> Timeline:
    """Returns the places of a video of which the sound alone is read: where frames would be stored, as in a build."""
    return Timeline(max(1, round(duration_s * fps)), 0.0, 1 / fps)


def with_sound(
    seen: Iterable[SampledFrames], sound: Sound | None, name: str, window_s: float, rate: int
) -> Iterator[SampledFrames]:
    """Adds the sound around every place, as training cuts it.

    Args:
      seen: the places.
      sound: of the video; None = it has none.
      name: of the modality.
      window_s: seconds around each place.
      rate: samples per second.
    """
    for one in seen:
        windows, there = sound_around(sound, times_of(one.span_s, len(one.mask)), window_s, rate)
        yield dataclasses.replace(
            one,
            features={**one.features, name: windows},
            input_masks={**one.input_masks, name: there & one.mask},
        )
