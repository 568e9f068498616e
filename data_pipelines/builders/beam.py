"""A build on Apache Beam: a cluster decodes and writes the shards (docs/building.md).

Each video is decoded in its own process, so that one that crashes its decoder does not end a worker again and again.
Findings return to the machine that started the build as lines of JSON in `out`.
"""

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from data_pipelines.annotations.split_names import SPLITS
from data_pipelines.builders.encoded_videos import EncodedVideos
from data_pipelines.builders.examples import Findings, example_to_store
from data_pipelines.builders.frames import EncodedVideo, UnusableVideo
from data_pipelines.builders.pool import encode_videos
from data_pipelines.builders.report import BuildReport
from data_pipelines.builders.source import BuildSource
from unloc_jax.errors import UserError
from unloc_jax.records import VideoRecord

_FINDINGS = "beam_findings"


class BeamBuild:
    """Converts records to examples on the machines of a Beam runner.

    Attributes:
      source: videos, features and settings; every machine needs access to the folders.
    """

    def __init__(
        self,
        source: BuildSource,
        records: list[VideoRecord],
        out: Path,
        options: Sequence[str] | PipelineOptions,
        report: BuildReport,
    ):
        """Prepares a build.

        Args:
          source: videos, features and settings.
          records: of all splits.
          out: the folder of the build, which every machine can write to.
          options: Beam's pipeline options, such as ["--runner=DataflowRunner"].
          report: receives the findings.
        """
        self.source = source
        self._records = records
        self._findings = out / _FINDINGS
        self._options = options if isinstance(options, PipelineOptions) else PipelineOptions(list(options))
        self._report = report

    def start(self) -> dict[str, beam.PTransform]:
        """Returns the transform that makes a split's examples, by split, for the TFDS builder."""
        self._remove_findings()
        self._findings.mkdir()
        by_split = {split: [r for r in self._records if r.split == split] for split in SPLITS}
        return {
            split: _MakeExamples(self.source, records, str(self._findings / split))
            for split, records in by_split.items()
            if records
        }

    def prepare(self, builder: Any, download_dir: str) -> None:
        """Runs the pipeline.

        Raises:
          UserError: a split has no usable video.
        """
        import tensorflow_datasets as tfds

        config = tfds.download.DownloadConfig(beam_options=self._options)
        try:
            builder.download_and_prepare(download_dir=download_dir, download_config=config)
        except Exception as error:
            if "number of generated examples is 0" not in str(error):
                raise
            raise UserError(
                "A split has no usable video at all. Are these the right folders for these annotations, and are "
                "they there on all machines?"
            ) from error
        found = [
            Findings.from_json(line)
            for file in self._findings.iterdir()
            for line in file.read_text("utf-8").splitlines()
        ]
        order = {(record.split, record.video_id): i for i, record in enumerate(self._records)}
        self._report.begin_file()
        for findings in sorted(found, key=lambda f: order[f.split, f.video_id]):
            self._report.add(findings)
        self._remove_findings()

    def _remove_findings(self) -> None:
        if self._findings.exists():
            for file in self._findings.iterdir():
                file.unlink()
            self._findings.rmdir()


class _MakeExamples(beam.PTransform):
    """Makes (video id, example) pairs, and writes findings to files."""

    def __init__(self, source: BuildSource, records: list[VideoRecord], findings: str):
        super().__init__()
        self._source = source
        self._records = records
        self._findings = findings

    def expand(self, begin: Any) -> Any:
        made = (
            begin
            | beam.Create(self._records)
            | beam.Reshuffle()  # otherwise one machine might process all of them
            | beam.ParDo(_MakeExample(self._source)).with_outputs("findings", main="examples")
        )
        _ = made.findings | beam.io.WriteToText(self._findings)
        return made.examples


class _MakeExample(beam.DoFn):
    def __init__(self, source: BuildSource):
        self._source = source

    def process(self, record: VideoRecord) -> Iterator[Any]:
        video = _encode(self._source, record.video_id) if self._source.videos is not None else None
        features = {} if isinstance(video, UnusableVideo) else self._source.read_features(record.video_id)
        example, findings = example_to_store(record, video, features, self._source)
        if example is not None:
            yield record.video_id, example
        yield beam.pvalue.TaggedOutput("findings", findings.to_json())


def _encode(source: BuildSource, video_id: str) -> EncodedVideo | UnusableVideo:
    task = source.task(video_id)
    missing = source.missing(task)
    if missing is not None:
        return missing
    with tempfile.TemporaryDirectory() as folder, _local_copy(task.path, Path(folder)) as path:
        task = dataclasses.replace(task, path=path)
        encoded = EncodedVideos(Path(folder))
        (((_, unusable)),) = encode_videos([task], encoded, workers=1)
        return (
            unusable or encoded.load(task) or UnusableVideo("cannot be read", f"{path}: no frames were kept.")
        )


@contextlib.contextmanager
def _local_copy(path: Path, folder: Path) -> Iterator[Path]:
    """Yields a local path for FFmpeg, copying a file from a cloud ("gs://…") to `folder` first."""
    if isinstance(path, Path):
        yield path
        return
    local = folder / path.name
    with path.open("rb") as remote, local.open("wb") as copy:
        shutil.copyfileobj(remote, copy)
    yield local
