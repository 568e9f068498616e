"""What training and evaluation want from a dataset; `data_pipelines.reading.dataset.ShardedDataset` is one."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

from unloc_jax.batch import Batch
from unloc_jax.records import VideoRecord


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
    """Facts that travel with a checkpoint, so that it can be used without its dataset.

    Attributes:
      name: the annotation format it was built from, such as "activitynet_captions".
      fps, short_side: how frames were stored: a new video is decoded the same way.
      classes: the vocabulary, [] for datasets of queries.
      fingerprint: says which build of the dataset it is; a run cannot go on with another one.
      unseen_classes: in a zero-shot experiment, the classes of evaluation; `classes` are those of training then.
      feature_settings: by modality, how `unloc features` made the stored features: its clip_features.json. Nothing of
        features that other programs made.
      words: every word of the training texts, sorted; other words mean nothing to a model trained from scratch.
    """

    name: str
    fps: float
    short_side: int
    classes: list[str]
    words: list[str]
    fingerprint: str
    unseen_classes: list[str] = dataclasses.field(default_factory=list)
    feature_settings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Dataset(Protocol):
    """Batches for the device and records for the host; `split` is "train", "validation" or "test"."""

    facts: DatasetFacts

    @property
    def splits(self) -> tuple[str, ...]:
        """Those with videos in them."""

    def records(self, split: str) -> list[VideoRecord]:
        """All records of a split without their frames, in the order of `evaluation_batches`."""

    def num_windows(self, split: str) -> list[int]:
        """How many rows of `evaluation_batches` belong to each record; 1 where a video is looked at as a whole."""

    def training_batches(self, start_step: int, num_steps: int) -> Iterator[Batch]:
        """This host's part of the batches of steps start_step … num_steps-1, a function of the step alone."""

    def training_videos(self, step: int) -> list[str]:
        """The ids of the videos of training batch `step` (from 0), over all hosts, in the order of its rows."""

    def evaluation_batches(self, split: str) -> Iterator[Batch]:
        """This host's part of every window of every record once, in order, the last batch filled up."""


def validation_split(dataset: Dataset) -> str | None:
    """What a run is validated on: the validation split; the test split of datasets that have none; None without both.

    Charades-STA and THUMOS14 have no validation split, and all published numbers of them are chosen on the test split.
    """
    return next((split for split in ("validation", "test") if split in dataset.splits), None)
