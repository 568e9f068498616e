"""Generalised moment retrieval: queries with several answers, one or none, as on Soccer-GMR."""

from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.generalized_retrieval import TIOU, localization_scores, set_ious
from unloc_jax.metrics.presence import auroc, calibrate, rejection_scores
from unloc_jax.metrics.protocols.annotated import Annotated
from unloc_jax.metrics.protocols.json_files import NUMBER, is_finite
from unloc_jax.metrics.protocols.moment_files import (
    Predicted,
    Query,
    match_predictions,
    predicted_windows,
    read_queries,
)
from unloc_jax.metrics.qvhighlights import MAX_WINDOWS, moment_average_precisions

KS = (1, 3, 5)
THRESHOLDS = (0.4, 0.6)  # at which the evaluator reports; the first decides for G-mIoU


def evaluate_gmr(
    ground_truth: Path | Annotated, predictions: Path, *, threshold: float | None = None
) -> dict[str, Any]:
    """Returns presence, localisation and both together, in percent.

    Args:
      ground_truth: JSON lines like QVHighlights' in which "relevant_windows" may be []: the query has no answer in its
        video; or `Annotated` queries. Windows are cut at 0 and "duration".
      predictions: JSON lines of "pred_relevant_windows", best first, and, if the model tells, "pred_exist_score", how
        sure it is that there is an answer; otherwise that is the highest score of a window, 0 without any.
      threshold: queries with a higher score are taken as present; None: 0.4 and 0.6, of which 0.4 decides for G-mIoU.

    Returns:
      "AUROC" (NaN without both kinds of queries); "Rej-F1@THRESHOLD" and "Acc@THRESHOLD"; "G-mIoU@k" of all queries;
      "mAP", "mR@k", "mR+@k", "mIoU@k", "mIoU+@k" of those with answers, whatever their score (see
      `generalized_retrieval`); "best_threshold", which has the highest Rej-F1 here: use it on other data; "queries",
      "absent". A query without a prediction has score 0 and no windows.

    Raises:
      UserError: a file has another format, or no query has an answer.
    """
    if threshold is not None and not is_finite(threshold):
        raise UserError(f"--threshold={threshold}: a finite number is needed")
    queries = read_queries(ground_truth, with_absent=True)
    truth_s = [_cleaned(query) for query in queries]
    present = np.array([len(windows) > 0 for windows in truth_s])
    if not present.any():
        raise UserError("the ground truth: none of its queries has an answer, so nothing can be localised")
    found = match_predictions(predictions, queries)
    windows = predicted_windows(predictions, found)
    score = np.array([_presence(predictions, *of_query) for of_query in zip(found, windows)])
    thresholds = THRESHOLDS if threshold is None else (threshold,)
    accepted = score > thresholds[0]
    kept = [
        rows[rows[:, 1] > rows[:, 0], :2][:MAX_WINDOWS] if yes else _NONE
        for rows, yes in zip(windows, accepted)
    ]
    with_answer = np.flatnonzero(present)
    truth_of = [truth_s[i] for i in with_answer]
    windows_of = [np.nan_to_num(windows[i], nan=1.0) for i in with_answer]
    precision = moment_average_precisions(truth_of, windows_of, TIOU)
    rejection = {at: rejection_scores(present, score, at) for at in thresholds}
    best = calibrate(present, score)
    return {
        "AUROC": auroc(present, score),
        **{f"Rej-F1@{at:g}": values["F1"] for at, values in rejection.items()},
        **{f"Acc@{at:g}": values["accuracy"] for at, values in rejection.items()},
        **{f"G-mIoU@{k}": 100 * float(set_ious(truth_s, kept, k).mean()) for k in KS},
        "mAP": 100 * float(precision.mean()),
        **localization_scores(truth_of, [rows[:, :2] for rows in windows_of], KS),
        **({} if best is None else {"best_threshold": best.threshold, "best_Rej-F1": best.rejection_f1}),
        "queries": len(queries),
        "absent": int((~present).sum()),
    }


_NONE = np.zeros((0, 2))


def _cleaned(query: Query) -> np.ndarray:
    """Returns the answers within the video, sorted, each once: float64 [W, 2]."""
    duration: Any = query.row.get("duration")
    windows = query.windows_s
    if type(duration) in NUMBER and is_finite(duration):
        windows = np.stack([np.maximum(windows[:, 0], 0.0), np.minimum(windows[:, 1], duration)], axis=1)
    windows = windows[windows[:, 0] < windows[:, 1]]
    return np.unique(windows, axis=0) if len(windows) else _NONE


def _presence(path: Path, predicted: Predicted | None, windows: np.ndarray) -> float:
    """Returns how sure a prediction is that its query has an answer."""
    told: Any = None if predicted is None else predicted.row.get("pred_exist_score")
    if told is not None:
        assert predicted is not None
        if type(told) not in NUMBER or not is_finite(told):
            raise UserError(
                f'{path}: {predicted.where}: "pred_exist_score" must be a finite number, not {told!r}'
            )
        return float(told)
    scores = windows[~np.isnan(windows[:, 2]), 2]
    return float(scores.max()) if len(scores) else 0.0
