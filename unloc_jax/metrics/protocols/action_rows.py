"""Rows {"segment": [start, end], "label": …, "score": …} as arrays, and the checks of one row."""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import Problems
from unloc_jax.metrics.protocols.json_files import NUMBER, is_finite, shown
from unloc_jax.names import as_text


class Rows(NamedTuple):
    """n rows of one video: start and end in seconds, labels, scores."""

    segments_s: np.ndarray  # float64 [n, 2]
    labels: list[str]  # empty if not requested
    score: np.ndarray  # float64 [n]; empty if not requested


def read_segments(
    rows: list[Any], where: str, problems: Problems, *, scores: bool = False, labels: bool = True
) -> Rows:
    """Returns the arrays of {"segment": [start, end], "label": …, "score": …}; adds faults to `problems`."""
    problems.seen += len(rows)
    try:
        segments = [row["segment"] for row in rows]
        score = [row["score"] for row in rows] if scores else []
        names = [row["label"] for row in rows] if labels else []
        times = list(itertools.chain.from_iterable(segments))
        right_types = (
            set(map(len, segments)) <= {2}
            and set(map(type, times)) | set(map(type, score)) <= NUMBER
            and set(map(type, names)) <= {str, *NUMBER}
        )
        if right_types:
            segments_s, values = np.array(times, np.float64).reshape(-1, 2), np.array(score, np.float64)
            in_order = scores or (segments_s[:, 0] <= segments_s[:, 1]).all()
            finite = bool(np.isfinite(segments_s).all() and np.isfinite(values).all())
            if not set(map(type, names)) <= {str}:
                finite &= not any(map(_no_label, names))
                names = list(map(as_text, names))
            if finite and in_order:
                return Rows(segments_s, names, values)
    except (KeyError, TypeError, IndexError, OverflowError):
        pass
    for number, row in enumerate(rows):
        wrong = _what_is_wrong(row, scores, labels)
        if wrong:
            problems.add(f"{where}[{number}]", wrong)
    return Rows(np.zeros((0, 2)), [], np.zeros(0))


def read_results_of(path: Path, video: str, rows: Any, problems: Problems, *, labels: bool = True) -> Rows:
    """Returns the arrays of a video's predictions in a file of results; adds faults to `problems`.

    Raises:
      UserError: rows is not a list.
    """
    where = f'results["{video}"]'
    if not isinstance(rows, list):
        raise UserError(f"{path}: {where} must be a list of predictions, not {shown(rows)}")
    return read_segments(rows, where, problems, scores=True, labels=labels)


def _what_is_wrong(row: Any, scores: bool, labels: bool) -> str:
    if not isinstance(row, dict):
        return f"an object is needed, not {shown(row)}"
    needed = ["segment"] + ["score"] * scores + ["label"] * labels
    for name in needed:
        if name not in row:
            return f'"{name}" is missing'
    segment = row["segment"]
    if not isinstance(segment, list) or len(segment) != 2 or not all(type(x) in NUMBER for x in segment):
        return f'"segment" must be two numbers, not {shown(segment)}'
    if not all(is_finite(x) for x in segment):
        return f'"segment" is not finite: {shown(segment)}'
    if not scores and segment[0] > segment[1]:
        return f'"segment" starts after its end: {segment}'
    if scores and type(row["score"]) not in NUMBER:
        return f'"score" must be a number, not {shown(row["score"])}'
    if scores and not is_finite(row["score"]):
        return f'"score" is not finite: {shown(row["score"])}'
    if labels and _no_label(row["label"]):
        return f'"label" must be a string or a number, not {shown(row["label"])}'
    return ""


def _no_label(label: Any) -> bool:
    return not isinstance(label, str) and not as_text(label)
