"""How many classes a config's videos are searched for, when the dataset is not here."""

from pathlib import Path

from unloc_jax import siblings
from unloc_jax.config import Config
from unloc_jax.errors import UserError

# Of the datasets that the project's configs are for.
_KNOWN = {"activitynet_tal": 200, "coin": 778, "multitask": 200, "thumos14": 20}


def known_classes(config_file: str) -> int | None:
    """Of the dataset that "configs/NAME.py:ARGUMENT" is for; None = not known."""
    file, _, argument = config_file.partition(":")
    if Path(file).stem == "kinetics_pretrain":
        return 400 if "400" in argument.split(",") else 700
    return _KNOWN.get(Path(file).stem)


def num_classes(config: Config, given: int | None, known: int | None) -> int | None:
    """Classes of one task: as given, or as the dataset has, or as the known dataset of the config has.

    Args:
      config: one task's view.
      given: by the user; None = not.
      known: of the dataset that the config is for; None = not known.

    Returns:
      None for a task without a vocabulary.

    Raises:
      UserError: nobody says it.
    """
    if not config.with_vocabulary:
        return None
    if given is not None:
        return given
    if config.data.dir and Path(config.data.dir).exists():
        with siblings.ours("data_pipelines"):
            from data_pipelines.reading.dataset import ShardedDataset

            return len(ShardedDataset(config).facts.classes)
    if known is None:
        raise UserError(
            f"config.task = {config.task!r}: how many classes are there? Say --classes=N, or where the dataset is "
            "with config.data.dir."
        )
    share = 100 if config.data.class_split == "all" else int(config.data.class_split.split("/")[0])
    return round(known * share / 100)
