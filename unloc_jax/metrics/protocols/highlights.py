"""Highlights of TVSum and YouTube Highlights: mAP per domain, as in UMT (Liu et al. 2022) and its successors."""

from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import warn_of
from unloc_jax.metrics.highlights import (
    CLIP_S,
    mean_over_domains,
    piece_average_precision,
    pieces_of,
    read_at_pieces,
)
from unloc_jax.metrics.protocols.json_files import NUMBER, hint_of_format, read_rows
from unloc_jax.metrics.protocols.moment_files import Query, match_predictions
from unloc_jax.metrics.protocols.qvhighlights import predicted_scores, warn_of_lengths


def evaluate_tvsum(ground_truth: Path, predictions: Path) -> dict[str, Any]:
    """Returns top-5 mAP in percent.

    Args:
      ground_truth: JSON lines {"qid": …, "vid": …, "domain": …, "label": [[score per annotator] per clip]}.
      predictions: JSON lines {"qid": …, "pred_saliency_scores": [one per clip]}.

    Returns:
      "mAP", the mean over the domains, "mAP_over_videos", "per_domain" and "videos".

    A clip is a highlight for an annotator above the median of the annotator's scores (the lower of two middle
    ones, as in torch). AP uses the five best clips; equal scores rank in the clips' order. Videos without a prediction
    have AP 0.
    """
    return _evaluate(ground_truth, predictions, several=True)


def evaluate_youtube_highlights(ground_truth: Path, predictions: Path) -> dict[str, Any]:
    """Returns mAP in percent over all clips of a video; otherwise as `evaluate_tvsum`.

    "label" is one number per piece of the video, or a list of one: above 0 is a highlight. It may be called "match", as
    in the dataset's own files. "clip" gives the pieces, in frames at "fps"; without it they divide "duration"
    evenly. A prediction has a score for every piece, or one for every 2 seconds, which is read in the pieces' middles.
    """
    return _evaluate(ground_truth, predictions, several=False)


def _evaluate(ground_truth: Path, predictions: Path, several: bool) -> dict[str, Any]:
    videos = [_video(ground_truth, where, row, several) for where, row in read_rows(ground_truth)]
    found = match_predictions(predictions, videos)
    labels = [video.row["label"] for video in videos]
    scores = _at_the_pieces(videos, predicted_scores(predictions, found))
    warn_of_lengths(found, scores, labels, "do not count")
    of_videos = [piece_average_precision(of_video, predicted) for of_video, predicted in zip(labels, scores)]
    domains = [str(video.row.get("domain", "")) for video in videos]
    return {**mean_over_domains(domains, of_videos), "videos": len(videos)}


def _at_the_pieces(videos: list[Query], scores: list[np.ndarray]) -> list[np.ndarray]:
    """Samples scores [clips] of 2-second clips at the n labelled pieces → [n]; keeps scores that are already [n]."""
    every, read = [], []
    for video, of_video in zip(videos, scores):
        pieces_s = _pieces_s(video.row)
        of_clips = 0 < len(of_video) != len(video.row["label"])
        if of_clips and pieces_s is not None and abs(len(of_video) - pieces_s.max() / CLIP_S) < 1.5:
            of_video = read_at_pieces(of_video, pieces_s)
            read.append(video.key)
        every.append(of_video)
    warn_of(
        read,
        len(videos),
        "predictions have a score for every 2 seconds, their videos labels for other pieces: the scores are read in the"
        " middle of the pieces",
    )
    return every


def _pieces_s(row: dict[str, Any]) -> np.ndarray | None:
    """Returns the pieces, float [n, 2] in s (see `pieces_of`); unusable times in the file count as missing."""
    count = len(row["label"])
    number = lambda name: float(row[name]) if type(row.get(name)) in NUMBER and row[name] > 0 else 0.0
    fps = number("fps")
    duration_s = number("duration") or (number("frames") / fps if fps else 0.0)
    bounds_s = None
    if "clip" in row and fps:
        try:
            bounds_s = np.array(row["clip"], np.float64).reshape(-1, 2) / fps
        except (TypeError, ValueError):
            bounds_s = None
    elif (
        count == round(duration_s) > 2
    ):  # the common copy of TVSum gives the number of clips, not their length
        return None
    if bounds_s is not None and not np.isfinite(bounds_s).all():
        bounds_s = None
    return pieces_of(count, duration_s, bounds_s)


def _video(path: Path, where: str, row: dict[str, Any], several: bool) -> Query:
    """Returns a row with row["label"] float64 [clips, annotators]; `several`: more than one annotator is needed."""
    name = next((name for name in ("label", "match") if name in row), "label")
    try:
        labels = np.array(row.get(name), np.float64)
        labels = labels.reshape(len(labels), -1)
    except (TypeError, ValueError):
        labels = np.zeros((0, 0))
    key = row.get("qid", row.get("vid"))
    if not labels.size or not np.isfinite(labels).all() or not isinstance(key, str | int):
        raise UserError(
            f'{path}: {where}: "qid" and "{name}", numbers for each clip, are needed{hint_of_format(row, name)}'
        )
    if (labels.shape[1] > 1) != several:
        needed, other = ("several numbers", "youtube-highlights") if several else ("one number", "tvsum")
        raise UserError(
            f'{path}: {where}: "{name}" must have {needed} for each clip, not {labels.shape[1]}; is this a file of the'
            f" protocol {other}?"
        )
    return Query(key, np.zeros((0, 2)), row | {"label": labels})
