"""The dataset `unloc_data` for users of TFDS: `tfds build` and `tfds.load` build it as `unloc data build` does."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from data_pipelines.annotations import PARSERS
from data_pipelines.build import build
from data_pipelines.builders.feature_files import feature_sources
from data_pipelines.builders.shard_builder import ShardBuilder
from unloc_jax.errors import UserError


@dataclasses.dataclass(eq=False, kw_only=True)
class UnlocConfig(tfds.core.BuilderConfig):
    """Arguments of `data_pipelines.build.build`, with texts in place of paths.

    Attributes:
      dataset: name of an annotation parser; None: the name of the config.
      annotations: the annotation files of all splits; none: those in `<manual_dir>/annotations`.
      videos: folder with the video files; None: `<manual_dir>/videos`; "" stores no frames.
      fps, short_side, jpeg_quality: of the stored frames.
      features: precomputed features, each NAME=DIR or NAME=DIR:KEY.
      features_axis: the time axis of their arrays: 0 or 1, NAME=0 or NAME=1.
      sound_rate, sound_track: of the stored sound, see `build`.
      workers: decoding processes; None: one per CPU.
    """

    dataset: str | None = None
    annotations: Sequence[str] = ()
    videos: str | None = None
    fps: float = 10.0
    short_side: int = 256
    jpeg_quality: int = 95
    features: Sequence[str] = ()
    features_axis: Sequence[str] = ()
    sound_rate: int = 0
    sound_track: int | None = None
    workers: int | None = None


class UnlocData(ShardBuilder):
    """Untrimmed videos with segments and texts; one config per annotation parser, and any config of the user's."""

    BUILDER_CONFIGS = [UnlocConfig(name=name) for name in sorted(PARSERS)]  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put the annotation files into MANUAL_DIR/annotations and the videos into MANUAL_DIR/videos, or give a "
        "config with their paths (docs/building.md)."
    )

    def download_and_prepare(self, *, download_config: Any = None, **kwargs: Any) -> None:
        """Builds the dataset unless it exists; see `data_pipelines.build.build`.

        Raises:
          UserError: as `build`.
        """
        del kwargs  # the folders and settings are those of the config
        if not self.is_prepared():
            self._build(download_config or tfds.download.DownloadConfig())
            self.info.read_from_directory(self.data_dir)

    def _build(self, download_config: tfds.download.DownloadConfig) -> None:
        config = self.builder_config
        annotations, videos = config.annotations, config.videos
        if videos is None or not annotations:
            if download_config.manual_dir is None:
                raise UserError(
                    "unloc_data is made from your own videos and annotations: build it with `unloc data build …`, "
                    f"or with TFDS. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
                )
            manual_dir = Path(download_config.manual_dir)
            annotations = annotations or sorted((manual_dir / "annotations").iterdir())
            videos = manual_dir / "videos" if videos is None else videos
        build(
            config.dataset or config.name,
            annotations,
            videos or None,
            self.data_dir_root,
            fps=config.fps,
            short_side=config.short_side,
            jpeg_quality=config.jpeg_quality,
            features=feature_sources(config.features, config.features_axis),
            sound_rate=config.sound_rate,
            sound_track=config.sound_track,
            workers=config.workers,
            beam_options=download_config.beam_options,
            config_name=config.name,
        )
