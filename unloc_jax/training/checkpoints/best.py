"""Keeps the checkpoints of a run whose validation had the highest values of one metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unloc_jax.errors import UserError
from unloc_jax.training.metrics_log import read_log


class KeepBest:
    """Tells orbax which checkpoints to keep (a PreservationPolicy).

    Args:
      workdir: Its metrics.jsonl holds the scores of a run that is continued.
      metric: config.checkpoint.best_metric.
      count: Number of checkpoints to keep.
    """

    def __init__(self, workdir: Path, metric: str, count: int):
        self._metric, self._count = metric, count
        self._scores = _scores(workdir, metric) if count else {}

    def forget_after(self, step: int) -> None:
        """Forgets scores of later steps, which will be repeated."""
        self._scores = {scored: score for scored, score in self._scores.items() if scored <= step}

    def add(self, step: int, metrics: dict[str, float]) -> bool:
        """Records the metrics of a validation and returns whether this step is one of the best so far.

        Raises:
          UserError: config.checkpoint.best_metric is not among them.
        """
        if not self._count:
            return False
        if self._metric not in metrics:
            raise UserError(
                f"config.checkpoint.best_metric = {self._metric!r} is not a metric of this run's validation; there "
                f"are: {', '.join(metrics) or 'none'}. Set it right and run the same command again."
            )
        self._scores[step] = metrics[self._metric]
        return step in self._best(list(self._scores))

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Returns, for each checkpoint, whether to keep it."""
        del context
        best = self._best([checkpoint.step for checkpoint in checkpoints])
        return [checkpoint.step in best for checkpoint in checkpoints]

    def _best(self, steps: list[int]) -> list[int]:
        scored = [step for step in steps if step in self._scores]
        return sorted(scored, key=lambda step: (self._scores[step], step), reverse=True)[: self._count]


def best_step(workdir: Path, metric: str, steps: Sequence[int]) -> int | None:
    """Returns the step with the highest validation score (the latest of equals), or None if no step has a score."""
    scores = {step: score for step, score in _scores(workdir, metric).items() if step in steps}
    return max(scores, key=lambda step: (scores[step], step), default=None)


def _scores(workdir: Path, metric: str) -> dict[int, float]:
    """Reads the scores of all validations from metrics.jsonl, by step."""
    key = f"validation/{metric}"
    try:
        lines = read_log(workdir).numbers
    except OSError:
        return {}
    return {int(line["step"]): line[key] for line in lines if key in line}
