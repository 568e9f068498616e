"""Combines a video's annotations, frames and features into a consistent example, or reports why it is unusable."""

import dataclasses
import json
from typing import Any

import numpy as np

from data_pipelines.annotations.problems import Problem
from data_pipelines.builders.feature_files import StoredFeatures
from data_pipelines.builders.fit_to_duration import fit_to_video, lengths_differ
from data_pipelines.builders.frames import EncodedVideo, UnusableVideo
from data_pipelines.builders.source import BuildSource
from unloc_jax.queries import not_shown
from unloc_jax.records import VideoRecord

UNKNOWN_DURATION = "unknown duration"
# Of one example: protocol buffers end at 2 GiB, and a record is read as a whole.
_MAX_BYTES = 2_000_000_000


@dataclasses.dataclass(frozen=True)
class Findings:
    """The outcome of one video; small.

    Attributes:
      video_id, split: of the record.
      unusable: why it is left out; None if it is stored.
      problems: what was corrected.
      segments: number of stored segments; of a video that is left out, of its annotated ones.
      texts: the texts of the stored segments.
      frames: number of stored frames.
      bytes: of the stored frames and the stored sound.
      with_sound: whether it has sound.
      rows: for features without stored times, (number of rows, seconds they span) by modality.
    """

    video_id: str
    split: str
    unusable: UnusableVideo | None = None
    problems: list[Problem] = dataclasses.field(default_factory=list)
    segments: int = 0
    texts: list[str] = dataclasses.field(default_factory=list)
    frames: int = 0
    bytes: int = 0
    with_sound: bool = False
    rows: dict[str, tuple[int, float]] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Findings":
        fields = json.loads(text)
        unusable = fields.pop("unusable")
        problems = [Problem(**problem) for problem in fields.pop("problems")]
        rows = {name: tuple(of_video) for name, of_video in fields.pop("rows").items()}
        return cls(**fields, unusable=unusable and UnusableVideo(**unusable), problems=problems, rows=rows)


def example_to_store(
    record: VideoRecord,
    video: EncodedVideo | UnusableVideo | None,
    features: dict[str, StoredFeatures] | UnusableVideo,
    source: BuildSource,
) -> tuple[dict[str, Any] | None, Findings]:
    """Returns the example that the TFDS builder encodes, and the findings.

    Args:
      record: as parsed.
      video: its frames; None for a dataset without frames.
      features: by modality; empty for a dataset without features.
      source: settings of the build.

    Returns:
      The example, None if the video cannot be used, and the findings.
    """
    problems: list[Problem] = []

    def unusable(why: UnusableVideo) -> tuple[None, Findings]:
        segments = len(record.segments_s) + len(not_shown(record))
        return None, Findings(record.video_id, record.split, why, problems, segments)

    for part in (video, features):
        if isinstance(part, UnusableVideo):
            return unusable(part)
    assert not isinstance(video, UnusableVideo) and not isinstance(features, UnusableVideo)
    where = f"{record.split}: {record.video_id}"
    measured = [stored.duration_s for stored in features.values() if stored.duration_s is not None]
    if video is not None:
        problems += [Problem(note.kind, where, note.detail) for note in video.notes]
        measured.insert(0, video.duration_s)
    if measured:
        fitted = fit_to_video(record, measured[0], problems)
        if fitted is None:
            reason = f"{record.video_id}: all its segments begin after its end at {measured[0]:.1f} s."
            return unusable(UnusableVideo("no segment inside the video", reason))
        record = fitted
    elif not record.duration_s:
        return unusable(
            UnusableVideo(
                UNKNOWN_DURATION,
                f"{record.video_id}: the annotations do not tell its length, and there are no frames to measure it.",
            )
        )
    length_s = measured[0] if measured else record.duration_s
    for name, stored in features.items():
        if stored.end_s is not None and lengths_differ(stored.end_s, length_s):
            detail = f"features until {stored.end_s:.2f} s, the video lasts {length_s:.2f} s"
            problems.append(Problem(f"{name} features: another length than the video", where, detail))
    frames = video.frames if video is not None else []
    sound = video.sound if video is not None else None
    num_bytes = sum(map(len, frames)) + (0 if sound is None else sound.samples.nbytes)
    if num_bytes + sum(stored.rows.nbytes for stored in features.values()) > _MAX_BYTES:
        reason = (
            f"{record.video_id}: {num_bytes / 1e9:.1f} GB of frames and sound, more than one record can hold. "
            "Build with a lower --fps, --short-side, --jpeg-quality or --audio."
        )
        return unusable(UnusableVideo("too long", reason))
    example = {
        "video_id": record.video_id,
        "duration_s": record.duration_s,
        "fps": source.fps if video is not None else 0.0,
        "segments_s": record.segments_s,
        "texts": record.texts,
        "attributes": [json.dumps(attributes, ensure_ascii=False) for attributes in record.attributes],
        "saliency": json.dumps(
            {text: scores.tolist() for text, scores in record.saliency.items()}, ensure_ascii=False
        ),
    }
    if source.has_frames:
        example["frames"] = frames
    if source.sound_rate:
        example["sound"] = b"" if sound is None else sound.samples.astype("<i2", copy=False).tobytes()
        example["sound_rate"] = 0 if sound is None else sound.rate
        heard = np.zeros((0, 2)) if sound is None else sound.heard
        example["sound_heard"] = heard.astype(np.float32)
    if features:
        unknown = np.zeros(0, np.float32)
        example["features"] = {name: stored.rows for name, stored in features.items()}
        example["feature_rows"] = {name: len(stored.rows) for name, stored in features.items()}
        example["feature_times_s"] = {
            name: unknown if stored.times_s is None else stored.times_s.astype(np.float32)
            for name, stored in features.items()
        }
    findings = Findings(
        record.video_id,
        record.split,
        problems=problems,
        segments=len(record.segments_s),
        texts=record.texts,
        frames=len(frames),
        bytes=num_bytes,
        with_sound=sound is not None,
        rows={
            name: (len(stored.rows), length_s) for name, stored in features.items() if stored.times_s is None
        },
    )
    return example, findings
