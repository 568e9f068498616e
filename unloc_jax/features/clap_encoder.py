"""CLAP as an encoder: windows of sound → a row each, and texts in the same space."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from unloc_jax.errors import UserError
from unloc_jax.features.encoder import digest
from unloc_jax.features.sound_stream import GivenSound, SoundStream
from unloc_jax.features.text_encoder import TextEncoder
from unloc_jax.model.clap import Clap
from unloc_jax.pretrained.clap import TITLE, ClapWeights
from unloc_jax.sound import SoundBlocks
from unloc_jax.sound_inputs import sound_of_samples
from unloc_jax.sound_windows import Sound
from unloc_jax.text_reader import TextReader

_WINDOW_S = 2.0
_SHORTEST_WINDOW_S = 0.1


class ClapEncoder(TextEncoder):
    """Embeds sounds and texts by CLAP.

    A row is made of the window of sound around its time, as if that were a recording by itself: shorter than what
    CLAP hears (10 seconds), it is repeated. Windows overlap if they are longer than the distance of the rows. See
    `SoundStream` for the borders.

    Args:
      weights: as `read_clap` returns them.
      dtype, batch_size: see `Encoder`.

    Attributes:
      weights: as given.
      window_s: length of a window in seconds.
    """

    reads = "windows"
    hears = True

    def __init__(self, weights: ClapWeights, dtype: DTypeLike = jnp.float32, batch_size: int = 32):
        self.weights = weights
        super().__init__(weights.params, dtype, batch_size)
        self.source, self.name = weights.source, weights.name
        self.label = f"{TITLE}, not trained to localise"
        self.embed_dim = weights.config.embed_dim
        self.logit_scale = float(np.exp(weights.params["logit_scale_a"]))
        self.window_s = min(_WINDOW_S, float(weights.mel.seconds))
        self._model = Clap(weights.config, dtype)

    def fingerprint(self) -> str:
        told = [dataclasses.asdict(self.weights.config), dataclasses.asdict(self.weights.mel)]
        return digest(told, self.weights.params)

    def settings(self) -> dict[str, Any]:
        return {"window_s": self.window_s}

    def use_window(self, window_s: float) -> None:
        longest = self.weights.mel.seconds
        if not _SHORTEST_WINDOW_S <= window_s <= longest:
            raise UserError(
                f"--window={window_s:g}: {self.name} hears from {_SHORTEST_WINDOW_S:g} to {longest} seconds at a time."
            )
        self.window_s = float(window_s)

    def sees(self, fps: float) -> str:
        return f"{fps:g} windows per second, of {self.window_s:g} s of sound"

    def open(
        self, path: Path, fps: float, *, offset: float = 0.0, threads: int = 0, track: int | None = None
    ) -> SoundStream:
        """Opens the sound of a file as windows; `track` as for `unloc_jax.sound.read_sound`."""
        blocks = SoundBlocks(path, self.weights.mel.rate, track)
        return SoundStream(blocks, window_s=self.window_s, fps=fps, offset=offset)

    def open_samples(self, samples: np.ndarray, rate: float | None, fps: float) -> SoundStream:
        """Opens samples as the sound of a file; see `sound_of_samples`."""
        sound = sound_of_samples(samples, rate, self.weights.mel.rate)
        return SoundStream(GivenSound(sound), window_s=self.window_s, fps=fps)

    def open_sound(self, sound: Sound | None, duration_s: float, fps: float) -> SoundStream:
        """Opens the sound of a video of `duration_s` seconds, resampled, as windows; None = silence."""
        rate = self.weights.mel.rate
        if sound is None or not len(sound.samples):
            sound = Sound(np.zeros(0, np.int16), rate, np.zeros((0, 2)))
        elif sound.rate != rate:
            sound = sound_of_samples(sound.samples, sound.rate, rate)
        return SoundStream(GivenSound(sound, duration_s), window_s=self.window_s, fps=fps)

    def preprocess(self, samples: np.ndarray) -> np.ndarray:
        """Makes the spectrogram of a sound, int16 [S] or floating [S] in [-1, 1] → float32 [F, mel bins]."""
        return self.weights.mel(samples)

    def encode_sounds(self, sounds: Sequence[np.ndarray]) -> np.ndarray:
        """Embeds N sounds, as for `preprocess`, at the model's samples per second → float32 [N, D].

        Raises:
          ValueError: a sound is empty, or longer than the model hears.
        """
        return self._in_batches(self._compiled, np.stack([self.preprocess(sound) for sound in sounds]))

    def check_texts(self) -> None:
        _ = self._reader

    @property
    def most_pieces(self) -> int:  # type: ignore[override]
        return self._reader.most_pieces

    def _open_reader(self) -> TextReader:
        return self.weights.text_reader()

    def _of_inputs(self, params: Any, inputs: jax.Array) -> jax.Array:
        """Embeds spectrograms float32 [N, F, mel bins] → float32 [N, D]."""
        made: Any = self._model.apply({"params": params}, inputs, method="encode_sounds")
        return made

    def _of_tokens(self, params: Any, tokens: jax.Array) -> jax.Array:
        made: Any = self._model.apply({"params": params}, tokens, method="encode_texts")
        return made
