"""Computes regression ranges that fit the training segments."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from unloc_jax.config import Config, DataConfig
from unloc_jax.dataset import Dataset
from unloc_jax.errors import UserError
from unloc_jax.localization.geometry import ranges_from_lengths
from unloc_jax.records import VideoRecord


def with_ranges_from_data(config: Config, datasets: Mapping[str, Dataset]) -> Config:
    """Fills in model.pyramid.regression_ranges if model.pyramid.ranges_from_data is set.

    Raises:
      UserError: A dataset of windows does not know the length of a step.
    """
    pyramid = config.model.pyramid
    if not pyramid.ranges_from_data or pyramid.type == "none":
        return config
    lengths = [
        np.minimum(
            np.diff(record.segments_s, axis=1)[:, 0] / _step_s(view.data, record, datasets[name]),
            view.data.num_frames - 1,
        )
        for name, view in config.task_configs.items()
        for record in datasets[name].records("train")
    ]
    ranges = ranges_from_lengths(np.concatenate(lengths), pyramid.num_levels)
    pyramid = dataclasses.replace(pyramid, regression_ranges=ranges, ranges_from_data=False)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, pyramid=pyramid))


def _step_s(data: DataConfig, record: VideoRecord, dataset: Dataset) -> float:
    """Returns the time in seconds from one sampled frame to the next."""
    if not data.windowed:
        return record.duration_s / (data.num_frames - 1)
    if not dataset.metadata.fps:
        raise UserError(
            "config.model.pyramid.ranges_from_data needs to know how long a step of a window is, which precomputed "
            "features do not contain: give config.model.pyramid.regression_ranges, in rows."
        )
    return data.window_stride / dataset.metadata.fps
