"""Predictions of a trained model for a split's shards, to compare those for files with."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

from data_pipelines.reading.dataset import ShardedDataset
from tests.tiny import random_params
from unloc_jax.inference.loaded_model import LoadedModel, load_model
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import SplitPredictions
from unloc_jax.tasks.predict_split import predict_split
from unloc_jax.training.sharding import batch_sharding


class ShardPredictions(NamedTuple):
    """The model with random parameters, whose output depends on the video; test records, and predictions for them."""

    model: LoadedModel
    records: Sequence[VideoRecord]
    num_windows: list[int]
    texts: list[str]
    found: SplitPredictions


def shard_predictions(
    run: Path, monkeypatch: pytest.MonkeyPatch, texts: Sequence[str] | None = None
) -> ShardPredictions:
    """Searches the test split of a run's dataset for texts; None = those of the first record."""
    model = load_model(run)
    task = model.task
    model = dataclasses.replace(model, params=random_params(task))
    dataset = ShardedDataset(task.config)
    records, counts = dataset.records("test"), dataset.num_windows("test")
    texts = list(texts or task.evaluation_texts(records)[0])
    monkeypatch.setattr(type(task), "keeps_curves", True)
    detect, sharding = jax.jit(task.detect), batch_sharding(model.mesh)
    batches, of_videos = dataset.evaluation_batches("test"), [texts] * len(records)
    found = predict_split(task, detect, model.params, batches, of_videos, sharding, num_windows=counts)
    return ShardPredictions(model, records, counts, texts, found)
