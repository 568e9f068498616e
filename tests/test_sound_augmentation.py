"""Changes to the sound of training videos: what they do, and that nothing else happens."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import SOUND, random_batch, tiny_config, tiny_task
from unloc_jax.augmentation import sound as sound_module
from unloc_jax.augmentation.sound import change_spectrograms, mix_sounds
from unloc_jax.config import AudioAugmentationConfig
from unloc_jax.errors import UserError
from unloc_jax.model import log_mel
from unloc_jax.training.step import Loss

change = jax.jit(change_spectrograms, static_argnames=("config", "column_s"))
mix = jax.jit(mix_sounds, static_argnames="config")

FRAMES, BANDS = 5, 12
COLUMN_S = tuple(0.1 * (i - 2) for i in range(FRAMES))


def spectrograms(videos: int = 3, places: int = 6) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(-40, 10, (videos, places, FRAMES, BANDS)).astype(np.float32)


def changed(
    sound: np.ndarray, config: AudioAugmentationConfig, heard: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Places are 0.25 s apart, so that their windows of 0.5 s overlap."""
    videos, places = sound.shape[:2]
    keys = jax.random.split(jax.random.key(seed), videos)
    span_s = np.tile(np.array([1.0, 1.0 + 0.25 * (places - 1)], np.float32), (videos, 1))
    heard = np.ones((videos, places), bool) if heard is None else heard
    return np.asarray(change(sound, keys, config, heard, span_s, COLUMN_S))


def test_the_floor_is_that_of_spectrograms():
    assert sound_module._SILENCE_DB == log_mel.FLOOR_DB


def test_gain_is_one_number_per_video_within_its_bounds():
    sound = spectrograms(20)
    sound[:, 2] = -100.0
    difference = changed(sound, AudioAugmentationConfig(gain_db=12.0)) - sound
    assert not difference[:, 2].any()  # silence
    gains = difference[:, [0, 1, 3, 4, 5]].reshape(20, -1)
    np.testing.assert_allclose(gains - gains[:, :1], 0, atol=1e-4)
    assert abs(gains).max() <= 12.001 and gains[:, 0].std() > 3
    assert gains[:, 0].min() < 0 < gains[:, 0].max()


def test_hidden_bands_are_the_same_at_all_places():
    config = AudioAugmentationConfig(frequency_masks=1, frequency_mask_mels=4)
    sound = spectrograms(40)
    found = changed(sound, config)
    hidden = found != sound
    assert (hidden == hidden[:, :1, :1]).all()
    widths = hidden[:, 0, 0].sum(-1)
    assert set(widths) == {0, 1, 2, 3, 4}
    for of_video, video, before in zip(hidden[:, 0, 0], found, sound):
        at = np.flatnonzero(of_video)
        assert len(at) == 0 or at[-1] - at[0] == len(at) - 1
        np.testing.assert_allclose(video[..., at], before.mean(), atol=1e-3)


def test_hidden_times_are_those_of_the_video():
    """Wherever two windows hear the same moment, both or neither miss it; none is longer than the longest."""
    config = AudioAugmentationConfig(time_masks=1, time_mask_s=0.3)
    sound = spectrograms(60)
    found = changed(sound, config)
    hidden = found != sound
    assert (hidden == hidden[..., :1]).all()
    of_column = hidden[..., 0]
    time_s = (1.0 + 0.25 * np.arange(6))[:, None] + np.array(COLUMN_S)
    lengths = []
    for video in of_column:
        if not video.any():
            continue
        first, last = time_s[video].min(), time_s[video].max()
        assert (video == ((time_s > first - 1e-3) & (time_s < last + 1e-3))).all()
        lengths.append(last - first)
    assert len(lengths) > 30 and max(lengths) <= 0.3 and max(lengths) > 0.15


def test_means_and_times_are_of_what_is_heard():
    sound, heard = spectrograms(20), np.ones((20, 6), bool)
    heard[:, 4:] = False
    sound[:, 4:] = -100.0
    config = AudioAugmentationConfig(frequency_masks=1, time_masks=1, time_mask_s=0.5)
    found = changed(sound, config, heard)
    for before, after in zip(sound[:, :4], found[:, :4]):
        filled = after[after != before]
        np.testing.assert_allclose(filled, before.mean(), atol=1e-3)


def test_draws_differ_between_videos_and_steps_and_repeat_with_the_key():
    config = AudioAugmentationConfig(gain_db=6.0, time_masks=2, frequency_masks=2)
    sound = np.repeat(spectrograms(1), 3, axis=0)
    found = changed(sound, config)
    np.testing.assert_array_equal(changed(sound, config), found)
    others = [*found, *changed(sound, config, seed=1)]
    assert len({x.tobytes() for x in others}) == 6
    np.testing.assert_array_equal(changed(sound, AudioAugmentationConfig()), sound)


def power_db(x: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.square(x.astype(np.float64)).mean((-2, -1)))


