"""A tower that hears: the sound around each place of a video → one token per place (after AST, Gong et al. 2021)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from unloc_jax.config import AudioTowerConfig
from unloc_jax.model.log_mel import log_mel
from unloc_jax.model.transformer import ComputeOptions, Transformer

# Of spectrograms of speech and surroundings, about; what patches see has mean 0 and deviation 1.
_MEAN_DB, _DEVIATION_DB = -40.0, 20.0


class AudioTower(nn.Module):
    """A transformer over patches of each place's log-mel spectrogram, whose mean is the place's token.

    Attributes:
      config: Sizes. With `subtract_mean` the tower hears spectrograms minus each band's mean over what is heard of the
        video.
      compute: See `ComputeOptions`.
    """

    config: AudioTowerConfig
    compute: ComputeOptions = ComputeOptions()

    @nn.compact
    def __call__(self, sound: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Encodes sound.

        Args:
          sound: int16 [B, T, C], the samples around each place, or their spectrograms as `log_mel` returns them,
            float32 [B, T, F, M].
          mask: bool [B, T], True = there is sound at the place; None = everywhere.

        Returns:
          Tokens, [B, T, width] in the compute dtype.
        """
        config, dtype, layout = self.config, self.compute.dtype, self.compute.layout
        batch, time = sound.shape[:2]
        if sound.ndim == 3:
            sound = log_mel(sound, config, layout)
        sound = layout.constrain(sound, "videos", "frames", None, None)
        sound = sound - (_mean_of_bands(sound, mask) if config.subtract_mean else _MEAN_DB)
        patches = self._patches((sound / _DEVIATION_DB).astype(dtype))
        x = nn.Dense(config.width, dtype=dtype, name="patch_embedding")(patches)
        normal = nn.initializers.normal(config.width**-0.5)
        x = x + self.param("position_embedding", normal, x.shape[2:]).astype(dtype)
        x = x.reshape(batch, time, -1, config.width)
        devices = layout.num_shards("videos") * layout.num_shards("frames")
        x = Transformer(
            config.num_layers,
            config.num_heads,
            config.mlp_dim,
            dropout=config.dropout,
            compute=self.compute,
            num_chunks=self.compute.num_chunks(batch * time, devices),
            name="transformer",
        )(layout.merge(x, "videos", "frames"))
        x = nn.LayerNorm(dtype=dtype, name="norm_out")(x).mean(1)
        return layout.split(x, (batch, time), "videos", "frames")

    def _patches(self, sound: jax.Array) -> jax.Array:
        """Cuts patches: [B, T, F, M] → [B, T, bands, columns, numbers of a patch]."""
        config = self.config
        bands, columns = config.num_mels // config.patch_mels, config.num_frames // config.patch_frames
        first = (config.num_frames - columns * config.patch_frames) // 2
        sound = sound[:, :, first : first + columns * config.patch_frames]
        sound = sound.reshape(*sound.shape[:2], columns, config.patch_frames, bands, config.patch_mels)
        return sound.transpose(0, 1, 4, 2, 3, 5).reshape(*sound.shape[:2], bands, columns, -1)


def _mean_of_bands(sound: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Averages spectrograms [B, T, F, M] over the places of a video where mask, bool [B, T], is True: [B, 1, 1, M]."""
    if mask is None:
        return sound.mean((1, 2), keepdims=True)
    weights = mask[:, :, None, None].astype(sound.dtype)
    count = jnp.maximum(weights.sum(1, keepdims=True), 1)
    return (sound.mean(2, keepdims=True) * weights).sum(1, keepdims=True) / count
