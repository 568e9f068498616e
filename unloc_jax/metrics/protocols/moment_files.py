"""Moments of queries: ground truth of several datasets, and predictions in moment_detr's format.

    {"qid": 2579, "vid": …, "query": …, "pred_relevant_windows": [[start_s, end_s, score], …]}

A prediction is matched by "qid" if the ground truth has one, otherwise by "vid" and "query".
"""

import collections
import dataclasses
import itertools
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import Problems, warn, warn_of, warn_of_odd_segments
from unloc_jax.metrics.protocols.annotated import Annotated, path_of
from unloc_jax.metrics.protocols.json_files import (
    NUMBER,
    hint_of_format,
    is_database,
    is_finite,
    read_members,
    read_rows,
    shown,
    text_lines,
)
from unloc_jax.metrics.protocols.moment_predictions import prediction_rows
from unloc_jax.names import as_text, normal_id, normal_text

CHUNK_S = 5.0  # DiDeMo's unit of time


@dataclasses.dataclass(frozen=True)
class Query:
    """One query of a ground truth.

    Attributes:
      key: matches predictions to the query: the qid, or (video id, text), as `unloc_jax.names` compares them.
      windows_s: float64 [W, 2], start and end in seconds.
      row: the file's own object, if the file has one per query.
    """

    key: Hashable
    windows_s: np.ndarray
    row: dict[str, Any]


class Predicted(NamedTuple):
    """The prediction of a query: the file's object, and a description of its place."""

    where: str
    row: dict[str, Any]


def read_queries(
    ground_truth: Path | Annotated, subset: str | None = None, *, with_absent: bool = False
) -> list[Query]:
    """Returns the queries of a ground truth, in its order.

    A query without windows is refused, or with `with_absent` taken as one that has no answer in its video. Queries that
    say so ("absent": true, as `unloc evaluate` writes them) are otherwise left out, with a warning.

    JSON lines {"qid": …, "vid": …, "query": …, "relevant_windows": [[start_s, end_s], …]} (QVHighlights, and
    other datasets in moment_detr's and lighthouse's layout); Charades-STA's .txt; {video: {"timestamps": …,
    "sentences": …}} (ActivityNet Captions; TACoS, whose "fps" turns frames into seconds); DiDeMo's list; YouCook2's
    {"database": {video: {"subset": …, "annotations": [{"segment": …, "sentence": …}]}}}, restricted to `subset`
    (default validation); `Annotated` queries.
    """
    path = path_of(ground_truth)
    problems = Problems(path, "queries")
    if isinstance(ground_truth, Path) and path.suffix == ".txt":
        queries = list(_charades_sta(path, problems))
    elif isinstance(ground_truth, Path) and is_database(path):
        queries = list(_sentences(path, problems, subset or "validation"))
    elif isinstance(ground_truth, Path) and _is_one_object_of_videos(path):
        queries = list(_captions(path, problems))
    else:
        queries, absent, unknown = [], [], []
        for where, row in ground_truth.rows() if isinstance(ground_truth, Annotated) else read_rows(path):
            problems.seen += 1
            windows, wrong = windows_of(row, "times" if "times" in row else "relevant_windows", (2,))
            if not wrong and not len(windows):
                if row.get("absent") and not with_absent:
                    absent.append(where)
                    continue
                if isinstance(ground_truth, Annotated) and not row.get("absent"):
                    unknown.append(where)
                    continue
                if not with_absent:
                    wrong = "it has no windows; queries without an answer are for --protocol gmr"
            if not wrong and key_of(row) is None:
                wrong = '"qid", or "vid" and "query", is missing'
            if wrong:
                problems.add(where, wrong)
                continue
            if "times" in row:  # first and last chunk, both included, one pair per annotator
                windows = (windows + np.array([0, 1])) * CHUNK_S
            queries.append(Query(key_of(row), windows.reshape(-1, 2), row))
        warn_of(unknown, problems.seen, "queries have no known answer: left out")
        warn_of(
            absent, problems.seen, "queries have no answer in their video: left out; --protocol gmr has them"
        )
    problems.refuse()
    if not queries:
        raise UserError(f"{path}: there are no queries in it")
    empty = sum(bool((query.windows_s[:, 0] >= query.windows_s[:, 1]).any()) for query in queries)
    if empty:
        warn(f"{empty} of {len(queries)} queries have a ground-truth window without length (start ≥ end)")
    return queries


