"""The TFDS builder: examples → TFRecord shards (`unloc_data/<dataset>`).

Each example is one video: its annotations, its JPEG frames at 0/fps, 1/fps, 2/fps, … and its precomputed
features. Once built, `tfds.load("unloc_data/<dataset>", data_dir=out)` reads it like any TFDS dataset. `tfds
build` and `tfds.load` can also build it, and do so by `data_pipelines.build.build`, as `unloc data build` does.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.writer import ExampleWriter
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines.annotations import PARSERS
from data_pipelines.build import build
from data_pipelines.builders.feature_files import feature_sources
from unloc_jax.errors import UserError


class SameBytesWriter(ExampleWriter):
    """Writes equal examples as equal bytes.

    Protocol buffers order a map differently in every process, which would distinguish a continued build from one that
    was not stopped.
    """

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> Any:
        return super().write(path, ((key, _in_order(example)) for key, example in examples))


def serialize(features: tfds.features.FeaturesDict, example: Mapping[str, Any]) -> bytes:
    """Serializes an example as the builder does."""
    return _in_order(features.serialize_example(example))


def _in_order(example: bytes) -> bytes:
    return tf_example_pb2.Example.FromString(example).SerializeToString(deterministic=True)


@dataclasses.dataclass(eq=False, kw_only=True)
class UnlocConfig(tfds.core.BuilderConfig):
    """What to build: the arguments of `data_pipelines.build.build`, with texts in place of paths.

    Attributes:
      dataset: name of an annotation parser; None: the name of the config.
      annotations: the annotation files of all splits; none: those in `<manual_dir>/annotations`.
      videos: folder with the video files; None: `<manual_dir>/videos`; "" stores no frames.
      fps, short_side, jpeg_quality: of the stored frames.
      features: precomputed features, each NAME=DIR or NAME=DIR:KEY.
      features_axis: which of their axes is time: 0 or 1, NAME=0 or NAME=1.
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
    workers: int | None = None


class UnlocData(tfds.core.GeneratorBasedBuilder):
    """Untrimmed videos with segments and texts; one config per annotation parser, and any config of your own."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [UnlocConfig(name=name) for name in sorted(PARSERS)]  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put the annotation files into MANUAL_DIR/annotations and the videos into MANUAL_DIR/videos, or give a "
        "config that says where they are (docs/building.md)."
    )

    def __init__(
        self,
        *,
        splits: Mapping[str, Any] | None = None,
        has_frames: bool = True,
        widths: Mapping[str, int] | None = None,
        **kwargs: Any,
    ):
        """What is given here comes from `data_pipelines.build.build`; others give what TFDS knows.

        Args:
          splits: by split an iterator over (video id, example), or a Beam transform that makes such pairs.
          has_frames: whether examples have frames.
          widths: D of each modality of precomputed features.
          **kwargs: of TFDS: `config` (the name of an annotation parser, or an UnlocConfig) and `data_dir`.
        """
        self._splits = splits
        self._has_frames = has_frames
        self._widths = dict(widths or {})
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Untrimmed videos with segments and a text for each segment.",
            # Without: TFDS reads what is stored from the dataset.
            features=None if self._splits is None else self._features(),
        )

    def _features(self) -> tfds.features.FeatureConnector:
        features: dict[str, Any] = {
            "video_id": tfds.features.Text(),
            "duration_s": np.float32,
            "fps": np.float32,
            "segments_s": tfds.features.Tensor(shape=(None, 2), dtype=np.float32),
            "texts": tfds.features.Sequence(tfds.features.Text()),
            # One JSON object per segment.
            "attributes": tfds.features.Sequence(tfds.features.Text()),
            # One JSON object: text → [clips, annotators].
            "saliency": tfds.features.Text(),
        }
        if self._has_frames:
            features["frames"] = tfds.features.Sequence(
                tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
            )
        if self._widths:
            features["features"] = {
                name: tfds.features.Tensor(shape=(None, width), dtype=np.float32)
                for name, width in self._widths.items()
            }
            # An example stores its arrays flat; without the number of rows one could not read it alone.
            features["feature_rows"] = dict.fromkeys(self._widths, np.int64)
            # When the rows are; empty where nobody has stored it.
            features["feature_times_s"] = {
                name: tfds.features.Tensor(shape=(None,), dtype=np.float32) for name in self._widths
            }
        return tfds.features.FeaturesDict(features)

    def download_and_prepare(self, *, download_config: Any = None, **kwargs: Any) -> None:
        """Builds the dataset if it is not there; see `data_pipelines.build.build`.

        Raises:
          UserError: see there.
        """
        if self._splits is not None:  # it is the build that asks
            super().download_and_prepare(download_config=download_config, **kwargs)
        elif not self.is_prepared():
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
            workers=config.workers,
            beam_options=download_config.beam_options,
            config_name=config.name,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded: the user has the files
        assert self._splits is not None
        return dict(self._splits)

    def _example_writer(self) -> ExampleWriter:
        return SameBytesWriter(self.info.file_format)

    def _generate_examples(self, *args: Any) -> Any:
        raise NotImplementedError("TFDS asks for this method; _split_generators has the generators already")
