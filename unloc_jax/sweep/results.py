"""What a sweep has found out: a JSON file, from which the table and the plot are made."""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unloc_jax.agreement import versions
from unloc_jax.errors import UserError
from unloc_jax.sweep.description import Row, Sweep


@dataclasses.dataclass(frozen=True)
class Run:
    """A row with one seed.

    Attributes:
      row, seed: of the sweep.
      metrics: by path, as the sweep lists them.
      minutes: of training and evaluation together, by the clock; None if it was stopped in between.
    """

    row: Row
    seed: int
    metrics: Mapping[str, float]
    minutes: float | None


@dataclasses.dataclass(frozen=True)
class Summary:
    """The seeds of a row taken together.

    Attributes:
      values: by seed.
      mean: of the values.
      deviation: sample standard deviation; nan with one seed.
      interval: half the width of the 95 % confidence interval of the mean, by Student's t; nan with one seed.
    """

    values: tuple[float, ...]
    mean: float
    deviation: float
    interval: float

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if len(self.values) == 1 else f"{self.mean:.1f} ± {self.deviation:.1f}"


def summary(values: Iterable[float]) -> Summary:
    """Summarises at least one value."""
    values = tuple(values)
    if len(values) == 1:
        return Summary(values, values[0], math.nan, math.nan)
    deviation = statistics.stdev(values)
    from scipy.stats import t  # takes a second; JAX needs scipy anyway

    interval = float(t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
    return Summary(values, statistics.mean(values), deviation, interval)


def metric_of(folder: Path, path: str) -> float:
    """Reads a number of an evaluation.

    Args:
      folder: what `unloc evaluate` wrote: metrics.json, or a folder with it for each task of the checkpoint.
      path: keys with slashes between them; of a checkpoint with several tasks, the task first.

    Raises:
      UserError: there is no such number; the message lists those that are there.
    """
    files = {file.parent.name: file for file in folder.glob("*/metrics.json")}
    read = lambda file: json.loads(file.read_text("utf-8"))
    content = {task: read(file) for task, file in files.items()} or read(folder / "metrics.json")
    value: Any = content
    for key in path.split("/"):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(
            f"{folder}: there is no metric {path!r}; there are {', '.join(sorted(_paths(content)))}."
        )
    return float(value)


def _paths(content: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + key


def to_json(sweep: Sweep, runs: Iterable[Run], command: str) -> str:
    """Returns the content of results.json: the command, versions, machine, and one entry per run."""
    entries = [
        {
            "row": run.row.name,
            "levels": dict(run.row.levels),
            "seed": run.seed,
            "config": run.row.config,
            "settings": dict(run.row.settings),
            "metrics": dict(run.metrics),
            "minutes": None if run.minutes is None else round(run.minutes, 2),
        }
        for run in runs
    ]
    content = {"command": command, "versions": versions(), "split": sweep.split, "runs": entries}
    return json.dumps(content, indent=2, ensure_ascii=False)


def summaries(sweep: Sweep, runs: Iterable[Run]) -> dict[str, list[Summary | None]]:
    """Returns, for each row, the summary of each metric; None while no seed has finished."""
    runs = list(runs)
    table: dict[str, list[Summary | None]] = {}
    for row in sweep.rows:
        of_row = [run for run in runs if run.row.name == row.name]
        table[row.name] = [
            summary(run.metrics[path] for run in of_row) if of_row else None for path in sweep.metrics
        ]
    return table


def to_markdown(sweep: Sweep, runs: Iterable[Run]) -> str:
    """Returns the table: mean ± standard deviation over the seeds, and how many have finished."""
    runs = list(runs)
    lines = [
        "| | " + " | ".join(path.rpartition("/")[2] for path in sweep.metrics) + " | seeds |",
        "|---" * (len(sweep.metrics) + 2) + "|",
    ]
    for name, cells in summaries(sweep, runs).items():
        finished = sum(run.row.name == name for run in runs)
        lines.append(
            f"| {name} | "
            + " | ".join("–" if cell is None else str(cell) for cell in cells)
            + f" | {finished} |"
        )
    return "\n".join(lines)
