"""Determines how many classes a config's videos are searched for when the dataset is not available."""

from pathlib import Path

from unloc_jax import siblings
from unloc_jax.config import Config
from unloc_jax.errors import UserError

# Numbers of classes of the datasets of the project's configs.
_KNOWN = {"activitynet_tal": 200, "coin": 778, "multitask": 200, "thumos14": 20}


def known_classes(config_file: str) -> int | None:
    """Returns the number of classes of the dataset of "configs/NAME.py:ARGUMENT"; None if it is unknown."""
    file, _, argument = config_file.partition(":")
    if Path(file).stem == "kinetics_pretrain":
        return 400 if "400" in argument.split(",") else 700
    return _KNOWN.get(Path(file).stem)


def num_classes(config: Config, given: int | None, known: int | None) -> int | None:
    """Returns the number of classes of one task: as given, of the dataset, or of the config's known dataset.

    Args:
      config: One task's view.
      given: Number given by the user; None = not given.
      known: Number of the dataset that the config is for; None = unknown.

    Returns:
      The number, or None for a task without a vocabulary.

    Raises:
      UserError: The number is unknown.
    """
    if not config.with_vocabulary:
        return None
    if given is not None:
        return given
    if config.data.dir and Path(config.data.dir).exists():
        with siblings.ours("data_pipelines"):
            from data_pipelines.reading.dataset import ShardedDataset

            return len(ShardedDataset(config).metadata.classes)
    if known is None:
        raise UserError(
            f"config.task = {config.task!r}: how many classes are there? Give --classes=N, or the dataset with "
            "config.data.dir."
        )
    share = 100 if config.data.class_split == "all" else int(config.data.class_split.split("/")[0])
    return round(known * share / 100)
