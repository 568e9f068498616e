"""Computes regression ranges that fit the training segments."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from unloc_jax.config import Config
from unloc_jax.dataset import Dataset
from unloc_jax.localization.geometry import ranges_from_lengths


def with_ranges_from_data(config: Config, datasets: Mapping[str, Dataset]) -> Config:
    """Fills in model.pyramid.regression_ranges if model.pyramid.ranges_from_data is set."""
    pyramid = config.model.pyramid
    if not pyramid.ranges_from_data or pyramid.type == "none":
        return config
    lengths = [
        np.minimum(datasets[name].training_lengths(), view.data.num_frames - 1)
        for name, view in config.task_configs.items()
    ]
    ranges = ranges_from_lengths(np.concatenate(lengths), pyramid.num_levels)
    pyramid = dataclasses.replace(pyramid, regression_ranges=ranges, ranges_from_data=False)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, pyramid=pyramid))
