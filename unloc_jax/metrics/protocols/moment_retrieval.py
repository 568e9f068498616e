"""Moment retrieval on Charades-STA, ActivityNet Captions, TACoS and DiDeMo: R@k and mIoU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import warn, warn_of_no_hit
from unloc_jax.metrics.moment_retrieval import padded, recall_of_ious
from unloc_jax.metrics.protocols.annotated import Annotated
from unloc_jax.metrics.protocols.moment_files import (
    CHUNK_S,
    Query,
    match_predictions,
    predicted_windows,
    read_queries,
)
from unloc_jax.metrics.thresholds import thresholds_of
from unloc_jax.metrics.tiou import segment_iou, segment_iou_by_hull

KS = (1, 5, 10)
THRESHOLDS = (0.3, 0.5, 0.7)
_MOST = 1000  # windows per query
_BLOCK = 1 << 13  # queries whose overlaps are in memory at once


def evaluate_moment_retrieval(
    ground_truth: Path | Annotated,
    predictions: Path,
    *,
    variant: str = "unloc",
    strict: bool = False,
    nms: float | None = None,
    tiou: str | None = None,
    top: str | None = None,
    subset: str | None = None,
) -> dict[str, Any]:
    """Returns R@k and the mIoU of the first windows, in percent.

    Args:
      ground_truth: see `moment_files.read_queries`.
      predictions: JSON lines of "pred_relevant_windows", best first; their order counts, not the scores.
      variant: "unloc" (IoU ≥ threshold), "moment-detr" (the same, but the union is the hull, which differs in
        the last bit) or "2d-tan" (the hull and IoU > threshold; needs `nms`).
      strict: compare with > instead of ≥ in any variant.
      subset: of a ground truth with several (YouCook2's own file), in any case.
      nms: tIoU; remove windows that overlap a better one by more first, as in 2D-TAN (0.4 to 0.5).
      tiou: thresholds, as of `evaluate_activitynet`; None: 0.3, 0.5, 0.7.
      top: k, such as "1,5,10,50,100"; None: 1, 5, 10.

    A query with several windows is found by a hit of any of them. DiDeMo's windows are its annotators' answers; its own
    metrics are added: "Rank@1", "Rank@5" and "DiDeMo mIoU", of windows rounded to 5-second chunks and
    of the three annotators who agree best (Hendricks et al. 2017).
    """
    if variant not in ("unloc", "moment-detr", "2d-tan"):
        raise UserError(f"moment-retrieval has the variants unloc, moment-detr and 2d-tan, not {variant!r}")
    if nms is not None and not 0 <= nms <= 1:
        raise UserError(f"nms is a tIoU from 0 to 1, not {nms}")
    thresholds = thresholds_of(tiou, np.array(THRESHOLDS))
    ks = ks_of(top, KS)
    queries = read_queries(ground_truth, subset)
    found = match_predictions(predictions, queries)
    every = predicted_windows(predictions, found)
    unsorted = sum(bool((np.diff(windows[:, 2]) > 0).any()) for windows in every)
    if unsorted:
        warn(
            f"the windows of {unsorted} of {len(queries)} queries are not in descending score: they count in"
            f" their given order"
        )
    iou = best_ious(queries, every, max(ks), is_union=variant == "unloc", nms=nms)
    if iou.max() < min(thresholds):
        warn_of_no_hit(np.concatenate(every), np.concatenate([query.windows_s for query in queries]))
    return {
        **recall_of_ious(iou, ks, thresholds.tolist(), strict=strict or variant == "2d-tan"),
        **(_didemo(queries, every) if "times" in queries[0].row else {}),
        "queries": len(queries),
        "predicted_queries": sum(prediction is not None for prediction in found),
    }


def best_ious(
    queries: Sequence[Query],
    every: Sequence[np.ndarray],
    width: int,
    *,
    is_union: bool = False,
    nms: float | None = None,
) -> np.ndarray:
    """Returns the tIoU of each query's first windows with its best-fitting answer, float64 [N, width]; 0 fills up.

    Args:
      queries: N.
      every: per query float [K, 2 or more], start and end in seconds, best first.
      width: number of first windows.
      is_union: divide by the covered length instead of the hull.
      nms: see `evaluate_moment_retrieval`.
    """
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(queries), _BLOCK)]
    return np.concatenate([_ious(queries[rows], every[rows], width, is_union, nms) for rows in blocks])


def _ious(
    queries: Sequence[Query], every: Sequence[np.ndarray], width: int, is_union: bool, nms: float | None
) -> np.ndarray:
    most = max(map(len, every))
    windows_s = padded(
        [windows[:, :2] for windows in every], most or 1 if nms is not None else min(width, most or 1)
    )
    if nms is not None:
        windows_s = _without_overlaps(windows_s, nms, width)
    overlap = segment_iou if is_union else segment_iou_by_hull
    truth_s = padded([query.windows_s for query in queries], max(len(query.windows_s) for query in queries))
    iou = overlap(windows_s[:, :, None], truth_s[:, None]).max(axis=2)
    return np.pad(iou, ((0, 0), (0, width - iou.shape[1])))


def ks_of(top: str | None, default: Sequence[int]) -> Sequence[int]:
    """Parses --top, "1,5,10".

    Raises:
      UserError: it is not a list of rising whole numbers from 1 on.
    """
    if top is None:
        return default
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in top.split(",")]
    if sorted(set(numbers)) != numbers or not 1 <= numbers[0] <= numbers[-1] <= _MOST:
        raise UserError(f"--top={top}: numbers of first windows look like 1,5,10: rising, from 1 to {_MOST}")
    return numbers


def _without_overlaps(windows_s: np.ndarray, threshold: float, keep: int) -> np.ndarray:
    """Applies greedy non-maximum suppression to float [N, K, 2], best first; returns the first [N, keep, 2] left."""
    query = np.arange(len(windows_s))
    left = windows_s[..., 0] < windows_s[..., 1]
    kept = np.zeros((len(windows_s), keep, 2))
    for i in range(keep):
        best = left.argmax(axis=1)
        kept[:, i] = np.where(left[query, best, None], windows_s[query, best], 0.0)
        left[query, best] = False
        left &= segment_iou(windows_s, kept[:, i, None]) <= threshold
    return kept


def _didemo(queries: list[Query], every: list[np.ndarray]) -> dict[str, float]:
    """Returns Rank@1, Rank@5 and mIoU of LocalizingMoments' `eval.py`: mean over the best three annotators.

    `every` has the windows found for each query, float [k, 2 or more]: start and end in seconds, best first.
    """
    ranks, ious = [], []
    for query, windows in zip(queries, every):
        answers = list(map(tuple, query.windows_s / CHUNK_S))
        predicted = list(dict.fromkeys(map(tuple, np.round(windows[:, :2] / CHUNK_S))))
        rank = [predicted.index(answer) + 1 if answer in predicted else np.inf for answer in answers]
        ranks.append(np.mean(np.sort(rank)[:3]))
        first = (
            segment_iou(np.array(predicted[0]), np.array(answers)) if predicted else np.zeros(len(answers))
        )
        ious.append(np.mean(np.sort(first)[-3:]))
    return {
        "Rank@1": 100 * float(np.mean(np.array(ranks) <= 1)),
        "Rank@5": 100 * float(np.mean(np.array(ranks) <= 5)),
        "DiDeMo mIoU": 100 * float(np.mean(ious)),
    }
