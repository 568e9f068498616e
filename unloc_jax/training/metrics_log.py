"""Reads metrics.jsonl: one JSON object of numbers per line, which a kill, a disk or an editor may have damaged."""

import math
from pathlib import Path
from typing import NamedTuple

from unloc_jax.foreign_text import parse_json

NAME = "metrics.jsonl"


class Log(NamedTuple):
    """The lines of a metrics.jsonl.

    Attributes:
      numbers: Of each whole line; "step" is among them.
      damaged: Bytes of the other lines, without line ends. The last line is left out if it is cut: a kill does that,
        and its step is repeated.
    """

    numbers: list[dict[str, float]]
    damaged: list[bytes]


def read_log(workdir: Path) -> Log:
    """Reads the metrics.jsonl of a workdir; it has no lines if there is none.

    Raises:
      OSError: It is there and cannot be read.
    """
    try:
        *lines, cut = (workdir / NAME).read_bytes().split(b"\n")
    except FileNotFoundError:
        return Log([], [])
    parsed = [(_parse(line), line) for line in lines if line.strip()]
    last = _parse(cut)
    numbers = [line for line, _ in parsed if line is not None] + ([] if last is None else [last])
    return Log(numbers, [text for line, text in parsed if line is None])


def _parse(line: bytes) -> dict[str, float] | None:
    """Returns the numbers of a line, or None if it is damaged."""
    try:
        numbers = parse_json(line)
    except ValueError:
        return None
    if not isinstance(numbers, dict) or not all(map(_is_number, numbers.values())):
        return None
    return numbers if type(numbers.get("step")) is int else None


def _is_number(value: object) -> bool:
    return type(value) is int or (isinstance(value, float) and math.isfinite(value))
