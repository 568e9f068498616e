"""Dataset: the interface that training and evaluation require of data.

`data_pipelines.reading.dataset.ShardedDataset` implements it.
"""

import dataclasses
from collections.abc import Generator
from typing import Any, Protocol

import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.records import VideoRecord


@dataclasses.dataclass(frozen=True)
class DatasetMetadata:
    """Metadata that is stored with a checkpoint, so that it can be used without its dataset.

    Attributes:
      name: the annotation format it was built from, such as "activitynet_captions".
      fps, short_side: settings of the stored frames; new videos are decoded in the same way.
      classes: the vocabulary, [] for datasets of queries.
      fingerprint: identifies the build of the dataset; a run cannot continue with another one.
      unseen_classes: in a zero-shot experiment, the classes of evaluation; `classes` are then those of training.
      feature_settings: settings of `unloc features` for the stored features, by modality (clip_features.json); omits
        features of other programs.
      sound_rate: samples per second of the stored sound; 0 = built without sound.
      words: every word of the training texts, sorted; other words are unknown to a model trained from scratch.
    """

    name: str
    fps: float
    short_side: int
    classes: list[str]
    words: list[str]
    fingerprint: str
    unseen_classes: list[str] = dataclasses.field(default_factory=list)
    feature_settings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    sound_rate: int = 0

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Dataset(Protocol):
    """Batches for the device and records for the host; `split` is "train", "validation" or "test"."""

    metadata: DatasetMetadata

    @property
    def splits(self) -> tuple[str, ...]:
        """Returns the splits that have videos."""

    @property
    def left_out(self) -> dict[str, dict[str, int]]:
        """Returns, by split, how many "videos" and "segments" of the annotations the build could not use."""

    def records(self, split: str) -> list[VideoRecord]:
        """Returns all records of a split without frames, in the order of `evaluation_batches`."""

    def num_windows(self, split: str) -> list[int]:
        """Returns the number of rows of `evaluation_batches` per record; 1 if a window is the whole video."""

    def training_lengths(self) -> np.ndarray:
        """Returns the lengths of the training segments in sampled frames, whole: float [n]. May read all features."""

    def training_batches(self, start_step: int, num_steps: int) -> Generator[Batch, None, None]:
        """Yields this host's part of the batches of steps start_step … num_steps-1, which depend on the step alone.

        Closing it ends the reading ahead, here and below: reading threads must not outlive Python.
        """

    def training_videos(self, step: int) -> list[str]:
        """Returns the video ids of training batch `step` (from 0), over all hosts, in the order of its rows."""

    def evaluation_batches(self, split: str) -> Generator[Batch, None, None]:
        """Yields this host's part of every window of every record once, in order; the last batch is filled up."""


def validation_split(dataset: Dataset) -> str | None:
    """Returns the split for validation: "validation", else "test"; None if the dataset has neither.

    Charades-STA and THUMOS14 have no validation split: all their published numbers are selected on the test split.
    """
    return next((split for split in ("validation", "test") if split in dataset.splits), None)
