"""`unloc average`: the mean of the results of several splits or runs."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.metrics.protocols.json_files import read_json, shown
from unloc_jax.metrics.protocols.run import tables
from unloc_jax.paths import check_output_file
from unloc_jax.whole_writes import write_result


def average(files: Sequence[Path], out: Path | None = None) -> dict[str, Any]:
    """Prints the means of the metrics in several files, and writes them to `out`.

    Args:
      files: what `unloc metrics --out` or `unloc evaluate` writes, at least two, of one kind.
      out: JSON to write: "mean", "standard_deviation" (of a sample: n − 1) and "files".

    Numbers that count something (whole ones, such as "videos") and values per class are left out.

    Raises:
      UserError: a file is no such file or given twice, or they have different metrics.
    """
    check_output_file("--out", out)
    if len(files) < 2:
        raise UserError("unloc average takes at least two files")
    if len({file.resolve() for file in files}) < len(files):
        twice = next(
            file for i, file in enumerate(files) if file.resolve() in {f.resolve() for f in files[:i]}
        )
        raise UserError(f"{twice} is given twice")
    every = [_numbers(_read(file)) for file in files]
    for file, numbers in zip(files, every):
        if not numbers:
            raise UserError(f"{file}: there are no metrics in it; --out of `unloc metrics` writes such files")
        different = every[0].keys() ^ numbers.keys()
        if different:
            name = ".".join(min(different))
            without, other = (file, files[0]) if min(different) in every[0] else (files[0], file)
            raise UserError(
                f'{without}: it has no "{name}", unlike {other}: results of one protocol are needed'
            )
    values = {name: np.array([numbers[name] for numbers in every]) for name in every[0]}
    mean = _nested({name: float(of.mean()) for name, of in values.items()})
    deviation = _nested({name: float(of.std(ddof=1)) for name, of in values.items()})
    if out:
        content = {"mean": mean, "standard_deviation": deviation, "files": list(map(str, files))}
        write_result(out, json.dumps(content, indent=1) + "\n")
    show(f"mean of {len(files)} files\n" + "\n".join(tables(mean)))
    show("\nstandard deviation\n" + "\n".join(tables(deviation)))
    if out:
        show(f"wrote {out}")
    return mean


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: an object of metrics is needed, not {shown(content)}")
    return content


def _numbers(metrics: dict[str, Any]) -> dict[tuple[str, ...], float]:
    """Returns the metrics by the names that lead to them."""
    found: dict[tuple[str, ...], float] = {}
    for name, value in metrics.items():
        if isinstance(value, dict) and not name.startswith("per_class"):
            found |= {(name, *inner): number for inner, number in _numbers(value).items()}
        elif isinstance(value, float) and math.isfinite(value):
            found[(name,)] = value
    return found


def _nested(values: dict[tuple[str, ...], float]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for names, value in values.items():
        inner = made
        for name in names[:-1]:
            inner = inner.setdefault(name, {})
        inner[names[-1]] = value
    return made