def match_predictions(path: Path, queries: list[Query]) -> list[Predicted | None]:
    """Returns the prediction of each query, or None; warns of oddities.

    Raises:
      UserError: no prediction belongs to a query of the ground truth, or queries share a qid.
    """
    wanted: dict[Hashable, list[int]] = {}
    for number, query in enumerate(queries):
        wanted.setdefault(query.key, []).append(number)
    repeated = [key for key, numbers in wanted.items() if len(numbers) > 1 and not isinstance(key, tuple)]
    if repeated:
        raise UserError(
            f"the ground truth: {len(repeated)} qids of {len(wanted)} occur more than once; first: {repeated[0]!r}"
        )
    with_qid = not isinstance(queries[0].key, tuple)
    given: dict[Hashable, list[Predicted]] = {}
    unknown, total = [], 0
    for where, row in prediction_rows(path):
        total += 1
        key = key_of(row) if with_qid else _text_key(row)
        if key is None or isinstance(key, tuple) == with_qid:
            needed = '"qid"' if with_qid else '"vid" and "query"'
            hint = hint_of_format(row, "pred_relevant_windows", "pred_saliency_scores")
            raise UserError(f"{path}: {where}: {needed} must tell the query, as in the ground truth{hint}")
        if key in wanted:
            given.setdefault(key, []).append(Predicted(where, row))
        else:
            unknown.append(key)
    if len(unknown) == total:
        hint = ""
        if with_qid and type(unknown[0]) is not type(queries[0].key):
            hint = ": one is text, the other a number"
        raise UserError(
            f"{path}: none of its {total} predictions is of a query of the ground truth: for example"
            f" {unknown[0]!r} is not, but {queries[0].key!r} is{hint}"
        )
    warn_of(
        unknown, total, f"predictions of {path} are of queries that the ground truth does not have: ignored"
    )
    found: list[Predicted | None] = [None] * len(queries)
    for key, numbers in wanted.items():
        predictions = given.get(key, [])
        # A sentence that is annotated twice may be predicted twice, in the same order.
        if len(predictions) != len(numbers) and predictions:
            repeated.extend([key] * (len(predictions) > 1))
            predictions = predictions[-1:] * len(numbers)
        for number, prediction in zip(numbers, predictions):
            found[number] = prediction
    warn_of(repeated, len(queries), "queries are predicted more than once: the last one counts")
    missing = [query.key for query, prediction in zip(queries, found) if prediction is None]
    warn_of(missing, len(queries), "queries have no prediction: they are missed")
    return found


def predicted_windows(path: Path, predictions: list[Predicted | None]) -> list[np.ndarray]:
    """Returns windows, float64 [K, 3] per query: start and end in seconds, score (NaN if missing), in given order.

    Warns of windows that overlap nothing.

    Raises:
      UserError: a window is not two or three finite numbers.
    """
    problems = Problems(path, "predictions")
    every = []
    for prediction in predictions:
        if prediction is None:
            every.append(_NONE)
            continue
        problems.seen += 1
        windows, wrong = windows_of(prediction.row, "pred_relevant_windows", (2, 3))
        if wrong:
            problems.add(prediction.where, wrong)
        if windows.shape[1] == 2:
            windows = np.insert(windows, 2, np.nan, axis=1)
        every.append(windows)
    problems.refuse()
    ends = np.cumsum([len(windows) for windows in every])

    def where_is(window: int) -> str:
        query = int(np.searchsorted(ends, window, side="right"))
        prediction = predictions[query]
        assert prediction is not None
        return f"window {window - ends[query] + len(every[query])} of {prediction.where}"

    warn_of_odd_segments(np.concatenate(every)[:, :2], "predicted windows", where_is)
    without = [p.where for p, windows in zip(predictions, every) if p is not None and not len(windows)]
    warn_of(without, problems.seen, "predictions are an empty list of windows: their queries are missed")
    return every


_NONE = np.zeros((0, 3))


