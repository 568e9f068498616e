"""VideoRecord: what every annotation parser produces, every builder writes and every reader returns."""

import dataclasses

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
      attributes: S dictionaries saying what a text is made of, such as {"object": "red circle",
        "motion": "left"}; empty dictionaries where unknown. Evaluation uses them to tell which part of
        a query the model understands.
      fps: frames per second of `frames`; 0 before the video has been decoded.
      frames: JPEG bytes of frames 0/fps, 1/fps, 2/fps, …; empty before the video has been decoded.
    """

    video_id: str
    duration_s: float
    split: str
    segments_s: np.ndarray
    texts: list[str]
    attributes: list[dict[str, str]]
    fps: float = 0.0
    frames: list[bytes] = dataclasses.field(default_factory=list)
