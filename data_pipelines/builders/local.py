"""A build on this machine: encodes all frames into a folder first, so that it can continue when stopped."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from data_pipelines.annotations.split_names import SPLITS
from data_pipelines.builders.encoded_videos import EncodedVideos
from data_pipelines.builders.examples import example_to_store
from data_pipelines.builders.frames import EncodedVideo, EncodeTask, UnusableVideo
from data_pipelines.builders.pool import encode_videos
from data_pipelines.builders.report import BuildReport
from data_pipelines.builders.source import BuildSource
from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.records import VideoRecord

# After this many files in a row that existed and cannot be opened, the fault is not the files'.
_MAX_GONE_IN_A_ROW = 20
_GONE = ("missing", "cannot be opened")
_MAY_PASS = (*_GONE, "cannot be read")


class LocalBuild:
    """Converts records to examples.

    Attributes:
      source: videos, features and settings.
      records: of all splits.
    """

    def __init__(
        self,
        source: BuildSource,
        records: list[VideoRecord],
        encoded: EncodedVideos,
        workers: int,
        report: BuildReport,
    ):
        """Prepares a build.

        Args:
          source: videos, features and settings.
          records: of all splits.
          encoded: the videos encoded so far; receives the others.
          workers: decoding processes.
          report: receives the findings.
        """
        self.source = source
        self.records = records
        self._encoded = encoded
        self._workers = workers
        self._report = report
        # Reasons why videos have no frames, except for those that `encoded` stores.
        self._unusable: dict[str, UnusableVideo] = {}
        self._tasks: dict[str, EncodeTask] = {}

    def start(self) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        """Decodes and encodes the videos that are not yet encoded.

        Returns:
          An iterator over the examples of a split, by split, for the TFDS builder.

        Raises:
          UserError: the video folder has disappeared, or worker processes die.
          OSError: the disk is full.
        """
        self._report.begin_file()
        if self.source.videos is not None:
            self._encode()
            self._report.begin_file()
        there = {record.split for record in self.records}
        return {split: self._examples(split) for split in SPLITS if split in there}

    def prepare(self, builder: Any, download_dir: str) -> None:
        """Makes the TFDS builder write the examples.

        Raises:
          UserError: a split has no usable video.
        """
        builder.download_and_prepare(download_dir=download_dir)

    def _encode(self) -> None:
        self._encoded.folder.mkdir(exist_ok=True)
        split_of = {record.video_id: record.split for record in self.records}
        todo: list[EncodeTask] = []
        known = 0
        self._encoded.remove_unfinished()
        for video_id in split_of:
            task = self._tasks[video_id] = self.source.task(video_id)
            if self._encoded.known(task):
                known += 1
            elif (missing := self.source.missing(task)) is not None:
                self._skip(video_id, split_of[video_id], missing)
            else:
                todo.append(task)
        if known:
            show(f"{known} of {known + len(todo)} videos were encoded before")
        with tqdm(
            total=known + len(todo), initial=known, desc="decoding", unit="video", file=sys.stderr
        ) as progress:
            later = [task for task, _ in self._pass(todo, progress, split_of, last=False)]
            if later:  # a network drive, for example, may be back by now
                for task, unusable in self._pass(later, progress, split_of, last=True):
                    self._skip(task.video_id, split_of[task.video_id], unusable)

    def _pass(
        self, tasks: list[EncodeTask], progress: tqdm, split_of: dict[str, str], last: bool
    ) -> list[tuple[EncodeTask, UnusableVideo]]:
        """Encodes the tasks; returns the videos that could not be read although they existed before."""
        gone: list[tuple[EncodeTask, UnusableVideo]] = []
        in_a_row = 0
        for task, unusable in encode_videos(tasks, self._encoded, self._workers):
            if unusable is not None and unusable.kind in _MAY_PASS:
                gone.append((task, unusable))
                in_a_row = in_a_row + 1 if unusable.kind in _GONE else 0
                self._check_folder(unusable, in_a_row)
                progress.update(last)
                continue
            in_a_row = 0
            progress.update()
            if unusable is not None:
                self._skip(task.video_id, split_of[task.video_id], unusable)
                progress.set_postfix(unusable=len(self._unusable))
        return gone

    def _skip(self, video_id: str, split: str, unusable: UnusableVideo) -> None:
        self._unusable[video_id] = unusable
        # Lets users look while the build is running; the list is rewritten with the examples.
        self._report.list_unusable(video_id, split, unusable)

    def _check_folder(self, unusable: UnusableVideo, in_a_row: int) -> None:
        assert self.source.videos is not None
        if _has_files(self.source.videos) and in_a_row < _MAX_GONE_IN_A_ROW:
            return
        raise UserError(
            f"{self.source.videos}: the videos cannot be read any more ({unusable.reason.rstrip('.')}). Is the "
            "folder still mounted? When it is back, the same command continues where this one stopped."
        )

    def _examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields (video id, example) of the usable videos of a split, in the order of the annotations.

        Raises:
          UserError: the split has no usable video.
        """
        records = [record for record in self.records if record.split == split]
        for record in tqdm(records, desc=f"writing {split}", unit="video", file=sys.stderr):
            video = self._video(record.video_id) if self.source.videos is not None else None
            features = {} if isinstance(video, UnusableVideo) else self.source.read_features(record.video_id)
            example, findings = example_to_store(record, video, features, self.source)
            self._report.add(findings)
            if example is not None:
                yield record.video_id, example
        self._report.check_split(split)

    def _video(self, video_id: str) -> EncodedVideo | UnusableVideo:
        if video_id in self._unusable:
            return self._unusable[video_id]
        task = self._tasks[video_id]
        video = self._encoded.load(task)
        if video is None:  # the file was damaged after it had been written
            for _, unusable in encode_videos([task], self._encoded, workers=1):
                video = unusable or self._encoded.load(task)
        return video or UnusableVideo("cannot be read", f"{task.path}: its encoded frames are damaged.")


def _has_files(folder: Path) -> bool:
    try:
        return any(True for _ in folder.iterdir())
    except OSError:
        return False
