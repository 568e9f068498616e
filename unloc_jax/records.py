"""VideoRecord: the common format of annotation parsers, builders and readers."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from unloc_jax.sound_windows import Sound


@dataclasses.dataclass
class VideoRecord:
    """One untrimmed video with its annotated segments, on the host.

    Attributes:
      video_id: the dataset's own id.
      duration_s: length in seconds, on which metrics are computed. Parsers take it from the annotation file if it has
        one.
      split: "train", "validation" or "test".
      segments_s: float32 [S, 2], start and end in seconds.
      texts: S strings: the query (moment retrieval) or the class name (action localisation) of each segment. A record
        without segments (S = 0: the segments of a test split are secret, or only highlight scores exist) still has its
        Q queries here, and Q attributes.
      attributes: S dictionaries that describe the texts, such as {"object": "red circle", "motion": "left"}; empty if
        unknown. Evaluation uses them to measure which part of a query the model understands. A record without texts
        may hold one, of segments that cannot be shown and of queries without an answer (see `unloc_jax.queries`).
      fps: frames per second of `frames`; 0 before the video has been decoded.
      frames: JPEG bytes of frames 0/fps, 1/fps, 2/fps, …; empty before the video has been decoded.
      features: float32 [F, D] by modality, precomputed features of the whole video; F and D may differ between
        modalities.
      feature_times_s: float32 [F] by modality, seconds of its rows. For a modality that is absent here, row i is at
        (i + 0.5) · duration_s / F, the middle of the i-th of F equal parts.
      saliency: highlight scores by text, float32 [num_clips, num_annotators], where clip i lasts from 2·i to 2·i + 2
        seconds; higher is better, in the dataset's own units. Texts without scores are absent.
      sound: the sound track; None if the video has none, or before it has been read.
    """

    video_id: str
    duration_s: float
    split: str
    segments_s: np.ndarray
    texts: list[str]
    attributes: list[dict[str, str]]
    fps: float = 0.0
    frames: Sequence[bytes | memoryview] = dataclasses.field(default_factory=list)
    features: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    feature_times_s: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    saliency: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    sound: Sound | None = None
