"""BuildSource: the inputs and settings of a build."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_pipelines.builders.feature_files import (
    FeatureSource,
    StoredFeatures,
    find_missing,
    read_all_features,
)
from data_pipelines.builders.frames import EncodeTask, UnusableVideo
from data_pipelines.builders.video_files import (
    NamedFiles,
    check_one_file_each,
    names_of,
    sound_files,
    video_files,
)
from data_pipelines.remote_paths import storage_path


@dataclasses.dataclass(frozen=True)
class BuildSource:
    """The inputs and settings of a build; small and picklable, because worker processes and machines get a copy.

    Attributes:
      videos: the folder with the video files; None builds without frames.
      fps: frames per second to store.
      short_side: shorter side of the stored frames in pixels.
      jpeg_quality: 1 to 100.
      features: locations of precomputed features.
      widths: D of each modality in `features`.
      sound_rate: samples per second of the sound to store; 0 = without sound.
      sound_track: see `unloc_jax.sound.read_sound`.
      with_frames: False reads only the sound of the videos.
    """

    videos: Path | None
    fps: float
    short_side: int
    jpeg_quality: int
    features: tuple[FeatureSource, ...] = ()
    widths: dict[str, int] = dataclasses.field(default_factory=dict)
    sound_rate: int = 0
    sound_track: int | None = None
    with_frames: bool = True

    def to_arguments(self) -> dict[str, Any]:
        """Returns the settings in the form of build.json; equal arguments give equal examples."""
        return {
            "videos": None if self.videos is None else str(self.videos.resolve()),
            "fps": self.fps,
            "short_side": self.short_side,
            "jpeg_quality": self.jpeg_quality,
            "sound": [self.sound_rate, self.sound_track, self.with_frames] if self.sound_rate else None,
            "features": {
                feature.name: [str(feature.path.resolve()), feature.key, feature.time_axis]
                for feature in self.features
            },
        }

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any], widths: dict[str, int]) -> "BuildSource":
        """Reverses `to_arguments`; `widths` are known only after reading features."""
        videos = arguments["videos"]
        sound_rate, sound_track, with_frames = arguments.get("sound") or (0, None, True)
        return cls(
            videos=None if videos is None else storage_path(videos),
            fps=arguments["fps"],
            short_side=arguments["short_side"],
            jpeg_quality=arguments["jpeg_quality"],
            features=tuple(
                FeatureSource(name, Path(path), key, time_axis)
                for name, (path, key, time_axis) in arguments["features"].items()
            ),
            widths=widths,
            sound_rate=sound_rate,
            sound_track=sound_track,
            with_frames=with_frames,
        )

    @functools.cached_property
    def video_files(self) -> NamedFiles:
        assert self.videos is not None
        return video_files(self.videos)

    @functools.cached_property
    def sound_files(self) -> NamedFiles:
        """Files of sound alone: of videos that have no file with a picture."""
        assert self.videos is not None
        return sound_files(self.videos)

    @property
    def has_frames(self) -> bool:
        return self.videos is not None and self.with_frames

    def check_names(self, video_ids: Iterable[str]) -> None:
        """Raises UserError if several files of a folder belong to one video."""
        folders = [] if self.videos is None else [self.video_files]
        folders += [self.sound_files] if self.sound_rate else []
        folders += [source.files for source in self.features if not source.path.is_file()]
        check_one_file_each(folders, video_ids)

    def has(self, video_id: str) -> bool:
        """Returns whether a video's file and its features are there; nothing is decoded."""
        if self.videos is not None and not any(
            files.named(name) for files in self._kinds_of_files for name in names_of(video_id)
        ):
            return False
        return not isinstance(self.read_features(video_id), UnusableVideo)

    def task(self, video_id: str) -> EncodeTask:
        """Returns the task that encodes a video; its path may not exist.

        Raises:
          SeveralFilesError: see `check_names`.
        """
        assert self.videos is not None
        names = names_of(video_id)
        found = (path for files in self._kinds_of_files if (path := files.find(names)) is not None)
        return EncodeTask(
            video_id,
            next(found, self.videos / f"{video_id}.mp4"),
            self.fps,
            self.short_side,
            self.jpeg_quality,
            self.sound_rate,
            self.sound_track,
            self.with_frames,
        )

    @property
    def _kinds_of_files(self) -> list[NamedFiles]:
        return [self.video_files, self.sound_files] if self.sound_rate else [self.video_files]

    def missing(self, task: EncodeTask) -> UnusableVideo | None:
        """Reports a missing file, before anything is decoded; None if there is none."""
        if not task.path.is_file():
            others = ".mov, .mkv, .wav, …" if self.sound_rate else ".mov, .mkv, …"
            return UnusableVideo("missing", f"{task.path} (or {others}): there is no such file.")
        return find_missing(self.features, task.video_id)

    def read_features(self, video_id: str) -> dict[str, StoredFeatures] | UnusableVideo:
        """Reads all modalities of a video, or returns why one of them is unusable."""
        return read_all_features(self.features, self.widths, video_id)
