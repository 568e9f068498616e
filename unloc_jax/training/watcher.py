"""Watches a run while it trains, to show its numbers and predictions elsewhere than in the log."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unloc_jax.config import Config
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import SplitPredictions


class Watcher:
    """Does nothing; subclasses override what they need. Called in the first process only."""

    def started(self, config: Config, workdir: Path) -> None:
        """Learns of the run before its first step, and of a finished run. `metrics.jsonl` holds earlier numbers."""

    def logged(self, step: int, scalars: Mapping[str, float]) -> None:
        """Gets the numbers that are written after a number of steps, those of validations included."""

    def validated(
        self, step: int, task: str, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> None:
        """Gets the predictions of a validation.

        Args:
          step: number of steps done.
          task: its name in `config.task_configs`.
          records: videos with their ground truth.
          predictions: what the model found in them, in the same order.
        """
