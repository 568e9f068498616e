"""Times of day as seconds: "00:01:02.50" → 62.5."""

from collections.abc import Iterable
from typing import Any

from data_pipelines.annotations.segments import as_number


def as_seconds(value: Any) -> float | None:
    """Converts "HH:MM:SS.ss", "MM:SS,ss" or a number of seconds; returns None for anything else."""
    if not isinstance(value, str) or ":" not in value:
        return as_number(value)
    parts = value.strip().replace(",", ".").split(":")
    numbers = [as_number(part) for part in parts]
    if len(parts) > 3 or any(
        number is None or number < 0 or "e" in part.lower() for number, part in zip(numbers, parts)
    ):
        return None
    seconds = 0.0
    for number in numbers:
        seconds = 60 * seconds + (number or 0.0)
    return seconds


def segment_in_seconds(times: Iterable[Any]) -> list[Any]:
    """Converts start and end by `as_seconds`; what is no time stays as it is, to be reported."""
    return [time if (at := as_seconds(time)) is None else at for time in times]
