"""The TFDS builder: VideoRecords + video files → TFRecord shards (`unloc_data/<dataset>`).

Each example is one video: its annotations and its JPEG frames at 0/fps, 1/fps, 2/fps, …
`data_pipelines.build.build` prepares it; once prepared, `tfds.builder_from_directory(find_dataset(out))`
reads it like any TFDS dataset.
"""

import collections
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from data_pipelines.annotations import PARSERS
from data_pipelines.annotations.problems import Problems
from data_pipelines.annotations.split_names import SPLITS
from data_pipelines.builders.fit import fit_to_video
from data_pipelines.builders.frames import EncodedVideo, EncodeTask, UnusableVideo
from data_pipelines.builders.pool import encode_videos
from data_pipelines.builders.video_files import find_video
from unloc_jax.errors import UserError
from unloc_jax.records import VideoRecord


@dataclasses.dataclass
class SplitCounts:
    """What one split of the built dataset holds; `megabytes` is that of the JPEG frames."""

    videos: int = 0
    segments: int = 0
    texts: set[str] = dataclasses.field(default_factory=set)
    frames: int = 0
    megabytes: float = 0.0


@dataclasses.dataclass
class BuildSource:
    """What a build reads, and what it reports.

    Attributes:
      records: the annotated videos of all splits.
      videos: the folder with the video files.
      fps: frames per second to store.
      short_side: shorter side of the stored frames in pixels.
      jpeg_quality: 1 to 100.
      workers: decoding processes.
      report: JSON Lines file to which unusable videos are written, with reasons.
      problems: findings about the videos, by kind.
      counts: by split, filled while building.
    """

    records: list[VideoRecord]
    videos: Path
    fps: float
    short_side: int
    jpeg_quality: int
    workers: int
    report: Path
    problems: Problems = dataclasses.field(default_factory=Problems)
    counts: dict[str, SplitCounts] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(SplitCounts)
    )


class UnlocData(tfds.core.GeneratorBasedBuilder):
    """Untrimmed videos with segments and texts; one config per annotation parser."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in sorted(PARSERS)]  # noqa: RUF012

    def __init__(self, *, source: BuildSource | None = None, **kwargs: Any):
        """`source` is needed to prepare the dataset, not to read a prepared one."""
        super().__init__(**kwargs)
        self._source = source

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Untrimmed videos with segments and a text for each segment.",
            features=tfds.features.FeaturesDict(
                {
                    "video_id": tfds.features.Text(),
                    "duration_s": np.float32,
                    "fps": np.float32,
                    "frames": tfds.features.Sequence(
                        tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
                    ),
                    "segments_s": tfds.features.Tensor(shape=(None, 2), dtype=np.float32),
                    "texts": tfds.features.Sequence(tfds.features.Text()),
                    # One JSON object per segment.
                    "attributes": tfds.features.Sequence(tfds.features.Text()),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded: the user has the files
        source = self._source
        if source is None:
            raise UserError("unloc_data needs annotations and videos: build it with `unloc data build …`.")
        by_split = {split: [r for r in source.records if r.split == split] for split in SPLITS}
        return {
            split: self._generate_examples(split, records) for split, records in by_split.items() if records
        }

    def _generate_examples(
        self, split: str, records: list[VideoRecord]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        source = self._source
        assert source is not None
        by_id = {record.video_id: record for record in records}
        reasons: collections.Counter[str] = collections.Counter()

        def unusable(video_id: str, kind: str, reason: str) -> None:
            reasons[kind] += 1
            source.problems.add(f"video skipped: {kind}", f"{split}: {video_id}", reason)
            with source.report.open("a", encoding="utf-8") as report:
                line = {"video_id": video_id, "split": split, "kind": kind, "reason": reason}
                report.write(json.dumps(line, ensure_ascii=False) + "\n")

        tasks: list[EncodeTask] = []
        for record in records:
            path = find_video(source.videos, record.video_id)
            if path is None:
                unusable(
                    record.video_id, "missing", f"no file {source.videos / record.video_id}.mp4 (or .mkv, …)"
                )
            else:
                tasks.append(
                    EncodeTask(record.video_id, path, source.fps, source.short_side, source.jpeg_quality)
                )

        with tqdm(total=len(tasks), desc=f"decoding {split}", unit="video", file=sys.stderr) as progress:
            for task, result in encode_videos(tasks, source.workers):
                progress.update()
                if isinstance(result, UnusableVideo):
                    unusable(task.video_id, result.kind, result.reason)
                    continue
                fitted = fit_to_video(by_id[task.video_id], result.duration_s, source.problems)
                if fitted is None:
                    reason = f"{task.path}: {result.duration_s:.1f} s long"
                    unusable(task.video_id, "no segment inside the video", reason)
                    continue
                self._count(split, fitted, result)
                yield fitted.video_id, _example(fitted, result, source.fps)
        if not source.counts[split].videos:
            why = ", ".join(f"{kind} ({count})" for kind, count in reasons.most_common())
            raise UserError(
                f"None of the {len(records)} videos of the split {split!r} can be used: {why}. "
                f"See {source.report}; is {source.videos} the right video folder?"
            )

    def _count(self, split: str, record: VideoRecord, video: EncodedVideo) -> None:
        assert self._source is not None
        counts = self._source.counts[split]
        counts.videos += 1
        counts.segments += len(record.texts)
        counts.texts.update(record.texts)
        counts.frames += len(video.frames)
        counts.megabytes += sum(map(len, video.frames)) / 1e6


def _example(record: VideoRecord, video: EncodedVideo, fps: float) -> dict[str, Any]:
    return {
        "video_id": record.video_id,
        "duration_s": record.duration_s,
        "fps": fps,
        "frames": video.frames,
        "segments_s": record.segments_s,
        "texts": record.texts,
        "attributes": [json.dumps(attributes, ensure_ascii=False) for attributes in record.attributes],
    }
