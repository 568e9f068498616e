"""Made-up signals, and their log-mel spectrograms by librosa 0.11; writes these to tests/goldens/log_mel.npz.

python -m tests.model.librosa_numbers, where librosa is installed
"""

from pathlib import Path

import numpy as np

from unloc_jax.config import AudioTowerConfig

FILE = Path(__file__).parents[1] / "goldens" / "log_mel.npz"
SETTINGS = {
    "slaney": AudioTowerConfig(window_s=0.1, num_mels=40),
    "htk": AudioTowerConfig(window_s=0.1, num_mels=24, mel_scale="htk", lowest_hz=80.0, highest_hz=7000.0),
    # Hops do not divide frames, and frames are a power of two already.
    "odd": AudioTowerConfig(
        sample_rate=11_025, window_s=0.05, frame_s=0.0232, hop_s=0.007, num_mels=16, lowest_hz=0.0,
        mel_scale="htk", patch_frames=4,
    ),
}  # fmt: skip


def signals(config: AudioTowerConfig) -> np.ndarray:
    """Returns noise, a chirp in noise, clicks in noise, and silence: int16 [1, 4, C]."""
    rng = np.random.default_rng(0)
    time = np.arange(config.window_samples) / config.sample_rate
    noise = lambda level: rng.normal(0, level, len(time))
    clicks = np.zeros(len(time))
    clicks[:: len(time) // 5] = 20_000
    sounds = (
        noise(3000),
        noise(100) + 8000 * np.sin(2 * np.pi * (300 + 20_000 * time) * time),
        noise(30) + clicks,
        0 * time,
    )
    return np.stack([np.clip(np.round(sound), -32768, 32767) for sound in sounds]).astype(np.int16)[None]


def by_librosa(samples: np.ndarray, config: AudioTowerConfig) -> np.ndarray:
    """Returns librosa's spectrograms of int16 [B, T, C] in decibels: float32 [B, T, F, M]."""
    import librosa

    # Its frames are fft_size long, with the window in their middle.
    around = config.fft_size - config.frame_samples
    padded = np.pad(samples / 32768, ((0, 0), (0, 0), (around // 2, around - around // 2)))
    lowest, highest = config.band_hz
    power = librosa.feature.melspectrogram(
        y=padded,
        sr=config.sample_rate,
        n_fft=config.fft_size,
        win_length=config.frame_samples,
        hop_length=config.hop_samples,
        window="hann",
        center=False,
        n_mels=config.num_mels,
        fmin=lowest,
        fmax=highest,
        htk=config.mel_scale == "htk",
        norm="slaney" if config.mel_scale == "slaney" else None,
    )
    return librosa.power_to_db(power, amin=1e-10, top_db=None).swapaxes(-1, -2).astype(np.float32)


if __name__ == "__main__":
    np.savez_compressed(FILE, **{name: by_librosa(signals(of), of) for name, of in SETTINGS.items()})
