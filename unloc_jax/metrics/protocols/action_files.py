"""ActivityNet's files, which THUMOS14 and others use as well: the annotated database, and results per video.

{"database": {VIDEO: {"subset": …, "annotations": [{"segment": [start_s, end_s], "label": CLASS}, …]}, …}}
{"results": {VIDEO: [{"segment": [start_s, end_s], "score": …, "label": CLASS}, …], …}}

BMN's and mmaction2's ground truth is the database without the name around it, mostly without subsets:
{VIDEO: {"duration_second": …, "annotations": […]}, …}
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import Problems, warn, warn_of, warn_of_odd_segments
from unloc_jax.metrics.detection import GroundTruth, Predictions
from unloc_jax.metrics.protocols.action_rows import Rows, read_results_of, read_segments
from unloc_jax.metrics.protocols.annotated import Annotated, path_of
from unloc_jax.metrics.protocols.json_files import hint_of_format, read_json, read_members
from unloc_jax.names import as_text, normal_id, normal_text

AMBIGUOUS = "Ambiguous"  # THUMOS14's regions that count neither for nor against a detection

Members = Iterable[tuple[str, str | None, Any]]


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The annotations of one subset of a database.

    Attributes:
      path: the file.
      videos: id → index of every video of the subset, including those without segments, followed by videos that only
        have ambiguous regions.
      num_videos: videos in the subset.
      classes: label → index, in order of first appearance.
      truth: segments in the file's order, in seconds.
      ambiguous: ambiguous regions in seconds, with class index 0; their videos need not be in the subset.
      all_videos: ids of all subsets, including blocked ones.
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


def database_members(ground_truth: Path | Annotated) -> Members:
    """Yields ("database", video, value) for each video, and other members of the file as (name, None, value).

    Raises:
      UserError: the file does not have this format, or the texts are not classes.
    """
    if isinstance(ground_truth, Annotated):
        yield from ground_truth.members()
        return
    names = {}
    has_videos = False
    for member, video, value in read_members(ground_truth, "database", needed=False):
        names[member] = value
        if video is None and isinstance(value, dict) and isinstance(value.get("annotations"), list):
            member, video = "database", member
        has_videos |= member == "database"
        yield member, video, value
    if not has_videos and "database" not in names:
        raise UserError(f'{ground_truth}: there is no "database"{hint_of_format(names)}')


def read_annotations(
    ground_truth: Path | Annotated,
    subset: str,
    blocked_videos: Path | None = None,
    members: Members | None = None,
) -> Annotations:
    """Returns the segments of one subset; its name in any case ("Test" is "test").

    A file in which no video has a subset is taken as the subset, with a warning.

    Args:
      ground_truth: the file, or annotated videos.
      subset: name of the subset.
      blocked_videos: JSON list of video ids to leave out.
      members: the file's content as `database_members` yields it, if it comes in another format.

    Raises:
      UserError: the file is missing or has another format, the subset has no segments, a segment is reversed or not a
        pair of finite numbers, or a label is neither text nor a number.
    """
    path = path_of(ground_truth)
    blocked = _read_blocked(blocked_videos) if blocked_videos else frozenset()
    database, ambiguous = _read_database(path, members or database_members(ground_truth))
    if database and not any(of for of, _ in database.values()):
        warn(
            f"no video of {path} says its subset: all {len(database)} are evaluated. BMN's file has its subsets in"
            f" video_info_new.csv: name that behind it"
        )
        database = {video: (subset, rows) for video, (_, rows) in database.items()}
    if blocked and not blocked & set(database):
        raise UserError(f"{blocked_videos}: none of the {len(blocked)} blocked videos is in {path}")
    ids = [v for v, (of, _) in database.items() if of.lower() == subset.lower() and v not in blocked]
    if not ids:
        subsets = collections.Counter(of for of, _ in database.values())
        known = ", ".join(f"{name} ({n} videos)" for name, n in subsets.items()) or "none"
        raise UserError(
            f'{path}: no videos of subset "{subset}"; there are: {known}. Choose one with --subset.'
        )
    problems = Problems(path, "ground-truth segments")
    columns = [
        (i, read_segments(database[v][1], f'database["{v}"].annotations', problems))
        for i, v in enumerate(ids)
    ]
    videos = {v: i for i, v in enumerate(ids)}
    regions = [
        (videos.setdefault(v, len(videos)), read_segments(rows, f'ambiguous["{v}"]', problems))
        for v, rows in ambiguous.items()
        if v not in blocked
    ]
    problems.refuse()

    classes: dict[str, int] = {}
    every, more = _joined(columns, classes), _joined(regions, {})
    is_ambiguous = every.class_index == classes.pop(AMBIGUOUS, -1)
    if is_ambiguous.all():
        raise UserError(f'{path}: the {len(ids)} videos of subset "{subset}" have no segments')
    return Annotations(
        path,
        videos,
        len(ids),
        {name: i for i, name in enumerate(classes)},
        GroundTruth(
            every.video_index[~is_ambiguous],
            np.unique(every.class_index[~is_ambiguous], return_inverse=True)[1],  # closes AMBIGUOUS' gap
            every.segments_s[~is_ambiguous],
        ),
        GroundTruth(
            np.concatenate([every.video_index[is_ambiguous], more.video_index]),
            np.zeros(is_ambiguous.sum() + len(more.class_index), np.int64),
            np.concatenate([every.segments_s[is_ambiguous], more.segments_s]),
        ),
        frozenset(database),
        blocked,
    )


def _read_database(
    path: Path, members: Members
) -> tuple[dict[str, tuple[str, list[Any]]], dict[str, list[Any]]]:
    """Returns each video's subset and rows, and the rows of ambiguous regions. Raises UserError for another format."""
    database: dict[str, tuple[str, list[Any]]] = {}
    ambiguous: dict[str, list[Any]] = {}
    repeated: list[str] = []
    for member, video, value in members:
        if member == "ambiguous":
            if not isinstance(value, dict) or not all(
                isinstance(regions, list) for regions in value.values()
            ):
                raise UserError(f'{path}: "ambiguous" must be an object: video → list of [start, end]')
            ambiguous = {
                normal_id(video): [{"segment": region, "label": AMBIGUOUS} for region in regions]
                for video, regions in value.items()
            }
        if video is None:
            continue
        video = normal_id(video)
        if not isinstance(value, dict) or not isinstance(value.get("annotations"), list):
            raise UserError(f'{path}: database["{video}"] has no list "annotations"')
        repeated.extend([video] * (video in database))
        subset = value.get("subset")
        database[video] = subset if isinstance(subset, str) else "", value["annotations"]
    without = [video for video, (subset, _) in database.items() if not subset]
    if 0 < len(without) < len(database):
        raise UserError(f'{path}: database["{without[0]}"] has no "subset", other videos have')
    warn_of(repeated, len(database), f"videos of {path} occur twice: the last one counts")
    return database, ambiguous


