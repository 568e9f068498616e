"""ActivityNet's files, which THUMOS14 and others use too: the annotated database, and results per video.

{"database": {VIDEO: {"subset": …, "annotations": [{"segment": [start_s, end_s], "label": CLASS}, …]}, …}}
{"results": {VIDEO: [{"segment": [start_s, end_s], "score": …, "label": CLASS}, …], …}}
"""

import collections
import dataclasses
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import Problems, warn, warn_of, warn_of_odd_segments
from unloc_jax.metrics.detection import GroundTruth, Predictions
from unloc_jax.metrics.protocols.action_rows import Rows, read_segments
from unloc_jax.metrics.protocols.json_files import read_members, shown

AMBIGUOUS = "Ambiguous"  # THUMOS14's regions that count neither for nor against a detection

Members = Iterable[tuple[str, str | None, Any]]


@dataclasses.dataclass(frozen=True)
class Annotations:
    """One subset of a database.

    Attributes:
      path: the file.
      videos: id → index of every video of the subset, those without segments included; then of videos that only
        have ambiguous regions.
      num_videos: of the subset.
      classes: label → index, in order of first appearance.
      truth: segments in the file's order.
      ambiguous: segments with class index 0; no video needs to be in the subset.
      all_videos: ids of all subsets, blocked ones included.
      blocked: ids to leave out everywhere.
    """

    path: Path
    videos: dict[str, int]
    num_videos: int
    classes: dict[str, int]
    truth: GroundTruth
    ambiguous: GroundTruth
    all_videos: frozenset[str]
    blocked: frozenset[str]


def read_annotations(
    path: Path, subset: str, blocked_videos: Path | None = None, members: Members | None = None
) -> Annotations:
    """The segments of one subset; its name in any case ("Test" is "test").

    members: the file's content, where it comes in another format: as `read_members` gives it.

    UserError: no such file or format, no segments in the subset, a segment that is no pair of finite numbers,
    or is reversed, a label that is no string.
    """
    blocked = read_blocked(blocked_videos) if blocked_videos else frozenset()
    videos: dict[str, int] = {}
    classes: dict[str, int] = {}
    all_videos: set[str] = set()
    subsets: collections.Counter[str] = collections.Counter()
    columns: list[tuple[int, Rows]] = []
    ambiguous: dict[str, Any] = {}
    problems = Problems(path, "ground-truth segments")
    repeated = []
    for member, video, value in members or read_members(path, "database"):
        if member == "ambiguous":
            if not isinstance(value, dict) or not all(
                isinstance(regions, list) for regions in value.values()
            ):
                raise UserError(f'{path}: "ambiguous" must be an object: video → list of [start, end]')
            ambiguous = value
        if video is None:
            continue
        if not isinstance(value, dict) or not isinstance(value.get("annotations"), list):
            raise UserError(f'{path}: database["{video}"] has no list "annotations"')
        if not isinstance(value.get("subset"), str):
            raise UserError(f'{path}: database["{video}"] has no "subset"')
        if video in all_videos:
            repeated.append(video)
            if video in videos:
                columns = [(v, rows) for v, rows in columns if v != videos[video]]
        all_videos.add(video)
        subsets[value["subset"]] += 1
        if value["subset"].lower() == subset.lower() and video not in blocked:
            rows = read_segments(value["annotations"], f'database["{video}"].annotations', problems)
            columns.append((videos.setdefault(video, len(videos)), rows))
    problems.refuse()
    warn_of(repeated, len(all_videos), f"videos of {path} occur twice: the last one counts")
    if not videos:
        known = ", ".join(f"{name} ({n} videos)" for name, n in subsets.items()) or "none"
        raise UserError(
            f'{path}: no videos of subset "{subset}"; there are: {known}. Choose one with --subset.'
        )
    if blocked and not blocked & all_videos:
        raise UserError(f"{blocked_videos}: none of the {len(blocked)} blocked videos is in {path}")

    num_videos = len(videos)
    regions = [
        (
            videos.setdefault(video, len(videos)),
            read_segments(
                [{"segment": segment, "label": AMBIGUOUS} for segment in value],
                f'ambiguous["{video}"]',
                problems,
            ),
        )
        for video, value in ambiguous.items()
        if video not in blocked
    ]
    problems.refuse()
    every = _joined(columns, classes)
    is_ambiguous = every.class_index == classes.pop(AMBIGUOUS, -1)
    if not len(every.class_index) - is_ambiguous.sum():
        raise UserError(f'{path}: the {len(videos)} videos of subset "{subset}" have no segments')
    by_name = np.unique(every.class_index[~is_ambiguous], return_inverse=True)[1]
    more = _joined(regions, {})
    return Annotations(
        path,
        videos,
        num_videos,
        {name: i for i, name in enumerate(classes)},
        GroundTruth(every.video_index[~is_ambiguous], by_name, every.segments_s[~is_ambiguous]),
        GroundTruth(
            np.concatenate([every.video_index[is_ambiguous], more.video_index]),
            np.zeros(is_ambiguous.sum() + len(more.class_index), np.int64),
            np.concatenate([every.segments_s[is_ambiguous], more.segments_s]),
        ),
        frozenset(all_videos),
        blocked,
    )