def windows_of(row: dict[str, Any], name: str, widths: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """Returns the windows, float64 [n, width], of a row, and a description of what is wrong with them, or ''."""
    windows = row.get(name)
    if not isinstance(windows, list):
        return _NONE, f'"{name}" must be a list of windows{hint_of_format(row, name)}'
    if not windows:
        return _NONE[:, : widths[-1]], ""
    if (right := _all_right(windows, widths)) is not None:
        return right, ""
    for window in windows:
        if not isinstance(window, list) or len(window) not in widths:
            return _NONE, f'"{name}" has {shown(window)}, not {" or ".join(map(str, widths))} numbers'
        if not set(map(type, window)) <= NUMBER:
            return _NONE, f'"{name}" has {shown(window)}, not numbers'
        if not all(map(is_finite, window)):
            return _NONE, f'"{name}" has {shown(window)}, not finite numbers'
    if len(set(map(len, windows))) > 1:
        return _NONE, f'some windows of "{name}" have a score, others not'
    return np.array(windows, np.float64), ""


def _all_right(windows: list[Any], widths: tuple[int, ...]) -> np.ndarray | None:
    """Returns the windows, float64 [n, width], if nothing is wrong with them, without a look at each."""
    if (
        set(map(type, windows)) != {list}
        or len(width := set(map(len, windows))) != 1
        or not width <= {*widths}
    ):
        return None
    numbers = list(itertools.chain.from_iterable(windows))
    if not set(map(type, numbers)) <= NUMBER:
        return None
    try:
        array = np.array(numbers, np.float64).reshape(len(windows), -1)
    except OverflowError:
        return None
    return array if np.isfinite(array).all() else None


def key_of(row: dict[str, Any]) -> Hashable:
    """Returns what tells the query of a row, see `Query.key`; None if nothing does."""
    for name in ("qid", "annotation_id"):
        if as_text(row.get(name)):
            return row[name]
    return _text_key(row)


def _text_key(row: dict[str, Any]) -> Hashable:
    video, text = row.get("vid", row.get("video")), row.get("query", row.get("description"))
    names = normal_id(video), normal_text(text)
    return names if all(names) else None


def _charades_sta(path: Path, problems: Problems) -> Iterator[Query]:
    for number, line in text_lines(path):
        problems.seen += 1
        where, _, text = line.partition("##")
        try:
            video, start, end = where.split()
            window = np.array([[float(start), float(end)]])
            if not text or not np.isfinite(window).all():
                raise ValueError
        except ValueError:
            problems.add(f"line {number}", f'"video start end##sentence" is needed, not {shown(line)}')
            continue
        yield Query((normal_id(video), normal_text(text)), window, {})


def _sentences(path: Path, problems: Problems, subset: str) -> Iterator[Query]:
    subsets: collections.Counter[str] = collections.Counter()
    for _, video, value in read_members(path, "database"):
        if video is None:
            continue
        rows = value.get("annotations") if isinstance(value, dict) else None
        if not isinstance(rows, list | None) or not isinstance(value, dict):
            raise UserError(f'{path}: database["{video}"].annotations must be a list')
        subsets[str(value.get("subset"))] += 1
        if str(value.get("subset")).lower() != subset.lower():
            continue
        for row in rows or ():
            problems.seen += 1
            text = as_text(row.get("sentence")) if isinstance(row, dict) else ""
            windows, wrong = (
                windows_of({"segment": [row["segment"]]}, "segment", (2,))
                if text and "segment" in row
                else (
                    _NONE,
                    '"segment" and "sentence" are needed',
                )
            )
            if wrong:
                problems.add(f'database["{video}"]', wrong)
                continue
            yield Query((normal_id(video), normal_text(text)), windows, {})
    if not any(name.lower() == subset.lower() for name in subsets):
        known = ", ".join(f"{name} ({n} videos)" for name, n in subsets.items()) or "none"
        raise UserError(
            f'{path}: no videos of subset "{subset}"; there are: {known}. Choose one with --subset.'
        )


def _is_one_object_of_videos(path: Path) -> bool:
    """Returns whether the file starts with {"…": {, unlike JSON lines with their fields."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(4096)
    start = head.lstrip()
    _, _, after_name = start[1:].partition('":')
    return start.startswith("{") and after_name.lstrip().startswith("{")


def _captions(path: Path, problems: Problems) -> Iterator[Query]:
    for video, _, value in read_members(path):
        if not isinstance(value, dict):
            raise UserError(f'{path}: "{video}" must have "timestamps" and "sentences", not {shown(value)}')
        times, texts = (value.get(name) for name in ("timestamps", "sentences"))
        if not isinstance(times, list) or not isinstance(texts, list) or len(times) != len(texts):
            raise UserError(
                f'{path}: "{video}" has no "timestamps" and "sentences" of one length{hint_of_format({video: value})}'
            )
        per_second = value.get("fps", 1.0)
        if type(per_second) not in NUMBER or not per_second > 0:
            raise UserError(
                f'{path}: "{video}" has an "fps" that is not a positive number: {shown(per_second)}'
            )
        for time, text in zip(times, texts):
            problems.seen += 1
            windows, wrong = windows_of({"timestamps": [time]}, "timestamps", (2,))
            if not as_text(text):
                wrong = f"a sentence must be text, not {shown(text)}"
            if wrong:
                problems.add(f'"{video}"', wrong)
                continue
            yield Query((normal_id(video), normal_text(text)), windows / per_second, {})
