"""A built dataset as training and evaluation want it (see `unloc_jax.dataset.Dataset`)."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipelines.build import find_dataset, read_build_info
from data_pipelines.mirror import mirror_text
from data_pipelines.record_index import RecordIndex, iterate_records
from data_pipelines.zero_shot import only_classes, split_classes
from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.dataset import DatasetFacts
from unloc_jax.errors import UserError
from unloc_jax.records import VideoRecord
from unloc_jax.text import words


class ShardedDataset:
    """Shards on disk, read by this host's share.

    Args:
      config: where the dataset is and what is taken from a video.

    Raises:
      UserError: no dataset there, a damaged shard, frames smaller than the crop, or (with `data.mirror`) a class
        whose mirror image is no class.
    """

    def __init__(self, config: Config):
        if not config.data.dir or not Path(config.data.dir).exists():
            raise _missing(config.data.dir)
        for name, modality in config.model.modalities.items():
            if name != "rgb" or modality.encoder != "clip":
                raise UserError(
                    f"config.model.modalities.{name} reads features, but {config.data.dir} holds frames only."
                )
        self._config = config
        self._directory = find_dataset(Path(config.data.dir))
        info = read_build_info(self._directory)
        if config.data.crop_size > info["short_side"]:
            raise UserError(
                f"config.data.crop_size = {config.data.crop_size} is larger than the stored frames of "
                f"{config.data.dir} (short side {info['short_side']}). Use {info['short_side']} or less, or build "
                f"again with `unloc data build --short-side {config.data.crop_size} …`."
            )
        if config.data.crop_size < 0.7 * info["short_side"]:
            raise UserError(
                f"config.data.crop_size = {config.data.crop_size} would see only a small part of the stored frames of "
                f"{config.data.dir} (short side {info['short_side']}). Use {round(0.875 * info['short_side'])} to "
                f"{info['short_side']}, or build again with `unloc data build --short-side "
                f"{config.data.crop_size} …`."
            )
        self._records: dict[str, tuple[np.ndarray | None, list[VideoRecord]]] = {}
        classes, unseen = split_classes(
            list(info["classes"] or []), config.data.class_split, config.data.class_split_seed
        )
        self._classes_of = {"train": classes, "validation": unseen or classes, "test": unseen or classes}
        if config.data.mirror:
            _check_mirrored(classes)
        texts = (text for record in self.records("train") for text in record.texts)
        self.facts = DatasetFacts(
            name=info["dataset"],
            fps=float(info["fps"]),
            short_side=int(info["short_side"]),
            classes=classes,
            unseen_classes=unseen,
            fingerprint=_fingerprint(info),
            words=sorted({word for text in set(texts) for word in words(text)}),
        )

    def records(self, split: str) -> list[VideoRecord]:
        return self._rows(split)[1]

    def _rows(self, split: str) -> tuple[np.ndarray | None, list[VideoRecord]]:
        """The records of a split that are used, with their numbers (None = all) in the shards."""
        if split not in self._records:
            rows, records = None, list(iterate_records(self._directory, split, with_frames=False))
            if self._config.data.class_split != "all":
                rows, records = only_classes(records, self._classes_of[split])
                if not records:
                    raise UserError(
                        f"{self._config.data.dir}, {split}: no video shows one of the "
                        f"{len(self._classes_of[split])} classes that config.data.class_split = "
                        f"{self._config.data.class_split!r} leaves it."
                    )
            self._records[split] = rows, records
        return self._records[split]

    def training_batches(self, start_step: int, num_steps: int) -> Iterator[Batch]:
        from data_pipelines.input_pipeline import training_batches

        return training_batches(
            self._source("train"),
            seed=self._config.seed,
            batch_size=self._config.batch_size,
            start_step=start_step,
            num_steps=num_steps,
            host=jax.process_index(),
            num_hosts=jax.process_count(),
        )

    def evaluation_batches(self, split: str) -> Iterator[Batch]:
        from data_pipelines.input_pipeline import evaluation_batches

        return evaluation_batches(
            self._source(split),
            batch_size=self._config.evaluation.batch_size,
            host=jax.process_index(),
            num_hosts=jax.process_count(),
        )

    def _source(self, split: str):
        from data_pipelines.input_pipeline import Source

        return Source(
            RecordIndex.from_dir(self._directory, split),
            self._config.data,
            self._config.model.text.max_tokens,
            self._classes_of[split] if self._config.with_vocabulary else None,
            self._rows(split)[0],
        )


def _missing(directory: str) -> UserError:
    return UserError(
        f"config.data.dir = {directory!r} holds no dataset (looked in {os.path.abspath(directory)}). "
        "Build one with `unloc data build --dataset … --annotations … --videos DIR --out DIR` and pass it as "
        "--config.data.dir=DIR."
    )


def _fingerprint(info: dict[str, Any]) -> str:
    """Of the annotation files' contents and of what was built from them; the same wherever the dataset lies."""
    told = {"annotations": sorted(map(list, info["arguments"]["annotations"])), "splits": info["splits"]}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _check_mirrored(classes: list[str]) -> None:
    lost = [name for name in classes if mirror_text(name) not in classes]
    if lost:
        raise UserError(
            f"config.data.mirror = True turns the class {lost[0]!r} into {mirror_text(lost[0])!r}, which is no class "
            f"of this dataset ({len(lost)} such classes). Set config.data.mirror = False."
        )
