"""What the processes of a run must have in common; see `unloc_jax.agreement`."""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax import config as config_lib
from unloc_jax.agreement import digest, digest_of_file
from unloc_jax.config import Config
from unloc_jax.config.paths import PATH_KEYS
from unloc_jax.dataset import Dataset, validation_split
from unloc_jax.training.checkpoints.reading import read_metadata

# How a machine reads: none of them changes a batch.
_FREE = ("data.reader", "data.num_workers", "data.stall_s")


def config_facts(config: Config) -> dict[str, Any]:
    """Returns every setting by its key. Paths may differ: a file counts by its content, a folder if it is given."""
    facts = {}
    for key, value in _flat(json.loads(config_lib.to_json(config))):
        plain = key.split(".", 2)[2] if key.startswith("tasks.") else key
        if plain in PATH_KEYS:
            is_file = bool(value) and Path(value).is_file()
            value = f"a file ({digest_of_file(value)})" if is_file else "given" if value else ""
        if plain not in _FREE:
            facts[f"config.{key}"] = value
    return facts


def dataset_facts(name: str, dataset: Dataset, splits: Iterable[str]) -> dict[str, Any]:
    """Returns what identifies a dataset, without reading frames.

    Args:
      name: of its task.
      dataset: as this process sees it.
      splits: those that are used; others are not opened.
    """
    facts: dict[str, Any] = {}
    for split in splits:
        records = dataset.records(split) if split in dataset.splits else []
        annotations = digest(
            (record.video_id, record.duration_s, record.texts, record.segments_s.tolist())
            for record in records
        )
        facts[f"the {split} split of {name}"] = f"{len(records)} videos ({annotations})"
    for key, value in dataset.metadata.to_dict().items():
        facts[f"{key} of the dataset of {name}"] = value
    return facts


def of_training(datasets: Mapping[str, Dataset]) -> dict[str, Any]:
    """Returns what identifies the datasets of a run, which are given by task."""
    facts: dict[str, Any] = {}
    for name, dataset in datasets.items():
        splits = {"train", validation_split(dataset) or "train"}
        facts |= dataset_facts(name, dataset, sorted(splits, reverse=True))
    return facts


def of_evaluation(step_dir: Path, classifier_scores: Path | None) -> dict[str, Any]:
    """Returns what identifies a checkpoint and a file of scores.

    Raises:
      UserError: The checkpoint is damaged.
    """
    stored = f"step {step_dir.name} ({digest([read_metadata(step_dir)])})"
    scores = digest_of_file(classifier_scores) if classifier_scores else ""
    return {"the checkpoint": stored, "the content of --classifier-scores": scores}


def parameter_facts(source: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a checksum of each parameter, an array that this process can see.

    Args:
      source: what they come from.
      parameters: by name.
    """
    return {
        f"{name} of {source}": zlib.crc32(np.asarray(array).tobytes()) for name, array in parameters.items()
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
