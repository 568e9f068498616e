"""The modules of a model's encoders: `TOWERS` has a line for each of `unloc_jax.config.towers.ENCODERS`.

A video tower is called with (frames [B, T, H, W, 3], frame_mask bool [B, T] or None) and returns a token per frame,
[B, T, D]. Frames are uint8, which the tower normalises, or floating if they already are. The tower of sound is called
with samples instead (see `AudioTower`). A text tower is called with the tokens that its tokenizer makes, int32
[..., L], and returns `TextFeatures`. All run as `ComputeOptions` says.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn

from unloc_jax.config import ModelConfig
from unloc_jax.model import videoprism_tower
from unloc_jax.model.audio_tower import AudioTower
from unloc_jax.model.clip import ImageTower, TextTower
from unloc_jax.model.transformer import ComputeOptions


class Towers(NamedTuple):
    """Makes the towers of one encoder.

    Attributes:
      video, text: (config, options) → the module; None if it has none.
    """

    video: Callable[[ModelConfig, ComputeOptions], nn.Module]
    text: Callable[[ModelConfig, ComputeOptions], nn.Module] | None


TOWERS: dict[str, Towers] = {
    "clip": Towers(
        lambda model, compute: ImageTower(model.image, compute),
        lambda model, compute: TextTower(model.text, compute),
    ),
    "videoprism": Towers(videoprism_tower.video_tower, videoprism_tower.text_tower),
    "audio": Towers(lambda model, compute: AudioTower(model.audio, compute), None),
}