def read_blocked(path: Path) -> frozenset[str]:
    """Ids of a JSON list: videos that are gone from the web, for example."""
    try:
        ids = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
        raise UserError(f"{path}: a JSON list of video ids is needed")
    return frozenset(ids)


def read_results(
    path: Path, of: Annotations, *, labels: bool = True, members: Members | None = None
) -> Predictions:
    """The predictions, without those of blocked videos.

    Videos that the subset does not have get indices from len(of.videos) on, and all classes that it does not
    have the index len(of.classes); both are warned of, and so are videos without predictions, negative times,
    and empty or reversed segments, which overlap nothing. UserError: wrong types, numbers that are not
    finite, and files in which no video or no class is one of the ground truth's.

    labels: whether rows have one; without, all class indices are 0.
    members: as in read_annotations.
    """
    videos, classes = dict(of.videos), dict(of.classes) if labels else {"": 0}
    known, problems, repeated = len(videos), Problems(path, "predictions"), 0
    columns: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    unknown_labels: collections.Counter[str] = collections.Counter()
    for _, video, rows in members or read_members(path, "results"):
        if video is None or video in of.blocked:
            continue
        where = f'results["{video}"]'
        if not isinstance(rows, list):
            raise UserError(f"{path}: {where} must be a list of predictions, not {shown(rows)}")
        found = read_segments(rows, where, problems, scores=True, labels=labels)
        index = videos.setdefault(video, len(videos))
        repeated += index in columns
        if labels:
            numbers = np.array([classes.get(label, len(classes)) for label in found.labels], np.int32)
            if len(numbers) and numbers.max() == len(classes):
                unknown_labels.update(label for label in found.labels if label not in classes)
        else:
            numbers = np.zeros(len(found.score), np.int32)
        columns.pop(index, None)
        columns[index] = numbers, found.segments_s, found.score
    problems.refuse()

    counts = [len(numbers) for numbers, _, _ in columns.values()]
    video_index = np.repeat(np.fromiter(columns, np.int32, len(columns)), counts)
    class_index = _concatenate([c for c, _, _ in columns.values()], np.zeros(0, np.int32))
    segments_s = _concatenate([s for _, s, _ in columns.values()], np.zeros((0, 2)))
    score = _concatenate([s for _, _, s in columns.values()], np.zeros(0))
    total = len(score)

    if repeated:
        warn(f"{repeated} videos of {path} occur twice: the last one counts")
    unknown = list(videos)[known:]
    if unknown and len(unknown) == len(columns):
        raise UserError(
            f"{path}: none of its {len(columns)} videos is in the evaluated subset of {of.path}: for example"
            f" {unknown[0]!r} is not, but {next(iter(of.videos))!r} is. {_why_unknown(unknown, of)}"
        )
    elsewhere = sum(video in of.all_videos for video in unknown)
    note = f" ({elsewhere} are of another subset)" if elsewhere else ""
    warn_of(
        unknown,
        len(columns),
        f"predicted videos are not in the evaluated subset{note}: their"
        f" {int((video_index >= known).sum())} predictions are false positives",
    )
    if unknown_labels and unknown_labels.total() == total:
        raise UserError(
            f"{path}: none of its labels is a class of {of.path}: for example {next(iter(unknown_labels))!r} is"
            f" not, but {next(iter(of.classes))!r} is"
        )
    if unknown_labels:
        warn(
            f"{unknown_labels.total()} of {total} predictions are of {len(unknown_labels)} classes without ground"
            f" truth and do not count; first: {next(iter(unknown_labels))!r}"
        )
    predicted = {video for video, rows in zip(columns, counts) if rows}
    warn_of(
        [video for video, index in of.videos.items() if index < of.num_videos and index not in predicted],
        of.num_videos,
        "videos have no predictions: their segments are missed",
    )
    starts = dict(zip(columns, itertools.accumulate(counts, initial=0)))
    names = list(videos)

    def where_is(row: int) -> str:
        return f'results["{names[video_index[row]]}"][{row - starts[video_index[row]]}]'

    warn_of_odd_segments(segments_s, "predictions", where_is)
    return Predictions(video_index, class_index, segments_s, score)


def _joined(columns: list[tuple[int, Rows]], classes: dict[str, int]) -> GroundTruth:
    """Classes are numbered as they appear."""
    names = [name for _, rows in columns for name in rows.labels]
    return GroundTruth(
        np.repeat(
            np.array([video for video, _ in columns], np.int64), [len(rows.labels) for _, rows in columns]
        ),
        np.array([classes.setdefault(name, len(classes)) for name in names], np.int64),
        _concatenate([rows.segments_s for _, rows in columns], np.zeros((0, 2))),
    )


def _concatenate(arrays: list[np.ndarray], empty: np.ndarray) -> np.ndarray:
    return np.concatenate([empty, *arrays])


def _why_unknown(unknown: list[str], of: Annotations) -> str:
    if any(video in of.all_videos for video in unknown):
        return "They are of another subset: choose it with --subset."
    if all(video.startswith("v_") for video in unknown):
        return 'Predicted ids start with "v_": take that off.'
    return "The files are of different datasets, or write ids differently."
