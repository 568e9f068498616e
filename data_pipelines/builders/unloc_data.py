"""The TFDS builder: examples → TFRecord shards (`unloc_data/<dataset>`).

Each example is one video: its annotations, its JPEG frames at 0/fps, 1/fps, 2/fps, … and its precomputed
features. `data_pipelines.build.build` prepares it; once prepared, `tfds.load("unloc_data/<dataset>",
data_dir=out)` reads it like any TFDS dataset.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.writer import ExampleWriter
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines.annotations import PARSERS
from unloc_jax.errors import UserError


class SameBytesWriter(ExampleWriter):
    """Writes equal examples as equal bytes.

    Protocol buffers keep a map in an order that changes from process to process; a build that went on would be
    told from one that was not stopped.
    """

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> Any:
        return super().write(path, ((key, _in_order(example)) for key, example in examples))


def serialize(features: tfds.features.FeaturesDict, example: Mapping[str, Any]) -> bytes:
    """An example as the builder writes it."""
    return _in_order(features.serialize_example(example))


def _in_order(example: bytes) -> bytes:
    return tf_example_pb2.Example.FromString(example).SerializeToString(deterministic=True)


class UnlocData(tfds.core.GeneratorBasedBuilder):
    """Untrimmed videos with segments and texts; one config per annotation parser."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in sorted(PARSERS)]  # noqa: RUF012

    def __init__(
        self,
        *,
        splits: Mapping[str, Any] | None = None,
        has_frames: bool = True,
        widths: Mapping[str, int] | None = None,
        **kwargs: Any,
    ):
        """What is given here is needed to prepare the dataset, not to read a prepared one.

        Args:
          splits: by split an iterator over (video id, example), or a Beam transform that makes such pairs.
          has_frames: whether examples have frames.
          widths: D of each modality of precomputed features.
          **kwargs: of TFDS: `config` (the name of an annotation parser) and `data_dir`.
        """
        self._splits = splits
        self._has_frames = has_frames
        self._widths = dict(widths or {})
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Untrimmed videos with segments and a text for each segment.",
            features=self._features(),
        )

    def _features(self) -> tfds.features.FeatureConnector:
        if self._splits is None and (Path(self.data_dir) / "features.json").is_file():
            return tfds.features.FeaturesDict.from_config(self.data_dir)  # what is stored differs
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
        return tfds.features.FeaturesDict(features)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded: the user has the files
        if self._splits is None:
            raise UserError(
                "unloc_data is made from your own videos and annotations: build it with `unloc data build …` "
                "(or data_pipelines.build.build), then load it with data_dir=OUT."
            )
        return dict(self._splits)

    def _example_writer(self) -> ExampleWriter:
        return SameBytesWriter(self.info.file_format)

    def _generate_examples(self, *args: Any) -> Any:
        raise NotImplementedError("TFDS asks for this method; _split_generators has the generators already")
