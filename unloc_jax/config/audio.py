"""Settings of the tower that hears: samples → log-mel spectrogram → patches → transformer."""

import dataclasses
from typing import Annotated, Literal

from unloc_jax.config.bounds import Bounds, Fraction, Positive, Share, Signed

Seconds = Annotated[float, Bounds(at_least=1e-3, at_most=600.0)]


@dataclasses.dataclass(frozen=True)
class AudioAugmentationConfig:
    """Random changes to the sound of training videos, the same for all places of a video."""

    gain_db: Annotated[float, Bounds(at_most=60.0)] = 0.0
    """The sound becomes louder or softer by up to so many decibels."""
    mix: Share = 0.0
    """Chance that a video gets the sound of another one of the batch as its background; its texts do not change."""
    mix_snr_db: tuple[Signed, Signed] = (5.0, 20.0)
    """(low, high): decibels by which it is softer than the video's own sound, on average over both."""
    frequency_masks: Annotated[int, Bounds(at_most=16)] = 0
    """Stretches of bands that are hidden, as in SpecAugment (Park et al. 2019): they become the video's mean."""
    frequency_mask_mels: Positive = 8
    """Bands of the largest of them."""
    time_masks: Annotated[int, Bounds(at_most=64)] = 0
    """Stretches of time that are hidden in the same way."""
    time_mask_s: Seconds = 0.1
    """Seconds of the longest of them; texts whose sound is shorter may vanish."""

    @property
    def changes_spectrograms(self) -> bool:
        return bool(self.gain_db or self.frequency_masks or self.time_masks)


@dataclasses.dataclass(frozen=True)
class AudioTowerConfig:
    """The tower of sound, of the kind of AST (Gong et al. 2021): each place's samples become one token."""

    sample_rate: Annotated[int, Bounds(at_least=1000, at_most=192_000)] = 16_000
    """Samples per second of the shards, which `unloc data build --audio` resamples to."""
    window_s: Seconds = 1.0
    """Seconds of sound around each place that the model hears there. Where places are farther apart than this, it does
    not hear what lies between."""
    frame_s: Seconds = 0.025
    """Seconds of a frame of the spectrogram (a periodic Hann window)."""
    hop_s: Seconds = 0.010
    """Seconds from a frame of the spectrogram to the next."""
    num_mels: Positive = 64
    """Bands of the spectrogram."""
    lowest_hz: float = 20.0
    highest_hz: Annotated[float, Bounds(at_most=96_000.0)] = 0.0
    """Of the bands; 0 = half the sample rate."""
    mel_scale: Literal["slaney", "htk"] = "slaney"
    """ "slaney": Slaney's scale and bands of equal area, as librosa's; "htk": HTK's scale and bands of equal height, as
    torchaudio's."""
    subtract_mean: bool = False
    """Subtract each band's mean over the places that the model hears: what sounds all the time, such as a hum or the
    microphone's colour, vanishes."""
    patch_mels: Positive = 16
    """Bands of a patch."""
    patch_frames: Positive = 16
    """Frames of a patch; those that are left over at both ends of a place are dropped."""
    width: Positive = 192
    num_layers: Positive = 4
    num_heads: Positive = 3
    mlp_dim: Positive = 768
    dropout: Fraction = 0.0

    @property
    def window_samples(self) -> int:
        """C, samples of a place."""
        return round(self.window_s * self.sample_rate)

    @property
    def frame_samples(self) -> int:
        return round(self.frame_s * self.sample_rate)

    @property
    def hop_samples(self) -> int:
        return round(self.hop_s * self.sample_rate)

    @property
    def fft_size(self) -> int:
        """Samples of a Fourier transform: the power of two from `frame_samples` on, filled up with zeros."""
        return 1 << (self.frame_samples - 1).bit_length()

    @property
    def num_frames(self) -> int:
        """F, frames of a place's spectrogram: those that lie inside of its samples."""
        return max(0, 1 + (self.window_samples - self.frame_samples) // self.hop_samples)

    @property
    def column_times_s(self) -> tuple[float, ...]:
        """Seconds from a place to the middle of each of its F frames."""
        first = (self.frame_samples - self.window_samples) / 2
        return tuple((first + i * self.hop_samples) / self.sample_rate for i in range(self.num_frames))

    @property
    def band_hz(self) -> tuple[float, float]:
        """Lowest and highest frequency of the bands."""
        return self.lowest_hz, self.highest_hz or self.sample_rate / 2

    @property
    def num_patches(self) -> int:
        """Patches of a place."""
        return (self.num_mels // self.patch_mels) * (self.num_frames // self.patch_frames)
