"""Moments of queries: ground truths of several datasets, and predictions as moment_detr writes them.

    {"qid": 2579, "vid": …, "query": …, "pred_relevant_windows": [[start_s, end_s, score], …]}

Predictions are found by "qid" where the ground truth has one, otherwise by "vid" and "query".
"""

import dataclasses
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import Problems, warn, warn_of, warn_of_odd_segments
from unloc_jax.metrics.protocols.json_files import NUMBER, is_finite, read_members, read_rows, what_it_is

CHUNK_S = 5.0  # DiDeMo's unit of time


@dataclasses.dataclass(frozen=True)
class Query:
    """One query of a ground truth.

    Attributes:
      key: what a prediction is found by: the qid, or (video id, text).
      windows_s: float64 [W, 2].
      row: the file's own object, where it is one per query.
    """

    key: Hashable
    windows_s: np.ndarray
    row: dict[str, Any]


def read_queries(path: Path) -> list[Query]:
    """The queries of a ground truth, in its order.

    JSON lines {"qid": …, "vid": …, "query": …, "relevant_windows": [[start_s, end_s], …]} (QVHighlights, and
    other datasets in moment_detr's and lighthouse's layout); Charades-STA's .txt; {video: {"timestamps": …,
    "sentences": …}} (ActivityNet Captions; TACoS, whose "fps" turns frames into seconds); DiDeMo's list.
    """
    problems = Problems(path, "queries")
    if path.suffix == ".txt":
        queries = list(_charades_sta(path, problems))
    elif _is_one_object_of_videos(path):
        queries = list(_captions(path, problems))
    else:
        queries = []
        for where, row in read_rows(path):
            problems.seen += 1
            windows, wrong = windows_of(row, "times" if "times" in row else "relevant_windows", (2,))
            if not wrong and not len(windows):
                wrong = "it has no windows"
            if wrong:
                problems.add(where, wrong)
                continue
            if "times" in row:  # first and last chunk, both included, one pair per annotator
                windows = (windows + np.array([0, 1])) * CHUNK_S
            queries.append(Query(_key(row), windows, row))
    problems.refuse()
    if not queries:
        raise UserError(f"{path}: there are no queries in it")
    empty = sum(bool((query.windows_s[:, 0] >= query.windows_s[:, 1]).any()) for query in queries)
    if empty:
        warn(
            f"{empty} of {len(queries)} queries have a ground-truth window that ends before it lasts: no one hits it"
        )
    by_qid = [query.key for query in queries if not isinstance(query.key, tuple)]
    if len(set(by_qid)) < len(by_qid):
        raise UserError(f"{path}: {len(by_qid) - len(set(by_qid))} queries share their qid with another one")
    return queries


def match_predictions(path: Path, queries: list[Query]) -> list[dict[str, Any] | None]:
    """The prediction of each query, or None; what is odd about that is warned of.

    UserError where no prediction is of a query of the ground truth.
    """
    wanted: dict[Hashable, list[int]] = {}
    for number, query in enumerate(queries):
        wanted.setdefault(query.key, []).append(number)
    with_qid = not isinstance(queries[0].key, tuple)
    given: dict[Hashable, list[dict[str, Any]]] = {}
    unknown, total = [], 0
    for where, row in read_rows(path):
        total += 1
        key = _key(row) if with_qid else _text_key(row)
        if key is None or isinstance(key, tuple) == with_qid:
            needed = '"qid"' if with_qid else '"vid" and "query"'
            raise UserError(f"{path}: {where}: {needed} is missing{what_it_is(row)}")
        if key in wanted:
            given.setdefault(key, []).append(row)
        else:
            unknown.append(key)
    if len(unknown) == total:
        raise UserError(
            f"{path}: none of its {total} predictions is of a query of the ground truth: for example"
            f" {unknown[0]!r} is not, but {queries[0].key!r} is"
        )
    warn_of(
        unknown, total, f"predictions of {path} are of queries that the ground truth does not have: ignored"
    )
    found: list[dict[str, Any] | None] = [None] * len(queries)
    repeated = []
    for key, numbers in wanted.items():
        predictions = given.get(key, [])
        # A sentence that is annotated twice may be predicted twice: in the same order.
        if len(predictions) != len(numbers) and predictions:
            repeated.extend([key] * (len(predictions) > 1))
            predictions = predictions[-1:] * len(numbers)
        for number, row in zip(numbers, predictions):
            found[number] = row
    warn_of(repeated, len(queries), "queries are predicted more than once: the last one counts")
    missing = [query.key for query, row in zip(queries, found) if row is None]
    warn_of(missing, len(queries), "queries have no prediction: they are missed")
    return found


