"""Limits of the demo's inputs, checked before work begins."""

import dataclasses
from pathlib import Path

from unloc_jax.errors import UserError
from unloc_jax.inference.predictions import clock
from unloc_jax.names import normal_text
from unloc_jax.video import probe, video_length_s

# 8K; decoding needs a few frames of this size in memory.
_MAX_PIXELS = 7680 * 4320


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of one request.

    Attributes:
      max_bytes: of a video file.
      max_s: of a video's length, in seconds.
      max_texts: sentences.
      max_characters: of one sentence.
    """

    max_bytes: int = 200 * 10**6
    max_s: float = 600.0
    max_texts: int = 50
    max_characters: int = 500

    def __str__(self) -> str:
        return f"up to {self.max_s / 60:g} minutes and {megabytes(self.max_bytes)}"

    def check_size(self, size: int, name: str) -> None:
        """Raises UserError for a file of too many bytes."""
        if size > self.max_bytes:
            raise UserError(
                f"{name} has {megabytes(size)}; this demo takes videos of {self}. Make it smaller or cut it."
            )

    def check_length(self, length_s: float, name: str) -> None:
        """Raises UserError for a video of so many seconds or more, if that is too long."""
        if length_s > self.max_s:
            raise UserError(
                f"{name} is {clock(length_s)} long or longer; this demo takes videos of {self}. Cut it."
            )

    def check_video(self, path: Path, name: str) -> float:
        """Returns the length in seconds of a video that the demo takes, by its header or its packets.

        Raises:
          UserError: the file is too large, no usable video, too long, or its picture is too large.
        """
        self.check_size(path.stat().st_size, name)
        info = probe(path)
        if info.width * info.height > _MAX_PIXELS:
            raise UserError(
                f"{name} has pictures of {info.width}×{info.height} pixels; up to 8K can be used."
            )
        length_s = video_length_s(path, info)
        self.check_length(length_s, name)
        return length_s

    def sentences(self, text: str) -> list[str]:
        """Returns the lines of a text that are not empty.

        Raises:
          UserError: there are too many, or one is too long.
        """
        texts = [line for line in map(normal_text, text.splitlines()) if line]
        if len(texts) > self.max_texts:
            raise UserError(f"{len(texts)} sentences; this demo takes up to {self.max_texts} at once.")
        for number, sentence in enumerate(texts, 1):
            if len(sentence) > self.max_characters:
                raise UserError(
                    f"sentence {number} has {len(sentence)} characters; up to {self.max_characters} can be used."
                )
        return list(dict.fromkeys(texts))


def megabytes(size: int) -> str:
    return f"{size / 10**6:.3g} MB" if size < 10**9 else f"{size / 10**9:.3g} GB"
