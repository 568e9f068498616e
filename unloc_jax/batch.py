"""Batch: the input of a step on the device. Sizes: B videos, T frames, S segments, Q queries, L tokens."""

import dataclasses
from typing import Any

import flax.struct
import jax


@flax.struct.dataclass
class Batch:
    """One global batch. Masks are True for real entries, False for padding.

    Attributes:
      frames: uint8 [B, T, H, W, 3], cropped and not normalised (the model normalises on the device); None if the model
        reads only features.
      frame_mask: bool [B, T].
      text_tokens: int32 [B, Q, L]; the queries of each video. Q is 0 for tasks with a vocabulary.
      text_mask: bool [B, Q].
      segments: float32 [B, S, 2], start and end in grid units: 0 is the first sampled frame, T-1 the last.
      segment_text: int32 [B, S], the query or class of each segment; -1 for padding.
      span_s: float32 [B, 2], times in seconds of the first and the last sampled frame.
      example_mask: bool [B]; False for unreadable videos and for rows that fill up the last evaluation batch.
      features: other modalities by name, float32 [B, T, D]; "audio" of a model that hears: int16 [B, T, C], samples
        around each place.
      input_masks: bool [B, T] by modality, True = this video has the modality there; modalities without an entry are
        always there.
      vocabulary: TextFeatures [1, C, R, …] of the classes in all prompts, from `UnLoc.encode_words`, if they are the
        same in every step; a step adds them to the batches of its task.
    """

    frames: jax.Array | None
    frame_mask: jax.Array
    text_tokens: jax.Array
    text_mask: jax.Array
    segments: jax.Array
    segment_text: jax.Array
    span_s: jax.Array
    example_mask: jax.Array
    features: dict[str, jax.Array] = dataclasses.field(default_factory=dict)
    input_masks: dict[str, jax.Array] = dataclasses.field(default_factory=dict)
    vocabulary: Any = None

    @property
    def inputs(self) -> dict[str, jax.Array]:
        """Returns the modalities by name; the frames are "rgb"."""
        frames = {} if self.frames is None else {"rgb": self.frames}
        return frames | self.features

    @property
    def seen(self) -> tuple[dict[str, jax.Array], jax.Array, dict[str, jax.Array]]:
        """Returns what `UnLoc.encode_video` takes: (inputs, frame_mask, input_masks)."""
        return self.inputs, self.frame_mask, self.input_masks
