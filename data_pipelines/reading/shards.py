"""The interface of TFRecord shards of any format, and the shards of `unloc data build`."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Protocol

from data_pipelines.annotations.split_names import SPLITS
from data_pipelines.reading.built import find_dataset, read_build_info
from data_pipelines.reading.record_index import RecordIndex, iterate_records
from unloc_jax.errors import UserError
from unloc_jax.records import VideoRecord


@dataclasses.dataclass(frozen=True)
class ShardMetadata:
    """Metadata of a dataset as stored; see `unloc_jax.dataset.DatasetMetadata` for their meaning.

    Attributes:
      name: the annotation format it was built from, or "mediasequence".
      fps: frames per second.
      short_side: shorter side of the frames in pixels; 0 if there are no frames.
      classes: the vocabulary, [] for datasets of queries.
      fingerprint: identifies the build, independent of the shards' location.
      features: width D of precomputed features, by modality.
      feature_settings: see `DatasetMetadata`.
      left_out: {"videos", "segments"} of the annotations that could not be used when the dataset was built, by split.
      sound_rate: samples per second of the sound; 0 = built without sound.
      with_sound: numbers of videos that have sound, by split.
      row_phase: row i of F rows of features is at the time (i + row_phase) · duration / F.
    """

    name: str
    fps: float
    short_side: int
    classes: list[str]
    fingerprint: str
    features: dict[str, int] = dataclasses.field(default_factory=dict)
    feature_settings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    row_phase: float = 0.5
    sound_rate: int = 0
    with_sound: dict[str, int] = dataclasses.field(default_factory=dict)


class Shards(Protocol):
    """TFRecord shards of all splits; `split` is "train", "validation" or "test"."""

    metadata: ShardMetadata
    splits: tuple[str, ...]
    """The splits that have videos."""

    def records(self, split: str) -> list[VideoRecord]:
        """Returns all records without frames and features, in the order of `index(split)`.

        Raises:
          UserError: the split does not exist, or a shard is damaged.
        """

    def index(self, split: str) -> RecordIndex:
        """Returns random access to the records: `len`, `read(i)` (bytes), `record(i)` (with frames and features).

        Raises:
          UserError: the split does not exist, or a shard is damaged.
        """


class UnlocShards:
    """Shards that `unloc data build` wrote.

    Args:
      directory: the `out` of the build, or the TFDS directory in it.

    Raises:
      UserError: `directory` contains no finished dataset.
    """

    def __init__(self, directory: str):
        if not directory or not Path(directory).exists():
            raise _missing(directory)
        self._directory = find_dataset(directory)
        info = read_build_info(self._directory)
        self.splits = tuple(name for name in SPLITS if info["splits"].get(name, {}).get("videos"))
        self.metadata = ShardMetadata(
            name=info["dataset"],
            fps=float(info["fps"]),
            short_side=int(info["short_side"]) if any(s["frames"] for s in info["splits"].values()) else 0,
            classes=list(info["classes"] or []),
            fingerprint=_fingerprint(info),
            features=info["features"],
            feature_settings=info["feature_settings"],
            left_out=info["left_out"],
            sound_rate=int(info["sound_rate"]),
            with_sound=info["with_sound"],
        )

    @property
    def left_out(self) -> dict[str, dict[str, int]]:
        return self.metadata.left_out

    def records(self, split: str) -> list[VideoRecord]:
        return list(iterate_records(self._directory, split, with_frames=False))

    def index(self, split: str) -> RecordIndex:
        return RecordIndex.from_dir(self._directory, split)


def _missing(directory: str) -> UserError:
    return UserError(
        f"config.data.dir = {directory!r} holds no dataset (looked in {os.path.abspath(directory)}). "
        "Build one with `unloc data build --dataset … --annotations … --videos DIR --out DIR` and pass it as "
        "--config.data.dir=DIR."
    )


def _fingerprint(info: dict[str, Any]) -> str:
    """Returns a hash of the annotation files' contents, of the counts that were built from them, and of the sound."""
    told = {"annotations": sorted(map(list, info["arguments"]["annotations"])), "splits": info["splits"]}
    if info["sound_rate"]:
        told["sound"] = [info["arguments"]["sound"], info["with_sound"]]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