def _read_blocked(path: Path) -> frozenset[str]:
    """Reads the ids of a JSON list, for example of videos that are gone from the web."""
    ids = read_json(path)
    if not isinstance(ids, list) or not all(map(as_text, ids)):
        raise UserError(f"{path}: a JSON list of video ids is needed")
    return frozenset(map(normal_id, ids))


def read_results(
    path: Path, of: Annotations, *, labels: bool = True, members: Members | None = None
) -> Predictions:
    """Returns the predictions, without those of blocked videos; times in seconds.

    Videos that are not in the subset get indices from len(of.videos) on, and all classes that are not in
    it get the index len(of.classes). Both cause warnings, and so do videos without predictions, negative times,
    and empty or reversed segments.

    Args:
      path: the file of results.
      of: the ground truth.
      labels: whether rows have labels; if not, all class indices are 0.
      members: as in `read_annotations`.

    Raises:
      UserError: wrong types, numbers that are not finite, or no video or no class of the file is in the ground truth.
    """
    videos = dict(of.videos)  # the file's other videos are added
    columns: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    unknown_labels: collections.Counter[str] = collections.Counter()
    number: dict[str, int] = {}  # label, as written in the file → class
    repeated, problems = [], Problems(path, "predictions")
    for _, video, rows in members or read_members(path, "results"):
        if video is None:
            continue
        video = id_in(of, normal_id(video))
        if video in of.blocked:
            continue
        given = read_results_of(path, video, rows, problems, labels=labels)
        classes = np.zeros(len(given.score), np.int32)
        if labels:
            for label in set(given.labels) - number.keys():
                number[label] = of.classes.get(normal_text(label), len(of.classes))
            classes[:] = [number[label] for label in given.labels]
            if (classes == len(of.classes)).any():
                unknown_labels.update(label for label in given.labels if number[label] == len(of.classes))
        index = videos.setdefault(video, len(videos))
        repeated.extend([video] * (index in columns))
        columns[index] = classes, given.segments_s, given.score
    problems.refuse()
    warn_of(repeated, len(columns), f"videos of {path} occur twice: the last one counts")

    counts = [len(score) for _, _, score in columns.values()]
    found = Predictions(
        np.repeat(np.fromiter(columns, np.int32, len(columns)), counts),
        np.concatenate([np.zeros(0, np.int32), *(c for c, _, _ in columns.values())]),
        np.concatenate([np.zeros((0, 2)), *(s for _, s, _ in columns.values())]),
        np.concatenate([np.zeros(0), *(s for _, _, s in columns.values())]),
    )
    _check_ids(path, of, list(videos)[len(of.videos) :], dict(zip(columns, counts)))
    _check_labels(path, of, unknown_labels, len(found.score))
    starts = dict(zip(columns, itertools.accumulate(counts, initial=0)))
    names = list(videos)

    def where_is(row: int) -> str:
        video = found.video_index[row]
        return f'results["{names[video]}"][{row - starts[video]}]'

    warn_of_odd_segments(found.segments_s, "predictions", where_is)
    return found


