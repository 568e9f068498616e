"""Highlights of TVSum and YouTube Highlights: mAP per domain, as UMT (Liu et al. 2022) and its successors report it."""

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.highlights import top_moments_average_precision
from unloc_jax.metrics.protocols.json_files import read_rows, what_it_is
from unloc_jax.metrics.protocols.moment_files import Query, match_predictions
from unloc_jax.metrics.protocols.qvhighlights import predicted_scores, warn_of_lengths

TVSUM_TOP = 5


def evaluate_tvsum(ground_truth: Path, predictions: Path) -> dict[str, Any]:
    """Top-5 mAP in percent.

    Args:
      ground_truth: JSON lines {"qid": …, "vid": …, "domain": …, "label": [[score per annotator] per clip]}.
      predictions: JSON lines {"qid": …, "pred_saliency_scores": [one per clip]}.

    Returns:
      "mAP", the mean over the domains, "mAP_over_videos", "per_domain" and "videos".

    For each annotator a clip is a highlight above the median of the annotator's scores (the lower of two middle
    ones, torch's). AP is of the five best clips; equal scores in the clips' order. Videos without a prediction
    have AP 0.
    """
    return _evaluate(ground_truth, predictions, _tvsum)


def evaluate_youtube_highlights(ground_truth: Path, predictions: Path) -> dict[str, Any]:
    """mAP in percent over all clips of a video; otherwise as `evaluate_tvsum`.

    "label" is one number per clip, or a list of one: above 0 is a highlight. It may be called "match", as in
    the dataset's own files.
    """
    return _evaluate(ground_truth, predictions, _youtube_highlights)


def _evaluate(
    ground_truth: Path, predictions: Path, average_precision: Callable[[np.ndarray, np.ndarray], float]
) -> dict[str, Any]:
    several = average_precision is _tvsum
    videos = [_video(ground_truth, where, row, several) for where, row in read_rows(ground_truth)]
    found = match_predictions(predictions, videos)
    scores = predicted_scores(predictions, found)
    labels = [video.row["label"] for video in videos]
    warn_of_lengths(found, scores, labels, "do not count")
    of_domain: dict[str, list[float]] = collections.defaultdict(list)
    for video, of_video, predicted in zip(videos, labels, scores):
        n = min(len(predicted), len(of_video))
        order = np.argsort(-predicted[:n], kind="stable")
        ap = average_precision(of_video, order) if n else 0.0
        of_domain[str(video.row.get("domain", ""))].append(ap)
    per_domain = {domain: 100 * float(np.mean(aps)) for domain, aps in of_domain.items()}
    return {
        "mAP": float(np.mean(list(per_domain.values()))),
        "mAP_over_videos": 100 * float(np.mean([ap for aps in of_domain.values() for ap in aps])),
        "per_domain": per_domain,
        "videos": len(videos),
    }


def _tvsum(labels: np.ndarray, order: np.ndarray) -> float:
    median = np.sort(labels, axis=0)[(len(labels) - 1) // 2]
    positive = (labels > median)[order[:TVSUM_TOP]]
    return float(top_moments_average_precision(positive.T).mean())


def _youtube_highlights(labels: np.ndarray, order: np.ndarray) -> float:
    return float(top_moments_average_precision((labels[:, 0] > 0)[order]))


def _video(path: Path, where: str, row: dict[str, Any], several: bool) -> Query:
    """With row["label"] float64 [clips, annotators]; `several`: of them there must be more than one."""
    name = next((name for name in ("label", "match") if name in row), "label")
    try:
        labels = np.array(row.get(name), np.float64)
        labels = labels.reshape(len(labels), -1)
    except (TypeError, ValueError):
        labels = np.zeros((0, 0))
    key = row.get("qid", row.get("vid"))
    if not labels.size or not np.isfinite(labels).all() or not isinstance(key, str | int):
        raise UserError(
            f'{path}: {where}: "qid" and "{name}", numbers for each clip, are needed{what_it_is(row, name)}'
        )
    if (labels.shape[1] > 1) != several:
        needed, other = ("several numbers", "youtube-highlights") if several else ("one number", "tvsum")
        raise UserError(
            f'{path}: {where}: "{name}" must have {needed} for each clip, not {labels.shape[1]}; is this a file of the'
            f" protocol {other}?"
        )
    return Query(key, np.zeros((0, 2)), row | {"label": labels})
