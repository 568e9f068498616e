"""Inputs of a diagnosis: the protocols' own files, with durations and pyramid levels, which only a diagnosis needs."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import warn
from unloc_jax.metrics.detection import GroundTruth, Predictions, checked
from unloc_jax.metrics.protocols.action_files import (
    Members,
    database_members,
    id_in,
    read_annotations,
    read_results,
)
from unloc_jax.metrics.protocols.annotated import Annotated, path_of
from unloc_jax.metrics.protocols.json_files import NUMBER, is_finite, read_members, shown
from unloc_jax.metrics.protocols.moment_files import (
    CHUNK_S,
    Predicted,
    Query,
    match_predictions,
    predicted_windows,
    read_queries,
)
from unloc_jax.metrics.protocols.thumos14 import annotation_members, detection_members
from unloc_jax.names import as_text, normal_id, normal_text

SUBSETS = {"activitynet": "validation", "thumos14": "test"}


@dataclasses.dataclass(frozen=True)
class Actions:
    """Detections of actions and their ground truth.

    Attributes:
      scored, found: as `unloc metrics` passes them to `detection.detection_map`; predictions of classes without
        ground truth have class index C.
      truth: the segments of `scored` with length > 0: the others overlap nothing and are left out of the diagnosis.
      classes: names of the C classes.
      videos: ids of the evaluated videos, then of those that only have ambiguous regions; `found.video_index` may be
        higher, for videos that are not evaluated.
      num_videos: number of evaluated videos.
      duration_s: float64 [videos] in seconds; NaN if not in the ground truth.
      level: int [M], the pyramid level of each prediction; None if the file has none.
    """

    scored: GroundTruth
    truth: GroundTruth
    found: Predictions
    classes: list[str]
    videos: list[str]
    num_videos: int
    duration_s: np.ndarray
    level: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Moments:
    """Moments of N queries.

    Attributes:
      texts, videos: of each query.
      truth_s: per query float64 [W, 2] in seconds, W ≥ 1.
      windows: per query float64 [K, 3], start and end in seconds, score (or NaN), best first; K may be 0.
      duration_s: float64 [N] in seconds; NaN if not in the ground truth.
      level: per query int [K]; None if the file has none.
    """

    texts: list[str]
    videos: list[str]
    truth_s: list[np.ndarray]
    windows: list[np.ndarray]
    duration_s: np.ndarray
    level: list[np.ndarray] | None


def read_actions(
    protocol: str,
    ground_truth: Path | Annotated,
    predictions: Path,
    subset: str | None = None,
    blocked_videos: Path | None = None,
) -> Actions:
    """Reads files of ActivityNet's format, or of THUMOS14's devkit, in seconds.

    A video's duration is `database[video].duration`; without it, length / `coverage` of a segment, as in DETAD's
    files. A prediction may have a "level": the pyramid level that it comes from.

    Raises:
      UserError: as the protocol's; only some predictions have a "level", or one is not a whole number ≥ 0.
    """
    durations: dict[str, float] = {}
    levels: dict[str, list[Any]] = {}
    is_thumos14 = protocol == "thumos14"
    database = annotation_members(ground_truth) if is_thumos14 else database_members(ground_truth)
    results = detection_members(predictions) if is_thumos14 else read_members(predictions, "results")
    annotations = read_annotations(
        ground_truth, subset or SUBSETS[protocol], blocked_videos, _noting_durations(database, durations)
    )
    found = read_results(predictions, annotations, members=_noting_levels(results, levels))
    if len(annotations.ambiguous.class_index):
        warn(
            f"{len(annotations.ambiguous.class_index)} ambiguous regions are left alone: predictions there are false"
            f" positives"
        )
    truth, found = checked(annotations.truth, found)
    has_length = truth.segments_s[:, 0] < truth.segments_s[:, 1]
    videos = list(annotations.videos)
    levels = {id_in(annotations, video): of_video for video, of_video in levels.items()}
    ids = [*videos, *(v for v in levels if v not in annotations.videos and v not in annotations.blocked)]
    in_order = dict.fromkeys(found.video_index.tolist())
    of_rows = [level for index in in_order for level in levels[ids[index]]]
    return Actions(
        truth,
        GroundTruth(*(column[has_length] for column in truth)),
        found,
        list(annotations.classes),
        videos,
        annotations.num_videos,
        np.array([durations.get(video, np.nan) for video in videos]),
        _checked_levels(predictions, of_rows, "predictions"),
    )


def read_moments(ground_truth: Path | Annotated, predictions: Path) -> Moments:
    """Reads files of `moment_files`, in seconds.

    A query's "duration" is in its own row, or in its video's object. A row of predictions may have "pred_levels": the
    pyramid level of each of its windows.

    Raises:
      UserError: as the protocol's; only some rows have "pred_levels", or these are not one whole number ≥ 0 per window.
    """
    queries = read_queries(ground_truth)
    found = match_predictions(predictions, queries)
    windows = predicted_windows(predictions, found)
    return Moments(
        [_text(query) for query in queries],
        [_video(query) for query in queries],
        [query.windows_s for query in queries],
        windows,
        _durations_of_queries(path_of(ground_truth), queries),
        _levels_of_windows(predictions, found, windows),
    )


def _noting_durations(members: Members, durations: dict[str, float]) -> Iterator[tuple[str, str | None, Any]]:
    for member, video, value in members:
        if video is not None and isinstance(value, dict):
            durations[normal_id(video)] = _duration(value)
        yield member, video, value


def _duration(value: dict[str, Any]) -> float:
    for name in ("duration", "duration_second"):  # the second name is BMN's and mmaction2's
        if np.isfinite(duration_s := _positive(value, name)):
            return duration_s
    rows = value.get("annotations")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and type(row.get("coverage")) in NUMBER and row["coverage"] > 0:
            try:
                start, end = map(float, row["segment"])
            except (KeyError, TypeError, ValueError):
                continue  # the protocol's reader reports the fault
            return (end - start) / row["coverage"]
    return np.nan


def _noting_levels(members: Members, levels: dict[str, list[Any]]) -> Iterator[tuple[str, str | None, Any]]:
    """Yields in the order in which `read_results` numbers videos; the last rows of a repeated video count."""
    for member, video, rows in members:
        if video is not None and isinstance(rows, list):
            levels[normal_id(video)] = [row.get("level") if isinstance(row, dict) else None for row in rows]
        yield member, video, rows


def _checked_levels(path: Path, levels: list[Any], rows: str) -> np.ndarray | None:
    """Returns the levels of n rows, int64 [n], or None if no row has one."""
    missing = sum(level is None for level in levels)
    if missing == len(levels):
        return None
    if missing:
        raise UserError(
            f'{path}: {missing} of {len(levels)} {rows} have no "level", others have: give all or none'
        )
    wrong = next((level for level in levels if type(level) is not int or level < 0), None)
    if wrong is not None:
        raise UserError(f'{path}: "level" must be a whole number from 0 on, not {shown(wrong)}')
    return np.array(levels, np.int64)


def _levels_of_windows(
    path: Path, found: list[Predicted | None], windows: list[np.ndarray]
) -> list[np.ndarray] | None:
    """Returns the levels of windows, int64 [K] per query with windows [K, 3], or None if no row has them."""
    given = [prediction for prediction in found if prediction is not None]
    if not any("pred_levels" in prediction.row for prediction in given):
        return None
    every = []
    for prediction, of_query in zip(found, windows):
        levels = prediction.row.get("pred_levels") if prediction else []
        if not isinstance(levels, list) or len(levels) != len(of_query):
            assert prediction is not None
            raise UserError(
                f'{path}: {prediction.where}: "pred_levels" must be a list of {len(of_query)} levels, one per'
                f" window, not {shown(levels)}"
            )
        every.append(levels)
    flat = _checked_levels(path, [level for levels in every for level in levels], "windows")
    if flat is None:
        return None
    return np.split(flat, np.cumsum([len(levels) for levels in every])[:-1])


def _text(query: Query) -> str:
    for name in ("query", "description"):
        if as_text(query.row.get(name)):
            return normal_text(query.row[name])
    return query.key[1] if isinstance(query.key, tuple) else str(query.key)


def _video(query: Query) -> str:
    for name in ("vid", "video"):
        if as_text(query.row.get(name)):
            return normal_id(query.row[name])
    return query.key[0] if isinstance(query.key, tuple) else f"query {query.key}"


def _durations_of_queries(path: Path, queries: list[Query]) -> np.ndarray:
    """Returns float64 [N] in s; rows of ActivityNet Captions and TACoS are videos, whose durations are looked up."""
    of_video: dict[str, float] = {}
    if path.suffix != ".txt" and not any(query.row for query in queries):
        for video, _, value in read_members(path):
            of_video[normal_id(video)] = _video_duration(value)
    return np.array(
        [
            _video_duration(query.row) if query.row else of_video.get(_video(query), np.nan)
            for query in queries
        ]
    )


def _video_duration(value: dict[str, Any]) -> float:
    """Returns seconds from "duration" (s), TACoS's "num_frames" and "fps", or DiDeMo's "num_segments"."""
    for duration_s in (
        _positive(value, "duration"),
        _positive(value, "num_frames") / _positive(value, "fps"),
        CHUNK_S * _positive(value, "num_segments"),
    ):
        if np.isfinite(duration_s):
            return duration_s
    return np.nan


def _positive(value: dict[str, Any], name: str) -> float:
    """Returns a positive number, or NaN if there is none."""
    number: Any = value.get(name)
    return float(number) if type(number) in NUMBER and is_finite(number) and number > 0 else np.nan