def labelled_members(predictions: Path, ground_truth: Path | Annotated) -> Members:
    """Yields the members of results; rows with a class's id in place of a label, as in a challenge's submission, get
    the label that the ground truth has for it ("verb 7" if it has none)."""
    ids = ground_truth.class_ids if isinstance(ground_truth, Annotated) else {}
    for member, video, rows in read_members(predictions, "results"):
        for key, names in ids.items() if isinstance(rows, list) else ():
            for row in rows:
                if isinstance(row, dict) and "label" not in row and key in row:
                    row["label"] = names.get(as_text(row[key]).replace(" ", ""), f"{key} {row[key]}")
        yield member, video, rows


def id_in(of: Annotations, video: str) -> str:
    """Returns the ground truth's id of a predicted video: BMN and mmaction2 write "v_" only in the ground truth."""
    return f"v_{video}" if video not in of.all_videos and f"v_{video}" in of.all_videos else video


def _check_ids(path: Path, of: Annotations, unknown: list[str], counts: dict[int, int]) -> None:
    """Checks predicted videos. unknown: those that the subset lacks; counts: video index → number of predictions."""
    if unknown and len(unknown) == len(counts):
        raise UserError(
            f"{path}: none of its {len(counts)} videos is in the evaluated subset of {of.path}: for example"
            f" {unknown[0]!r} is not, but {next(iter(of.videos))!r} is. {_why_unknown(unknown, of)}"
        )
    elsewhere = sum(video in of.all_videos for video in unknown)
    note = f" ({elsewhere} are of another subset)" if elsewhere else ""
    rows = sum(n for video, n in counts.items() if video >= len(of.videos))
    warn_of(
        unknown,
        len(counts),
        f"predicted videos are not in the evaluated subset{note}: their {rows} predictions are false positives",
    )
    without = [v for v, index in of.videos.items() if index < of.num_videos and not counts.get(index)]
    warn_of(without, of.num_videos, "videos have no predictions: their segments are missed")


def _check_labels(path: Path, of: Annotations, unknown: collections.Counter[str], total: int) -> None:
    if not unknown:
        return
    first = next(iter(unknown))
    if unknown.total() == total:
        raise UserError(
            f"{path}: none of its labels is a class of {of.path}: for example {first!r} is not, but"
            f" {next(iter(of.classes))!r} is"
        )
    warn(
        f"{unknown.total()} of {total} predictions are of {len(unknown)} classes without ground truth and do not"
        f" count; first: {first!r}"
    )


def _joined(columns: list[tuple[int, Rows]], classes: dict[str, int]) -> GroundTruth:
    """Joins the rows of all videos; classes are numbered in order of appearance."""
    names = [normal_text(name) for _, rows in columns for name in rows.labels]
    names = [AMBIGUOUS if name.lower() == AMBIGUOUS.lower() else name for name in names]
    return GroundTruth(
        np.repeat(
            np.array([video for video, _ in columns], np.int64), [len(rows.labels) for _, rows in columns]
        ),
        np.array([classes.setdefault(name, len(classes)) for name in names], np.int64),
        np.concatenate([np.zeros((0, 2)), *(rows.segments_s for _, rows in columns)]),
    )


def _why_unknown(unknown: list[str], of: Annotations) -> str:
    if any(video in of.all_videos for video in unknown):
        return "They are of another subset: choose it with --subset."
    if all(video.startswith("v_") for video in unknown):
        return 'Predicted ids start with "v_": take that off.'
    return "The files are of different datasets, or write ids differently."
