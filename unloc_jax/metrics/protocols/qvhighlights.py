"""QVHighlights' moments and highlights, under the names of moment_detr's `standalone_eval`."""

from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import Problems, warn, warn_of, warn_of_no_hit
from unloc_jax.metrics.highlights import CLIP_S
from unloc_jax.metrics.protocols.annotated import Annotated, path_of
from unloc_jax.metrics.protocols.json_files import NUMBER, hint_of_format, is_finite
from unloc_jax.metrics.protocols.moment_files import (
    Predicted,
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


def evaluate_qvhighlights(ground_truth: Path | Annotated, predictions: Path) -> dict[str, Any]:
    """Returns the official evaluator's dict, in percent with its two decimals; NaN for a bucket without queries.

    Args:
      ground_truth: the dataset's JSON lines, or `Annotated` queries.
      predictions: JSON lines of "qid" with "pred_relevant_windows" [[start_s, end_s, score], …],
        "pred_saliency_scores" (one per 2-second clip), or both; what is present is evaluated.

    Returns:
      {"brief": {"MR-full-R1@0.5": …, …}, "full" | "long" | "middle" | "short": {"MR-mAP": {"0.5": …, …,
      "average": …}, "MR-R1": {…}}, "HL-min-Fair" | …: {"HL-mAP": …, "HL-Hit1": …}}.
    """
    queries = read_queries(ground_truth)
    found = match_predictions(predictions, queries)
    given = [prediction for prediction in found if prediction is not None]
    detailed: dict[str, Any] = {}
    brief: dict[str, Any] = {}
    for name in ("pred_relevant_windows", "pred_saliency_scores"):
        without = [prediction.where for prediction in given if name not in prediction.row]
        if len(without) == len(given):
            continue
        if without:
            raise UserError(
                f'{predictions}: {len(without)} of {len(given)} predictions have no "{name}", others have; first:'
                f" {without[0]}"
            )
        if name == "pred_relevant_windows":
            of_task, in_brief = _moments(predictions, queries, found)
        else:
            of_task, in_brief = _highlights(predictions, _saliency(path_of(ground_truth), queries), found)
        detailed |= of_task
        brief |= in_brief
    if not detailed:
        raise UserError(
            f'{predictions}: its predictions have neither "pred_relevant_windows" nor "pred_saliency_scores"'
        )
    return {"brief": brief, **dict(sorted(detailed.items()))}


def _moments(
    path: Path, queries: list[Query], found: list[Predicted | None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    windows = predicted_windows(path, found)
    without = sum(bool(np.isnan(of_query[:, 2]).any()) for of_query in windows)
    if without:
        raise UserError(f"{path}: the windows of {without} of {len(found)} queries have no score")
    result = {}
    for name, (shortest, longest) in LENGTHS_S.items():
        kept = [q.windows_s[_lasts(q.windows_s, shortest, longest)] for q in queries]
        rows = [i for i, truth in enumerate(kept) if len(truth)]
        truth_s, predicted = [kept[i] for i in rows], [windows[i] for i in rows]
        if not truth_s:
            warn(f"no ground-truth window is {name} ({shortest} to {longest} s): no score")
        average_precision = (
            moment_average_precisions(truth_s, predicted).mean(axis=0) if truth_s else TIOU * np.nan
        )
        recall = [(first_window_ious(truth_s, predicted) >= t).mean() if truth_s else np.nan for t in TIOU]
        named = lambda values: {str(float(t)): _percent(value) for t, value in zip(TIOU, values)}
        result[name] = {
            "MR-mAP": {**named(average_precision), "average": _percent(average_precision.mean())},
            "MR-R1": named(recall),
        }
    if not result["full"]["MR-mAP"]["0.5"]:
        warn_of_no_hit(np.concatenate(windows), np.concatenate([query.windows_s for query in queries]))
    brief = {f"MR-{name}-mAP": of_length["MR-mAP"]["average"] for name, of_length in result.items()}
    brief |= {f"MR-full-mAP@{t}": result["full"]["MR-mAP"][t] for t in ("0.5", "0.75")}
    brief |= {f"MR-full-R1@{t}": result["full"]["MR-R1"][t] for t in ("0.5", "0.7")}
    return result, dict(sorted(brief.items()))


def _lasts(windows_s: np.ndarray, shortest: float, longest: float) -> np.ndarray:
    """Returns whether windows, float [W, 2] in s, are longer than `shortest` and at most `longest` (s): bool [W]."""
    length = windows_s[:, 1] - windows_s[:, 0]
    return (length > shortest) & (length <= longest)


def _highlights(
    path: Path, saliency: list[np.ndarray], found: list[Predicted | None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the metrics of highlights; saliency: per query float64 [clips, A]."""
    predicted = predicted_scores(path, found)
    warn_of_lengths(found, predicted, saliency, "score 0")
    is_predicted = np.array([prediction is not None for prediction in found])
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


def predicted_scores(path: Path, found: list[Predicted | None]) -> list[np.ndarray]:
    """Returns "pred_saliency_scores" of each prediction, float64 [n]; empty for None.

    Raises:
      UserError: they are not numbers.
    """
    problems, every = Problems(path, "predictions"), []
    for prediction in found:
        if prediction is None:
            every.append(np.zeros(0))
            continue
        problems.seen += 1
        scores = prediction.row.get("pred_saliency_scores")
        if not isinstance(scores, list) or not set(map(type, scores)) <= NUMBER:
            hint = hint_of_format(prediction.row, "pred_saliency_scores")
            problems.add(prediction.where, f'"pred_saliency_scores" must be a list of numbers{hint}')
        elif not all(map(is_finite, scores)):
            problems.add(prediction.where, '"pred_saliency_scores" has a number that is not finite')
        else:
            every.append(np.array(scores, np.float64))
    problems.refuse()
    return every


def warn_of_lengths(
    found: list[Predicted | None], scores: list[np.ndarray], clips: list[np.ndarray], effect: str
) -> None:
    """Warns of scores [n] that are more or fewer than the video's clips [clips, A]; effect: of missing ones."""
    where = [prediction.where if prediction else "" for prediction in found]
    surplus = [w for w, s, c in zip(where, scores, clips) if len(s) > len(c)]
    lacking = [w for w, s, c in zip(where, scores, clips) if w and len(s) < len(c)]
    warn_of(
        surplus, len(found), "predictions have more scores than their video has clips: the rest is dropped"
    )
    warn_of(
        lacking, len(found), f"predictions have fewer scores than their video has clips: the others {effect}"
    )


def _saliency(path: Path, queries: list[Query]) -> list[np.ndarray]:
    """Returns float64 [clips, A] for each query: the file has scores only for relevant clips, the others are 0."""
    problems, every = Problems(path, "queries"), []
    annotators = set()
    for query in queries:
        problems.seen += 1
        try:
            clips = np.array(query.row["relevant_clip_ids"])
            scores = np.array(query.row["saliency_scores"], np.float64).reshape(len(clips), -1)
            saliency = np.zeros((int(query.row["duration"] / CLIP_S), scores.shape[1]))
            if not np.isfinite(scores).all() or clips.min() < 0:
                raise ValueError
            saliency[clips] = scores
        except (KeyError, TypeError, ValueError, IndexError):
            problems.add(
                f"query {query.key!r}",
                '"duration", "relevant_clip_ids" within it, and for each a list of "saliency_scores" are needed',
            )
            continue
        annotators.add(scores.shape[1])
        every.append(saliency)
    problems.refuse()
    if len(annotators) > 1:
        raise UserError(f"{path}: all queries need the same number of annotators, not {sorted(annotators)}")
    return every


def _percent(value: float) -> float:
    return round(100 * float(value), 2)
