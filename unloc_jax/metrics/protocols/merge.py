"""`unloc merge`: the predictions of several checkpoints, or programs, as one file; and thresholds of classes."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import Problems
from unloc_jax.metrics.ensembling import fused
from unloc_jax.metrics.protocols.action_rows import read_results_of
from unloc_jax.metrics.protocols.json_files import NUMBER, is_finite, read_json, read_members, read_rows
from unloc_jax.metrics.protocols.moment_files import key_of, windows_of
from unloc_jax.names import normal_id, normal_text
from unloc_jax.paths import check_output_file
from unloc_jax.whole_writes import write_result

IOU = 0.7
Fuse = Callable[[list[tuple[np.ndarray, np.ndarray]]], tuple[np.ndarray, np.ndarray]]


def merge(
    files: Sequence[Path],
    out: Path,
    *,
    weights: str | None = None,
    iou: float = IOU,
    thresholds: Path | None = None,
) -> None:
    """Writes the merged predictions of `files` to `out`, in their format.

    Args:
      files: results like ActivityNet's (.json), or JSON lines of "pred_relevant_windows" (.jsonl), all of one kind.
      out: of the same kind.
      weights: of the files, "2,1,1"; None = equal ones.
      iou: tIoU from which segments of two files are one (see `ensembling.fused`).
      thresholds: JSON {class: least score}; segments below it are left out. Of results only.

    What a file lacks counts as found with score 0. "pred_saliency_scores" and "pred_exist_score" are averaged.

    Raises:
      UserError: a file is of another kind or wrong, or an option is.
    """
    check_output_file("--out", out)
    if not 0 < iou <= 1:
        raise UserError(f"--iou={iou}: a tIoU is above 0 and at most 1")
    if len(files) == 1 and thresholds is None:
        raise UserError("unloc merge takes several files of --predictions, or --thresholds")
    kinds = {_is_results(file) for file in files}
    if len(kinds) > 1:
        raise UserError(
            f"{files[0]} and {files[-1]} are of different kinds: results of actions, and lines of moments"
        )
    share = _weights(weights, len(files))
    lowest = {} if thresholds is None else _thresholds(thresholds)

    def fuse(given: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        model = np.repeat(np.arange(len(given)), [len(score) for _, score in given])
        return fused(
            np.concatenate([segments for segments, _ in given]),
            np.concatenate([score for _, score in given]),
            model,
            share,
            iou,
        )

    if kinds == {True}:
        text = _actions(files, fuse, lowest)
    elif lowest:
        raise UserError(f"--thresholds={thresholds}: thresholds are of classes; {files[0]} has queries")
    else:
        text = _moments(files, fuse, share)
    write_result(out, text)
    show(f"wrote {out}")


def _is_results(file: Path) -> bool:
    with file.open(encoding="utf-8-sig", errors="replace") as opened:
        head = opened.read(4096)
    is_lines = '"pred_relevant_windows"' in head or '"qid"' in head
    if '"results"' not in head and not is_lines:
        raise UserError(
            f'{file}: neither results of actions ("results") nor lines of moments ("pred_relevant_windows"): labels of'
            " frames cannot be merged"
        )
    return not is_lines


def _weights(given: str | None, number: int) -> np.ndarray:
    if given is None:
        return np.ones(number)
    try:
        weights = [float(part) for part in given.split(",")]
    except ValueError:
        weights = []
    if len(weights) != number or not all(0 < weight < np.inf for weight in weights):
        raise UserError(f"--weights={given}: {number} numbers above 0 are needed, one per file, such as 2,1")
    return np.array(weights)


def _thresholds(path: Path) -> dict[str, float]:
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise UserError(
            f'{path}: an object of classes and their least scores is needed, such as {{"run": 0.3}}'
        )
    for label, value in content.items():
        if type(value) not in NUMBER or not is_finite(value):
            raise UserError(f"{path}: the least score of {label!r} must be a finite number, not {value!r}")
    return {normal_text(label): float(value) for label, value in content.items()}


def _actions(files: Sequence[Path], fuse: Fuse, lowest: dict[str, float]) -> str:
    given: list[dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]] = []
    names: dict[str, str] = {}
    for file in files:
        problems, videos = Problems(file, "predictions"), {}
        for _, video, rows in read_members(file, "results"):
            if video is None:
                continue
            read = read_results_of(file, video, rows, problems)
            _refuse_negative(file, read.score)
            labels = np.array([normal_text(label) for label in read.labels])
            names.setdefault(normal_id(video), video)
            videos[normal_id(video)] = {
                str(label): (read.segments_s[labels == label], read.score[labels == label])
                for label in dict.fromkeys(labels.tolist())
            }
        problems.refuse()
        given.append(videos)
    known = {label for videos in given for of_video in videos.values() for label in of_video}
    if unknown := [label for label in lowest if label not in known]:
        raise UserError(
            f"--thresholds: {unknown[0]!r} is no class of {files[0]}, which has {min(known, default='none')!r}"
        )
    nothing = np.zeros((0, 2)), np.zeros(0)
    results = {}
    for video, name in names.items():
        rows = []
        for label in dict.fromkeys(label for videos in given for label in videos.get(video, {})):
            segments, score = fuse([videos.get(video, {}).get(label, nothing) for videos in given])
            rows += [
                {"label": label, "score": value, "segment": segment}
                for segment, value in zip(segments.tolist(), score.tolist())
                if value >= lowest.get(label, -np.inf)
            ]
        results[name] = sorted(rows, key=lambda row: -row["score"])
    return json.dumps({"version": "VERSION 1.3", "results": results, "external_data": {}}) + "\n"


def _moments(files: Sequence[Path], fuse: Fuse, weights: np.ndarray) -> str:
    given = [dict(_windows(file)) for file in files]
    keys = dict.fromkeys(key for rows in given for key in rows)
    lines = []
    for key in keys:
        rows = [of_file.get(key) for of_file in given]
        first = next(row for row in rows if row is not None)
        nothing = np.zeros((0, 2)), np.zeros(0)
        segments, score = fuse([nothing if row is None else row[1:] for row in rows])
        line = {
            name: value
            for name, value in first[0].items()
            if name not in ("pred_levels", "pred_saliency_scores")
        }
        line["pred_relevant_windows"] = np.column_stack([segments, score]).tolist()
        for name in ("pred_saliency_scores", "pred_exist_score"):
            if (mean := _mean(name, rows, weights)) is not None:
                line[name] = mean
            else:
                line.pop(name, None)
        lines.append(json.dumps(line) + "\n")
    return "".join(lines)


_Row = tuple[dict[str, Any], np.ndarray, np.ndarray]


def _windows(file: Path) -> Iterator[tuple[Any, _Row]]:
    problems = Problems(file, "predictions")
    for where, row in read_rows(file):
        problems.seen += 1
        windows, wrong = windows_of(row, "pred_relevant_windows", (3,))
        key = key_of(row)
        if wrong or key is None:
            problems.add(where, wrong or '"qid", or "vid" and "query", is missing')
            continue
        _refuse_negative(file, windows[:, 2])
        yield key, (row, windows[:, :2], windows[:, 2])
    problems.refuse()


def _mean(name: str, rows: list[_Row | None], weights: np.ndarray) -> Any:
    """Returns the weighted mean of a value that all rows have in one form; None if one has not."""
    values = [None if row is None else row[0].get(name) for row in rows]
    try:
        arrays = [np.array(value, np.float64) for value in values if value is not None]
    except (TypeError, ValueError):
        return None
    if len(arrays) < len(rows) or len({array.shape for array in arrays}) > 1:
        return None
    return np.average(arrays, axis=0, weights=weights).tolist()


def _refuse_negative(file: Path, score: np.ndarray) -> None:
    if (score < 0).any():
        raise UserError(
            f"{file}: scores must not be negative to be merged, such as {score.min()}: use probabilities"
        )
