"""VideoRecord: what every annotation parser produces, every builder writes and every reader returns."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass
class VideoRecord:
    """One untrimmed video with its annotated segments, on the host.

    Attributes:
      video_id: the dataset's own id.
      duration_s: length in seconds. Parsers take it from the annotation file where the file says it;
        metrics are computed on this length.
      split: "train", "validation" or "test".
      segments_s: float32 [S, 2], start and end in seconds.
      texts: S strings: the query (moment retrieval) or the class name (action localisation) of each segment.
        A record without segments (S = 0: the segments of a test split are secret, or only highlight scores
        are known) keeps its Q queries here all the same, and Q attributes.
      attributes: S dictionaries saying what a text is made of, such as {"object": "red circle",
        "motion": "left"}; empty dictionaries where unknown. Evaluation uses them to tell which part of
        a query the model understands.
      fps: frames per second of `frames`; 0 before the video has been decoded.
      frames: JPEG bytes of frames 0/fps, 1/fps, 2/fps, …; empty before the video has been decoded.
      features: per modality float32 [F, D], precomputed features of the whole video; F and D may differ
        between modalities.
      feature_times_s: per modality float32 [F], when its rows are. A modality without: row i stands for the time
        (i + 0.5) · duration_s / F, the middle of the i-th of F equal parts.
      saliency: highlight scores: for a text, float32 [num_clips, num_annotators], where clip i is the time
        from 2·i to 2·i + 2 seconds; the higher the better, in the dataset's own units. Texts without scores
        are not in it.
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
