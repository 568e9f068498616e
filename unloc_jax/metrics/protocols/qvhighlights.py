"""QVHighlights' moments and highlights, under the names of moment_detr's `standalone_eval`."""

from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import Problems, warn
from unloc_jax.metrics.highlights import CLIP_S
from unloc_jax.metrics.protocols.json_files import NUMBER, is_finite
from unloc_jax.metrics.protocols.moment_files import (
    Query,
    match_predictions,
    predicted_windows,
    read_queries,
)
from unloc_jax.metrics.qvhighlights import (
    LENGTHS_S,
    MIN_SCORES,
    TIOU,
    first_window_ious,
    highlight_precision_and_hit,
    moment_average_precisions,
)


def evaluate_qvhighlights(ground_truth: Path, predictions: Path) -> dict[str, Any]:
    """The official evaluator's dict, in percent with its two decimals; NaN for a bucket without queries.

    Args:
      ground_truth: the dataset's JSON lines.
      predictions: JSON lines of "qid" with "pred_relevant_windows" [[start_s, end_s, score], …],
        "pred_saliency_scores" (one per 2-second clip), or both; what is evaluated is what is there.

    Returns:
      {"brief": {"MR-full-R1@0.5": …, …}, "full" | "long" | "middle" | "short": {"MR-mAP": {"0.5": …, …,
      "average": …}, "MR-R1": {…}}, "HL-min-Fair" | …: {"HL-mAP": …, "HL-Hit1": …}}.
    """
    queries = read_queries(ground_truth)
    rows = match_predictions(predictions, queries)
    given = [row for row in rows if row is not None]
    detailed: dict[str, Any] = {}
    brief: dict[str, Any] = {}
    for name, evaluate in (("pred_relevant_windows", _moments), ("pred_saliency_scores", _highlights)):
        having = sum(name in row for row in given)
        if having == 0:
            continue
        if having < len(given):
            raise UserError(
                f'{predictions}: {len(given) - having} of {len(given)} predictions have no "{name}"'
            )
        of_task, in_brief = evaluate(predictions, queries, rows)
        detailed |= of_task
        brief |= in_brief
    if not detailed:
        raise UserError(
            f'{predictions}: its predictions have neither "pred_relevant_windows" nor "pred_saliency_scores"'
        )
    return {"brief": brief, **dict(sorted(detailed.items()))}


def _moments(
    path: Path, queries: list[Query], rows: list[dict[str, Any] | None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    windows = predicted_windows(path, rows)
    without = sum(bool(np.isnan(of_query[:, 2]).any()) for of_query in windows)
    if without:
        raise UserError(f"{path}: the windows of {without} of {len(rows)} queries have no score")
    result = {}
    for name, (shortest, longest) in LENGTHS_S.items():
        kept = [q.windows_s[_lasts(q.windows_s, shortest, longest)] for q in queries]
        if name == "full":
            kept = [q.windows_s for q in queries]
        rows_kept = [i for i, truth in enumerate(kept) if len(truth)]
        truth_s, found = [kept[i] for i in rows_kept], [windows[i] for i in rows_kept]
        if not truth_s:
            warn(f"no ground-truth window is {name} ({shortest} to {longest} s): no score")
        average_precision = (
            moment_average_precisions(truth_s, found).mean(axis=0) if truth_s else TIOU * np.nan
        )
        recall = [(first_window_ious(truth_s, found) >= t).mean() if truth_s else np.nan for t in TIOU]
        named = lambda values: {str(float(t)): _percent(value) for t, value in zip(TIOU, values)}
        result[name] = {
            "MR-mAP": {**named(average_precision), "average": _percent(average_precision.mean())},
            "MR-R1": named(recall),
        }
    brief = {f"MR-{name}-mAP": of_length["MR-mAP"]["average"] for name, of_length in result.items()}
    brief |= {f"MR-full-mAP@{t}": result["full"]["MR-mAP"][t] for t in ("0.5", "0.75")}
    brief |= {f"MR-full-R1@{t}": result["full"]["MR-R1"][t] for t in ("0.5", "0.7")}
    return result, dict(sorted(brief.items()))


def _lasts(windows_s: np.ndarray, shortest: float, longest: float) -> np.ndarray:
    length = windows_s[:, 1] - windows_s[:, 0]
    return (length > shortest) & (length <= longest)


def _highlights(
    path: Path, queries: list[Query], rows: list[dict[str, Any] | None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    saliency = [_saliency(query) for query in queries]
    predicted = predicted_scores(path, rows)
    surplus = sum(len(scores) > len(clips) for scores, clips in zip(predicted, saliency))
    lacking = sum(
        row is not None and len(scores) < len(clips) for row, scores, clips in zip(rows, predicted, saliency)
    )
    if surplus:
        warn(
            f"{surplus} of {len(rows)} queries have more scores than their video has clips: the rest is dropped"
        )
    if lacking:
        warn(
            f"{lacking} of {len(rows)} queries have fewer scores than their video has clips: the others score 0"
        )
    is_predicted = np.array([row is not None for row in rows])
    result = {}
    for name, min_score in MIN_SCORES.items():
        average_precision, hit = highlight_precision_and_hit(saliency, predicted, min_score)
        result[f"HL-min-{name}"] = {
            "HL-mAP": _percent((average_precision * is_predicted).mean()),
            "HL-Hit1": _percent((hit * is_predicted).mean()),
        }
    brief = {
        f"{name}-{metric.removeprefix('HL-')}": value
        for name, two in result.items()
        for metric, value in two.items()
    }
    return result, brief


def predicted_scores(path: Path, rows: list[dict[str, Any] | None]) -> list[np.ndarray]:
    """float64 [n] of each row's "pred_saliency_scores"; empty for None. UserError where they are no finite numbers."""
    problems, every = Problems(path, "predictions"), []
    for number, row in enumerate(rows):
        problems.seen += 1
        scores = [] if row is None else row.get("pred_saliency_scores")
        if not isinstance(scores, list) or not set(map(type, scores)) <= NUMBER:
            problems.add(f"number {number}", '"pred_saliency_scores" must be a list of numbers')
            continue
        if not all(map(is_finite, scores)):
            problems.add(f"number {number}", '"pred_saliency_scores" has a number that is not finite')
            continue
        every.append(np.array(scores, np.float64))
    problems.refuse()
    return every


def _saliency(query: Query) -> np.ndarray:
    """float64 [clips, A]: only relevant clips have scores in the file, the others are 0."""
    try:
        scores = np.array(query.row["saliency_scores"], np.float64)
        every = np.zeros((int(query.row["duration"] / CLIP_S), scores.shape[1]))
        every[query.row["relevant_clip_ids"]] = scores
    except (KeyError, TypeError, ValueError, IndexError):
        raise UserError(
            f"query {query.key!r} of the ground truth: highlights need a duration, relevant_clip_ids and one list of"
            f" saliency_scores per clip"
        ) from None
    return every


def _percent(value: float) -> float:
    return round(100 * float(value), 2)
