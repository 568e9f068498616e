"""Log-mel spectrograms of the sound around each place of a video, on the device."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.config import AudioTowerConfig
from unloc_jax.model.layout import UNSHARDED, Layout

FLOOR_DB = -100.0
"""Of a spectrogram: digital silence. It is librosa's `amin` = 1e-10."""

Scale = Literal["slaney", "htk"]


# Enough to keep a device busy, and few enough that the frames of a batch never exist at once.
_PLACES_AT_ONCE = 64


def log_mel(samples: jax.Array, config: AudioTowerConfig, layout: Layout = UNSHARDED) -> jax.Array:
    """Computes log-mel spectrograms in decibels of a full-scale signal's power.

    That is `librosa.power_to_db(librosa.feature.melspectrogram(…, center=False), top_db=None)` of samples in [-1, 1),
    with a periodic Hann window. As in Kaldi, frames are all that lie inside of the samples, filled up with zeros to
    `fft_size`; librosa's are `fft_size` long, with the window in their middle. No gradient passes.

    Args:
      samples: int16 [B, T, C], or floating in [-1, 1); C is `config.window_samples`.
      config: The sizes.
      layout: How B ("videos") and T ("frames") are sharded.

    Returns:
      float32 [B, T, F, M], F frames of M bands, at least `FLOOR_DB`.
    """
    expected = (*samples.shape[:2], config.window_samples)
    if samples.shape != expected:
        raise ValueError(f"the samples {samples.shape} are not {expected}")
    scale = 1 / 32768 if samples.dtype == jnp.int16 else 1.0

    def of_places(samples: jax.Array) -> jax.Array:  # [b, t, C], a device's own
        flat = samples.reshape(-1, samples.shape[-1])
        of_place = lambda x: _log_mel_of_place(x.astype(jnp.float32) * scale, config)
        made = jax.lax.map(of_place, flat, batch_size=_PLACES_AT_ONCE)
        return made.reshape(*samples.shape[:2], *made.shape[1:])

    # Left to itself, the compiler gathers what it transforms on every device.
    return layout.map_shards(of_places, jax.lax.stop_gradient(samples), "videos", "frames")


def _log_mel_of_place(samples: jax.Array, config: AudioTowerConfig) -> jax.Array:
    """Computes a place's spectrogram: float32 [C] → float32 [F, M]."""
    length, hop, count = config.frame_samples, config.hop_samples, config.num_frames
    # Frames are slices of blocks of a hop: no address is computed.
    blocks = -(-length // hop)
    needed = (count - 1 + blocks) * hop
    samples = jnp.pad(samples, (0, max(0, needed - len(samples))))[:needed].reshape(-1, hop)
    frames = jnp.concatenate([samples[i : i + count] for i in range(blocks)], axis=-1)[:, :length]
    window = jnp.asarray(np.hanning(length + 1)[:-1], jnp.float32)
    spectrum = jnp.fft.rfft(frames * window, n=config.fft_size)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    bands = jnp.asarray(bands_of(config))
    mel = jnp.dot(power, bands, precision=jax.lax.Precision.HIGHEST)
    return 10.0 * jnp.log10(jnp.maximum(mel, 10.0 ** (FLOOR_DB / 10)))


def bands_of(config: AudioTowerConfig) -> np.ndarray:
    """Returns the weights of a tower's bands, see `mel_bands`."""
    return mel_bands(config.mel_scale, config.num_mels, config.band_hz, config.sample_rate, config.fft_size)


@functools.cache
def mel_bands(
    scale: Scale, num_mels: int, band_hz: tuple[float, float], sample_rate: int, fft_size: int
) -> np.ndarray:
    """Returns triangular bands that overlap by half, evenly spaced on a mel scale.

    "slaney" is librosa's default (Slaney 1998: linear to 1 kHz, then logarithmic; bands of equal area), "htk" is
    torchaudio's (2595 · log10(1 + f / 700); bands of equal height).

    Args:
      scale: "slaney" or "htk".
      num_mels: M.
      band_hz: Lowest and highest frequency.
      sample_rate: Samples per second.
      fft_size: N, samples of a Fourier transform.

    Returns:
      float32 [1 + N/2, M]: weight of each frequency in each band. A band between two frequencies is all zeros.
    """
    to_mel, to_hz = _SCALES[scale]
    lowest, highest = (float(to_mel(np.array(hz))) for hz in band_hz)
    edges = to_hz(np.linspace(lowest, highest, num_mels + 2))
    at = np.linspace(0, sample_rate / 2, 1 + fft_size // 2)[:, None]
    rising = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    if scale == "slaney":
        weights *= 2 / (edges[2:] - edges[:-2])
    return weights.astype(np.float32)


def _hz_to_slaney(hz: np.ndarray) -> np.ndarray:
    return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1000) / 1000) * 27 / np.log(6.4))


def _slaney_to_hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))


_SCALES = {
    "slaney": (_hz_to_slaney, _slaney_to_hz),
    "htk": (
        lambda hz: 2595 * np.log10(1 + hz / 700),
        lambda mel: 700 * (10 ** (mel / 2595) - 1),
    ),
}
