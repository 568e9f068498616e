"""Log-mel spectrograms are librosa's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.model.librosa_numbers import FILE, SETTINGS, by_librosa, signals
from unloc_jax.config import AudioTowerConfig
from unloc_jax.model.log_mel import FLOOR_DB, bands_of, log_mel

log_mel = jax.jit(log_mel, static_argnames="config")


def check(found: jax.Array, expected: np.ndarray) -> None:
    """To 1e-4 of the logarithm; decibels are ten of its decades."""
    assert found.shape == expected.shape and found.dtype == jnp.float32
    np.testing.assert_allclose(found / 10, expected / 10, atol=1e-4)


@pytest.mark.parametrize("name", SETTINGS)
def test_equal_to_stored_numbers_of_librosa(name):
    config = SETTINGS[name]
    with np.load(FILE) as stored:
        check(log_mel(signals(config), config), stored[name])


@pytest.mark.parametrize("name", SETTINGS)
def test_equal_to_librosa(name):
    pytest.importorskip("librosa", reason="librosa is not here")
    config = SETTINGS[name]
    check(log_mel(signals(config), config), by_librosa(signals(config), config))


def test_floating_samples_are_those_of_full_scale():
    config = SETTINGS["slaney"]
    sound = signals(config)
    np.testing.assert_allclose(log_mel(sound / np.float32(32768), config), log_mel(sound, config), atol=1e-3)


def test_silence_is_the_floor():
    config = SETTINGS["slaney"]
    np.testing.assert_allclose(log_mel(0 * signals(config), config), FLOOR_DB, atol=1e-4)


def test_many_places_are_computed_some_at_a_time():
    """70 places of two videos: more than at once, and no multiple of that."""
    config = SETTINGS["odd"]
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 3000, (2, 35, config.window_samples)).astype(np.int16)
    found = log_mel(sound, config)
    np.testing.assert_allclose(found[1, 30:], log_mel(sound[1:, 30:], config)[0], atol=1e-4)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_a_tone_is_heard_in_the_band_of_its_frequency(scale):
    config = AudioTowerConfig(mel_scale=scale, window_s=0.2)
    hz = np.linspace(0, config.sample_rate / 2, 1 + config.fft_size // 2)
    time = np.arange(config.window_samples) / config.sample_rate
    for tone in (440.0, 1000.0, 3520.0):
        sound = (8000 * np.sin(2 * np.pi * tone * time)).astype(np.int16)[None, None]
        loudest = int(np.asarray(log_mel(sound, config)).mean((0, 1, 2)).argmax())
        heard = hz[bands_of(config)[:, loudest] > 0]
        assert heard.min() - 32 <= tone <= heard.max() + 32


def test_twice_as_loud_is_six_decibels():
    config = SETTINGS["htk"]
    sound = signals(config)[:, :1] // 2 * 2
    louder = log_mel(sound, config) - log_mel(sound // 2, config)
    np.testing.assert_allclose(louder, 20 * np.log10(2), atol=1e-3)


def test_the_times_of_frames_are_their_middles():
    """A click is loudest in the frame whose time is nearest."""
    config = dataclasses.replace(SETTINGS["slaney"], hop_s=0.005)
    middles = np.array(config.column_times_s)
    assert len(middles) == config.num_frames
    for click in (-0.03, 0.0, 0.02):
        sound = np.zeros((1, 1, config.window_samples), np.int16)
        sound[0, 0, round((click + config.window_s / 2) * config.sample_rate)] = 20_000
        loudest = np.asarray(log_mel(sound, config))[0, 0].mean(-1).argmax()
        assert abs(middles[loudest] - click) <= config.hop_s / 2 + 1e-3
