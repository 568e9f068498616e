"""The result of an evaluation."""

from pathlib import Path
from typing import Any

from unloc_jax.inline import metric_tables


class EvaluationResult(dict[str, Any]):
    """The contents of metrics.json, as a dictionary; `print` shows tables of text, and a notebook tables.

    Attributes:
      title: what was evaluated.
      measured: the metrics without the facts of the evaluation.
      text: for a terminal.
      predictions: file of the predictions, in the dataset's official format.
    """

    def __init__(
        self, metrics: dict[str, Any], title: str, measured: dict[str, Any], text: str, predictions: Path
    ):
        super().__init__(metrics)
        self.title, self.measured, self.text, self.predictions = title, measured, text, predictions

    def __repr__(self) -> str:
        return f"EvaluationResult({self.title!r}, {str(self.predictions)!r})"

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return metric_tables(self.title, self.measured)
