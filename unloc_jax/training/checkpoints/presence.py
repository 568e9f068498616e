"""The score below which a checkpoint says "not here", kept in its workdir: presence.json, {"TASK": {"STEP": …}}."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.foreign_text import parse_json
from unloc_jax.metrics.presence import Calibrated
from unloc_jax.training.checkpoints.reading import workdir_of
from unloc_jax.whole_writes import write_result

FILE = "presence.json"


def store(step_dir: Path, task: str, chosen: Calibrated, data: str) -> Path:
    """Keeps the threshold of a checkpoint; returns the file."""
    path = workdir_of(step_dir) / FILE
    every = _read(path)
    every.setdefault(task, {})[step_dir.name] = {**chosen._asdict(), "data": data}
    write_result(path, json.dumps(every, indent=1) + "\n")
    return path


def stored_threshold(step_dir: Path, task: str) -> float | None:
    """Returns the threshold of a checkpoint; None if none was chosen."""
    found = _read(workdir_of(step_dir) / FILE).get(task, {}).get(step_dir.name, {})
    threshold = found.get("threshold") if isinstance(found, dict) else None
    return float(threshold) if isinstance(threshold, int | float) and np.isfinite(threshold) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError):  # there is none, or it can be made again
        return {}
    every = content if isinstance(content, dict) else {}
    return {task: steps for task, steps in every.items() if isinstance(steps, dict)}
