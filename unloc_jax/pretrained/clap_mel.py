"""How CLAP hears sound: a log-mel spectrogram in decibels, as `ClapFeatureExtractor` of transformers makes it.

Computed on the CPU in float64, so that its numbers are the original's: in float32 the quiet bins beside a loud tone are
rounding errors, which decibels make visible.
"""

import dataclasses
import functools

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.model.log_mel import Scale, mel_bands
from unloc_jax.pretrained.clip_files import Files, read_json
from unloc_jax.pretrained.foreign_settings import positive_int

_FLOOR = 1e-10  # of the power in a mel bin
_FULL_SCALE = 32768.0  # of int16
_BLOCK = 256  # frames whose spectra are in memory at a time


@dataclasses.dataclass(frozen=True)
class ClapMel:
    """Settings of the spectrogram; the defaults are those of laion/clap-htsat-unfused.

    Attributes:
      rate: Samples per second.
      seconds: Longest sound.
      bins: Mel bins.
      fft_length: Samples of a frame, with Hann's window.
      hop: Samples from frame to frame.
      low_hz, high_hz: Borders of the mel bins.
      scale: See `mel_bands`; fused models were trained with "htk".
      padding: What a shorter sound is filled up with: "repeatpad" = itself as often as it fits, then zeros;
        "repeat" = itself; "pad" = zeros.
    """

    rate: int = 48_000
    seconds: int = 10
    bins: int = 64
    fft_length: int = 1024
    hop: int = 480
    low_hz: float = 0.0
    high_hz: float = 14_000.0
    scale: Scale = "slaney"
    padding: str = "repeatpad"

    @property
    def most_samples(self) -> int:
        """Samples of the longest sound."""
        return self.rate * self.seconds

    @property
    def num_frames(self) -> int:
        """F, frames of every spectrogram."""
        return self.most_samples // self.hop + 1

    def filled(self, samples: np.ndarray) -> np.ndarray:
        """Fills a sound up to the longest: [S] of any dtype, 1 ≤ S ≤ `most_samples` → [most_samples].

        Raises:
          ValueError: The sound is empty or longer.
        """
        most = self.most_samples
        if samples.ndim != 1 or not 0 < len(samples) <= most:
            raise ValueError(f"sound must be [S] with 1 ≤ S ≤ {most}, got {samples.shape}")
        if len(samples) < most and self.padding != "pad":
            times = most // len(samples)
            samples = np.tile(samples, times + (self.padding == "repeat"))[:most]
        return np.pad(samples, (0, most - len(samples)))

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Makes the spectrogram of a sound.

        Args:
          samples: int16 [S], or floating in [-1, 1], as for `filled`.

        Returns:
          float32 [num_frames, bins], decibels.
        """
        sound = self.filled(samples)
        sound = sound / _FULL_SCALE if sound.dtype == np.int16 else sound.astype(np.float64)
        half = self.fft_length // 2
        sound = np.pad(sound, half, "reflect")
        frames = np.lib.stride_tricks.sliding_window_view(sound, self.fft_length)[:: self.hop]
        filters = mel_bands(self.scale, self.bins, (self.low_hz, self.high_hz), self.rate, self.fft_length)
        window = _hann(self.fft_length)
        made = np.empty((len(frames), self.bins), np.float32)
        for start in range(0, len(frames), _BLOCK):
            # The original keeps spectra in this precision.
            spectra = np.fft.rfft(frames[start : start + _BLOCK] * window).astype(np.complex64)
            power = np.abs(spectra).astype(np.float64) ** 2 @ filters
            made[start : start + _BLOCK] = 10.0 * np.log10(np.maximum(power, _FLOOR))
        return made


def of_hugging_face(files: Files, fused: bool) -> ClapMel:
    """Reads the settings beside a model; without a preprocessor_config.json they are the published ones.

    Raises:
      UserError: The settings are not those of a spectrogram of CLAP's.
    """
    told = ClapMel(scale="htk" if fused else "slaney")
    file = files.find("preprocessor_config.json")
    if file is None:
        return told
    settings = read_json(file)

    def number(key: str, default: int) -> int:
        return positive_int(settings.get(key, default), f"{file}: {key}")

    truncation = settings.get("truncation", "fusion" if fused else "rand_trunc")
    padding = settings.get("padding", told.padding)
    if truncation not in ("fusion", "rand_trunc") or padding not in ("repeatpad", "repeat", "pad"):
        raise UserError(
            f"{file}: truncation is {truncation!r} and padding {padding!r}; CLAP's are fusion or rand_trunc, and "
            "repeatpad, repeat or pad."
        )
    low, high = settings.get("frequency_min", told.low_hz), settings.get("frequency_max", told.high_hz)
    made = ClapMel(
        rate=number("sampling_rate", told.rate),
        seconds=number("max_length_s", told.seconds),
        bins=number("feature_size", told.bins),
        fft_length=number("fft_window_size", told.fft_length),
        hop=number("hop_length", told.hop),
        low_hz=low,
        high_hz=high,
        scale="htk" if truncation == "fusion" else "slaney",
        padding=padding,
    )
    known = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (low, high))
    if not known or not 0 <= low < high <= made.rate / 2:
        raise UserError(
            f"{file}: mel bins from {low!r} to {high!r} Hz, of sound with {made.rate} samples per second."
        )
    return made


@functools.lru_cache(maxsize=4)
def _hann(length: int) -> np.ndarray:
    """Returns Hann's window for frames that overlap: float64 [length], without its last zero."""
    return np.hanning(length + 1)[:-1]