def predicted_windows(path: Path, rows: list[dict[str, Any] | None]) -> list[np.ndarray]:
    """float64 [K, 3] per query: start and end in seconds, score (NaN where a window has none), in given order.

    UserError where a window is no two or three finite numbers; warns of windows that overlap nothing.
    """
    problems = Problems(path, "predictions")
    every = []
    for row in rows:
        problems.seen += 1
        windows, wrong = windows_of(row, "pred_relevant_windows", (2, 3)) if row is not None else (_NONE, "")
        if wrong:
            problems.add(f"the one of {_key(row or {})!r}", wrong)
        if windows.shape[1] == 2:
            windows = np.insert(windows, 2, np.nan, axis=1)
        every.append(windows)
    problems.refuse()
    ends = np.cumsum([len(windows) for windows in every])

    def where_is(window: int) -> str:
        query = int(np.searchsorted(ends, window, side="right"))
        return f"window {window - ends[query] + len(every[query])} of {_key(rows[query] or {})!r}"

    warn_of_odd_segments(np.concatenate(every)[:, :2], "predicted windows", where_is)
    without = sum(row is not None and not len(windows) for row, windows in zip(rows, every))
    if without:
        warn(f"{without} of {len(rows)} queries have an empty list of windows: they are missed")
    return every


_NONE = np.zeros((0, 3))


def windows_of(row: dict[str, Any], name: str, widths: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """The windows [n, width] of a row, and what is wrong with them, or ''."""
    windows = row.get(name)
    if not isinstance(windows, list):
        return _NONE, f'"{name}" must be a list{what_it_is(row) if windows is None else ""}'
    if not windows:
        return _NONE[:, : widths[-1]], ""
    for window in windows:
        if not isinstance(window, list) or len(window) not in widths:
            return _NONE, f'"{name}" has {window!r}, not {" or ".join(map(str, widths))} numbers'
        if not set(map(type, window)) <= NUMBER:
            return _NONE, f'"{name}" has {window!r}, not numbers'
        if not all(map(is_finite, window)):
            return _NONE, f'"{name}" has {window!r}, not finite numbers'
    if len(set(map(len, windows))) > 1:
        return _NONE, f'some windows of "{name}" have a score, others not'
    return np.array(windows, np.float64), ""


def _key(row: dict[str, Any]) -> Hashable:
    for name in ("qid", "annotation_id"):
        if isinstance(row.get(name), str | int):
            return row[name]
    return _text_key(row)


def _text_key(row: dict[str, Any]) -> Hashable:
    video, text = row.get("vid", row.get("video")), row.get("query", row.get("description"))
    return (video, text.strip()) if isinstance(video, str) and isinstance(text, str) else None


def _charades_sta(path: Path, problems: Problems) -> Iterator[Query]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            problems.seen += 1
            where, _, text = line.partition("##")
            try:
                video, start, end = where.split()
                window = np.array([[float(start), float(end)]])
            except ValueError:
                problems.add(f"line {number}", f'"video start end##sentence" is needed, not {line.strip()!r}')
                continue
            yield Query((video, text.strip()), window, {})


def _is_one_object_of_videos(path: Path) -> bool:
    """Whether the file starts with {"…": {, unlike JSON lines with their fields."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(4096)
    start = head.lstrip()
    _, _, after_name = start[1:].partition('":')
    return start.startswith("{") and after_name.lstrip().startswith("{")


def _captions(path: Path, problems: Problems) -> Iterator[Query]:
    for video, _, value in read_members(path):
        times, texts = (value.get(name) for name in ("timestamps", "sentences"))
        if not isinstance(times, list) or not isinstance(texts, list) or len(times) != len(texts):
            raise UserError(
                f'{path}: "{video}" has no "timestamps" and "sentences" of one length{what_it_is(value)}'
            )
        per_second = value.get("fps", 1.0)
        for time, text in zip(times, texts):
            problems.seen += 1
            windows, wrong = windows_of({"timestamps": [time]}, "timestamps", (2,))
            if wrong:
                problems.add(f'"{video}"', wrong)
                continue
            yield Query((video, text.strip()), windows / per_second, {})
