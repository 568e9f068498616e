"""Describes a task before there is a model: all that the rest of the project asks of a task."""

from collections.abc import Sequence
from typing import ClassVar

from unloc_jax.config import Config
from unloc_jax.errors import UserError
from unloc_jax.records import VideoRecord


class Description:
    """Describes a task; the base of `Task`."""

    name: ClassVar[str]
    """Its value of config.task."""
    with_vocabulary: ClassVar[bool] = False
    """Whether every video is searched for the classes of its dataset, instead of its own queries."""
    has_boundaries: ClassVar[bool] = False
    """Whether it needs the head's boundaries."""
    compares_videos: ClassVar[bool] = False
    """Whether its loss compares the videos of a batch with each other, so that it cannot be taken part by part."""
    heads: ClassVar[tuple[str, ...]] = ("localization",)
    """The heads that it needs of the model (see `unloc_jax.model.unloc.HEADS`)."""
    keeps_curves: ClassVar[bool] = False
    """Whether scoring needs `SplitPredictions.curves`, which are large."""
    annotation_formats: ClassVar[tuple[str, ...]] = ()
    """Formats of the datasets that are made for it."""
    metrics_key: ClassVar[str] = "metrics"
    """The key of its metrics in metrics.json."""
    protocols: ClassVar[tuple[str, ...]] = ()
    """The protocols of `unloc metrics` that score its predictions against the videos' own annotations."""
    predictions_file: ClassVar[str] = "predictions.jsonl"
    """The file of `unloc evaluate` that `Task.prediction_lines` fill."""

    @classmethod
    def check_config(cls, config: Config, where: str) -> None:
        """Refuses settings that do not go with the task.

        Args:
          config: the experiment, seen from this task.
          where: what its keys begin with in messages, "config" or "config.tasks.NAME".

        Raises:
          UserError: with the settings and what they should be.
        """
        model, task = config.model, f"{where}.task = {cls.name!r}"
        if "video_score" in cls.heads and model.fusion.type == "late":
            raise UserError(f"{task} reads the fused text token; set config.model.fusion.type = 'early'.")
        if cls.compares_videos and config.accumulate > 1:
            raise UserError(
                f"{task} compares all videos of a batch with each other, so it cannot be taken part by part: set "
                f"config.accumulate = 1 (it is {config.accumulate})."
            )
        if model.text.encoder == "embeddings" and not cls.with_vocabulary:
            raise UserError(
                f"{task} has other texts in every video; config.model.text.encoder = 'embeddings' is for tasks with "
                "a vocabulary."
            )
        if model.head.type == "linear" and cls.has_boundaries:
            raise UserError(f"{task} needs boundaries; config.model.head.type = 'linear' has none.")

    @classmethod
    def num_texts(cls, config: Config, num_classes: int | None) -> tuple[int, int]:
        """Returns how many texts a training step encodes, and how many each of its videos is paired with."""
        if cls.with_vocabulary:
            assert num_classes is not None
            return num_classes, num_classes
        of_batch = config.batch_size * config.data.max_queries
        return of_batch, config.data.max_queries if config.loss.negatives == "own" else of_batch

    @classmethod
    def notes(cls, config: Config, records: Sequence[VideoRecord]) -> list[str]:
        """Returns a sentence for each setting that these training videos make meaningless."""
        return []