def test_a_background_is_anothers_sound_at_the_level_that_is_asked():
    rng = np.random.default_rng(0)
    levels = np.array([300, 3000, 900, 100])[:, None, None]
    samples = (rng.normal(0, 1, (4, 5, 400)) * levels).round().astype(np.int16)
    config = AudioAugmentationConfig(mix=1.0, mix_snr_db=(6.0, 6.0))
    mixed = np.asarray(mix(samples, np.ones((4, 5), bool), jax.random.key(0), config))
    assert mixed.dtype == np.int16
    added = mixed.astype(np.float64) - samples
    np.testing.assert_allclose(power_db(samples) - power_db(added), 6.0, atol=0.1)
    for i, background in enumerate(added):
        likeness = [abs(np.corrcoef(background.ravel(), other.ravel())[0, 1]) for other in samples]
        assert np.argmax(likeness) != i and max(likeness) > 0.95


def test_silent_videos_neither_get_nor_are_a_background():
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 1000, (3, 4, 200)).astype(np.int16)
    samples[1:] = 0
    heard = np.array([[True] * 4, [True] * 4, [False] * 4])
    config = AudioAugmentationConfig(mix=1.0)
    for seed in range(5):
        np.testing.assert_array_equal(mix(samples, heard, jax.random.key(seed), config), samples)


def test_missing_places_stay_missing_and_loud_sounds_are_clipped():
    samples = np.full((2, 3, 50), 32_000, np.int16)
    samples[0, 2] = 0
    heard = np.ones((2, 3), bool)
    heard[0, 2] = False
    config = AudioAugmentationConfig(mix=1.0, mix_snr_db=(0.0, 0.0))
    mixed = np.asarray(mix(samples, heard, jax.random.key(0), config))
    assert (mixed[0, :2] == 32767).all() and not mixed[0, 2].any()
    assert (mixed[1, 2] == 32_000).all()  # the background is not heard there


def test_the_chance_is_that_of_the_config():
    samples = np.random.default_rng(0).normal(0, 1000, (400, 1, 8)).astype(np.int16)
    config = AudioAugmentationConfig(mix=0.25)
    mixed = mix(samples, np.ones((400, 1), bool), jax.random.key(0), config)
    share = (np.asarray(mixed) != samples).any((1, 2)).mean()
    assert 0.17 < share < 0.33
    alone = mix(samples[:1], np.ones((1, 1), bool), jax.random.key(0), config)
    np.testing.assert_array_equal(alone, samples[:1])


class Seen:
    """A task that returns the sound that it gets."""

    def __init__(self, **augmentation: Any):
        task = tiny_task(model=SOUND, data=data(**augmentation))
        self.config, self.model = task.config, task.model

    def loss(self, params, batch, rng, global_batch=None):
        return jnp.zeros(()), {"sound": batch.features["audio"]}


def data(**augmentation: Any) -> dict[str, Any]:
    sizes = {"num_frames": 8, "crop_size": 16, "max_segments": 3, "max_queries": 3}
    return sizes | {"augmentation": {"audio": augmentation}}


def seen(key: jax.Array, **augmentation: Any) -> np.ndarray:
    task = Seen(**augmentation)
    batch = random_batch(task.config)
    batch = dataclasses.replace(batch, features={"audio": np.repeat(batch.features["audio"][:1], 2, axis=0)})
    run = jax.jit(Loss({"a": task}, {"a": 1.0}, "train"))
    return np.asarray(run({}, {"a": batch}, key)[1]["sound"])


def test_a_step_changes_the_sound_before_a_task_hears_it():
    """Both videos differently, and anew in every step; without settings nothing is computed."""
    settings = {"gain_db": 6.0, "mix": 1.0}
    first, again = seen(jax.random.key(0), **settings), seen(jax.random.key(1), **settings)
    assert first.shape == (2, 8, 8, 8) and first.dtype == np.float32
    assert len({x.tobytes() for x in [*first, *again]}) == 4
    assert seen(jax.random.key(0), mix=1.0).dtype == np.int16
    untouched = seen(jax.random.key(0))
    np.testing.assert_array_equal(untouched[0], random_batch(Seen().config).features["audio"][0])


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        ({"mix": 1.5}, r"audio\.mix must be at most 1"),
        ({"gain_db": 100.0}, r"gain_db must be at most 60"),
        ({"mix_snr_db": (10.0, 0.0)}, r"mix_snr_db must be \(low, high\)"),
        (
            {"frequency_masks": 1, "frequency_mask_mels": 9},
            r"mels = 9 is more than config\.model\.audio\.num_mels",
        ),
        ({"time_masks": 1, "time_mask_s": 0.0}, r"time_mask_s must be at least 0\.001"),
    ],
)
def test_settings_that_cannot_be(augmentation, message):
    with pytest.raises(UserError, match=message):
        tiny_config(model=SOUND, data=data(**augmentation))
