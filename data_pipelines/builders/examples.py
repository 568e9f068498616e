"""One video as it is stored: annotations, frames and features that fit together, or why it cannot be used."""

import dataclasses
import json
from typing import Any

import numpy as np

from data_pipelines.annotations.problems import Problem
from data_pipelines.builders.fit import fit_to_video
from data_pipelines.builders.frames import EncodedVideo, UnusableVideo
from unloc_jax.records import VideoRecord

# Of one example: protocol buffers end at 2 GiB, and a record is read as a whole.
_MAX_BYTES = 2_000_000_000


@dataclasses.dataclass(frozen=True)
class Findings:
    """What became of one video; small.

    Attributes:
      video_id, split: of the record.
      unusable: why it is left out; None if it is stored.
      problems: what had to be mended.
      segments: number of stored segments.
      texts: the texts of the stored segments.
      frames: number of stored frames.
      bytes: of the stored frames.
    """

    video_id: str
    split: str
    unusable: UnusableVideo | None = None
    problems: list[Problem] = dataclasses.field(default_factory=list)
    segments: int = 0
    texts: list[str] = dataclasses.field(default_factory=list)
    frames: int = 0
    bytes: int = 0

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Findings":
        fields = json.loads(text)
        unusable = fields.pop("unusable")
        problems = [Problem(**problem) for problem in fields.pop("problems")]
        return cls(**fields, unusable=unusable and UnusableVideo(**unusable), problems=problems)


def example_to_store(
    record: VideoRecord,
    video: EncodedVideo | UnusableVideo | None,
    features: dict[str, np.ndarray] | UnusableVideo,
    fps: float,
) -> tuple[dict[str, Any] | None, Findings]:
    """The example that the TFDS builder encodes, and what was found.

    Args:
      record: as parsed.
      video: its frames; None for a dataset without frames.
      features: float32 [F, D] per modality; empty for a dataset without features.
      fps: frames per second of `video`.

    Returns:
      The example, None if the video cannot be used; and the findings.
    """
    problems: list[Problem] = []

    def unusable(why: UnusableVideo) -> tuple[None, Findings]:
        return None, Findings(record.video_id, record.split, why, problems)

    for part in (video, features):
        if isinstance(part, UnusableVideo):
            return unusable(part)
    assert not isinstance(video, UnusableVideo) and not isinstance(features, UnusableVideo)
    if video is not None:
        fitted = fit_to_video(record, video.duration_s, problems)
        if fitted is None:
            reason = f"{record.video_id}: all its segments begin after its end at {video.duration_s:.1f} s."
            return unusable(UnusableVideo("no segment inside the video", reason))
        record = fitted
    elif not record.duration_s:
        return unusable(
            UnusableVideo(
                "unknown duration",
                f"{record.video_id}: the annotations do not tell its length, and there are no frames to measure it.",
            )
        )
    frames = video.frames if video is not None else []
    num_bytes = sum(map(len, frames))
    if num_bytes + sum(array.nbytes for array in features.values()) > _MAX_BYTES:
        reason = (
            f"{record.video_id}: {num_bytes / 1e9:.1f} GB of frames, more than one record can hold. Build with a "
            "lower --fps, --short-side or --jpeg-quality."
        )
        return unusable(UnusableVideo("too long", reason))
    example = {
        "video_id": record.video_id,
        "duration_s": record.duration_s,
        "fps": fps if video is not None else 0.0,
        "segments_s": record.segments_s,
        "texts": record.texts,
        "attributes": [json.dumps(attributes, ensure_ascii=False) for attributes in record.attributes],
        "saliency": json.dumps(
            {text: scores.tolist() for text, scores in record.saliency.items()}, ensure_ascii=False
        ),
    }
    if video is not None:
        example["frames"] = frames
    if features:
        example["features"] = features
        example["feature_rows"] = {name: len(array) for name, array in features.items()}
    findings = Findings(
        record.video_id,
        record.split,
        problems=problems,
        segments=len(record.segments_s),
        texts=record.texts,
        frames=len(frames),
        bytes=num_bytes,
    )
    return example, findings
