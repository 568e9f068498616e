"""ShardBuilder: the TFDS builder that writes the examples of a build to TFRecord shards (`unloc_data/<dataset>`).

Each example is one video: its annotations, its JPEG frames at 0/fps, 1/fps, 2/fps, … and its precomputed features.
Once built, `tfds.load("unloc_data/<dataset>", data_dir=out)` reads it like any TFDS dataset.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.writer import ExampleWriter
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines.annotations import PARSERS
from data_pipelines.reading.tfrecord import tfrecord
from data_pipelines.remote_paths import storage_path


class SameBytesWriter(ExampleWriter):
    """Writes equal examples as equal bytes, without TensorFlow.

    Protocol buffers order a map differently in every process, which would distinguish a continued build from one that
    was not stopped.
    """

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> None:
        with storage_path(os.fspath(path)).open("wb") as file:
            for _, example in examples:
                file.write(tfrecord(_in_order(example)))


def serialize(features: tfds.features.FeaturesDict, example: Mapping[str, Any]) -> bytes:
    """Serializes an example as the builder does."""
    return _in_order(features.serialize_example(example))


def _in_order(example: bytes) -> bytes:
    return tf_example_pb2.Example.FromString(example).SerializeToString(deterministic=True)


class ShardBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]  # of TFDS
    """Untrimmed videos with segments and texts, from examples that a build makes."""

    name = "unloc_data"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in sorted(PARSERS)]  # noqa: RUF012

    def __init__(
        self,
        *,
        splits: Mapping[str, Any] | None = None,
        has_frames: bool = True,
        has_sound: bool = False,
        widths: Mapping[str, int] | None = None,
        **kwargs: Any,
    ):
        """Prepares a builder.

        Args:
          splits: by split an iterator over (video id, example), or a Beam transform that makes such pairs; None: the
            dataset is only read.
          has_frames: whether examples have frames.
          has_sound: whether examples have sound.
          widths: D of each modality of precomputed features.
          **kwargs: arguments of TFDS: `config` and `data_dir`.
        """
        self._splits = splits
        self._has_frames = has_frames
        self._has_sound = has_sound
        self._widths = dict(widths or {})
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Untrimmed videos with segments and a text for each segment.",
            # With None, TFDS reads the features from the stored dataset.
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
        if self._has_sound:
            # Little-endian int16 samples, mono: windows are cut from them without decoding.
            features["sound"] = tfds.features.Tensor(shape=(), dtype=np.object_)
            # Samples per second; 0 = this video has no sound.
            features["sound_rate"] = np.int64
            # Start and end in seconds of what the sound track covers.
            features["sound_heard"] = tfds.features.Tensor(shape=(None, 2), dtype=np.float32)
        if self._widths:
            features["features"] = {
                name: tfds.features.Tensor(shape=(None, width), dtype=np.float32)
                for name, width in self._widths.items()
            }
            # An example stores its arrays flat: reading it requires the number of rows.
            features["feature_rows"] = dict.fromkeys(self._widths, np.int64)
            # Seconds of the rows; empty if unknown.
            features["feature_times_s"] = {
                name: tfds.features.Tensor(shape=(None,), dtype=np.float32) for name in self._widths
            }
        return tfds.features.FeaturesDict(features)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # the user has the files
        assert self._splits is not None
        return dict(self._splits)

    def _example_writer(self) -> ExampleWriter:
        return SameBytesWriter(self.info.file_format)

    def _generate_examples(self, *args: Any) -> Any:
        raise NotImplementedError("TFDS requires this method; _split_generators has the generators already")
