"""Changes to the sound of training videos: others' sounds as background, loudness, hidden bands and times."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from unloc_jax.config import AudioAugmentationConfig

_SILENCE_DB = -100.0  # the floor of `unloc_jax.model.log_mel`


def mix_sounds(
    samples: jax.Array, heard: jax.Array, key: jax.Array, config: AudioAugmentationConfig
) -> jax.Array:
    """Adds another video's sound to that of some videos, place by place.

    Both are as loud as on average over the places where they are heard. Videos without sound, or with nothing but
    zeros, neither get nor are a background.

    Args:
      samples: int16 [B, T, C].
      heard: bool [B, T], True = there is sound at the place.
      key: Typed random key.
      config: `mix` and `mix_snr_db`.

    Returns:
      int16 [B, T, C]; what does not fit is clipped.
    """
    count = len(samples)
    if count < 2:
        return samples
    chance_key, which_key, level_key = jax.random.split(key, 3)
    which = (jnp.arange(count) + jax.random.randint(which_key, (count,), 1, count)) % count
    squares = jnp.square(samples.astype(jnp.float32)).mean(2)
    power = (squares * heard).sum(1) / jnp.maximum(heard.sum(1), 1)
    low, high = config.mix_snr_db
    level_db = jax.random.uniform(level_key, (count,), minval=low, maxval=high)
    mixed = jax.random.uniform(chance_key, (count,)) < config.mix
    mixed &= (power > 0) & (power[which] > 0)
    ratio = power / jnp.maximum(power[which], 1e-6)
    factor = jnp.where(mixed, jnp.sqrt(ratio) * 10 ** (-level_db / 20), 0.0)
    background = jnp.where((heard & heard[which])[:, :, None], samples[which], 0)
    total = samples.astype(jnp.float32) + factor[:, None, None] * background.astype(jnp.float32)
    return jnp.clip(jnp.round(total), -32768, 32767).astype(jnp.int16)


def change_spectrograms(
    spectrograms: jax.Array,
    keys: jax.Array,
    config: AudioAugmentationConfig,
    heard: jax.Array,
    span_s: jax.Array,
    column_s: Sequence[float],
) -> jax.Array:
    """Changes the loudness and hides bands and stretches of time, with one draw per video for all of its places.

    A hidden stretch is one of the video's time: places whose windows overlap miss the same sound.

    Args:
      spectrograms: float32 [B, T, F, M] in decibels.
      keys: Typed random keys [B], one per video.
      config: Static; what is 0 costs nothing.
      heard: bool [B, T], True = there is sound at the place.
      span_s: float32 [B, 2], times of the first and the last place.
      column_s: F times of frames in seconds from their place.

    Returns:
      float32 [B, T, F, M].
    """

    def change_video(sound: jax.Array, key: jax.Array, heard: jax.Array, span_s: jax.Array) -> jax.Array:
        gain_key, band_key, time_key = jax.random.split(key, 3)
        if config.gain_db:
            gain = jax.random.uniform(gain_key, (), minval=-config.gain_db, maxval=config.gain_db)
            # Silence stays what it is.
            sound = jnp.where(sound > _SILENCE_DB, jnp.maximum(sound + gain, _SILENCE_DB), sound)
        places, frames, bands = sound.shape
        hidden = jnp.zeros((places, frames, bands), bool)
        if config.frequency_masks:
            shape, most = (config.frequency_masks,), config.frequency_mask_mels
            width_key, first_key = jax.random.split(band_key)
            width = jax.random.randint(width_key, shape, 0, most + 1)
            first = jax.random.randint(first_key, shape, 0, bands - width + 1)
            hidden |= _inside(jnp.arange(bands), first, first + width)
        if config.time_masks:
            shape = (config.time_masks,)
            length_key, start_key = jax.random.split(time_key)
            length = jax.random.uniform(length_key, shape, maxval=config.time_mask_s)
            place_s = jnp.linspace(span_s[0], span_s[1], places)
            low = place_s[jnp.argmax(heard)] - length
            high = place_s[places - 1 - jnp.argmax(heard[::-1])]
            start = jax.random.uniform(start_key, shape) * (high - low) + low
            time_s = place_s[:, None] + jnp.asarray(column_s)
            hidden |= _inside(time_s, start, start + length)[:, :, None]
        weight = heard[:, None, None] * jnp.ones_like(sound)
        mean = (sound * weight).sum() / jnp.maximum(weight.sum(), 1)
        return jnp.where(hidden, mean, sound)

    return jax.vmap(change_video)(spectrograms, keys, heard, span_s)


def _inside(x: jax.Array, start: jax.Array, end: jax.Array) -> jax.Array:
    """Returns whether x [...] lies in any of the stretches [start, end), each [n]: bool [...]."""
    return ((x[..., None] >= start) & (x[..., None] < end)).any(-1)
