"""Highlight detection: one query per video, any number of segments, and a relevance for every moment."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from unloc_jax.metrics.detection import ACTIVITYNET_TIOU, GroundTruth, Predictions, detection_map
from unloc_jax.metrics.highlights import (
    highlight_scores,
    mean_over_domains,
    piece_average_precision,
)
from unloc_jax.metrics.qvhighlights import (
    MIN_SCORES,
    TIOU,
    first_window_ious,
    highlight_precision_and_hit,
    moment_average_precisions,
)
from unloc_jax.queries import Query, pieces_of_query
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.base import Task
from unloc_jax.tasks.moment_retrieval import MomentRetrieval, highlight_clips, scored_windows
from unloc_jax.tasks.outputs import SplitPredictions


@dataclasses.dataclass(frozen=True)
class HighlightDetection(MomentRetrieval):
    """Retrieves several segments per query; evaluation also ranks the moments themselves.

    A query that describes several segments is one text. config.data.max_queries is 1 for datasets such as
    QVHighlights, whose videos have one query each.
    """

    name = "highlight_detection"
    keeps_curves = True
    equal_texts_are_one = True
    annotation_formats = ("qvhighlights", "tvsum", "youtube_highlights")

    def has_ground_truth(self, records: Sequence[VideoRecord]) -> bool:
        return super().has_ground_truth(records) or any(record.saliency for record in records)

    def compute_metrics(
        self, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> dict[str, float]:
        """Computes metrics of segments and of moments, over the queries whose ground truth is known.

        With segments: their mAP over all queries (each is searched in its own video), QVHighlights' means over queries
        (MR-…), mAP and HIT@1 of moments, which are highlights where a segment of the query covers them, and where
        annotators have scored the clips (HL-mAP-Fair, …). Without: TVSum's or YouTube Highlights' mAP over domains.
        """
        asked = [(v, query) for v, of_video in enumerate(self.queries(records)) for query in of_video]
        curves = [curve for of_video in predictions.curves for curve in of_video]
        clips = [
            highlight_clips(records[v], query, curves[i], predictions.spans_s[v])
            for i, (v, query) in enumerate(asked)
        ]
        labels = [clip_labels(records[v], query) for v, query in asked]
        if not any(len(query.windows_s) for _, query in asked):
            rated = [i for i, of_query in enumerate(labels) if of_query is not None]
            return _over_domains(
                [asked[i][1] for i in rated], [labels[i] for i in rated], [clips[i] for i in rated]
            )
        known = [i for i, (_, query) in enumerate(asked) if len(query.windows_s)]
        windows_s = [asked[i][1].windows_s for i in known]
        every = scored_windows(predictions)
        of_known = [every[i] for i in known]
        spans_s = [predictions.spans_s[asked[i][0]] for i in known]
        return (
            _segment_scores(windows_s, of_known)
            | highlight_scores([curves[i] for i in known], windows_s, spans_s)
            | _annotated_highlights([labels[i] for i in known], [clips[i] for i in known])
        )

    evaluate = Task.evaluate  # the controls are of recall


def clip_labels(record: VideoRecord, query: Query) -> np.ndarray | None:
    """Returns float [clips, A], the scores of A annotators for the clips of `highlight_clips`; None without any."""
    pieces = pieces_of_query(query)
    return record.saliency.get(query.text) if pieces is None else pieces[:, 2:]


def _over_domains(
    queries: Sequence[Query], labels: Sequence[Any], clips: Sequence[np.ndarray]
) -> dict[str, float]:
    """Computes TVSum's and YouTube Highlights' metric; per query labels float [clips, A] and scores float [clips]."""
    of_videos = [piece_average_precision(of_query, scores) for of_query, scores in zip(labels, clips)]
    result = mean_over_domains([query.attributes.get("domain", "") for query in queries], of_videos)
    domains = result.pop("per_domain")
    return result | ({f"mAP-{name}": value for name, value in domains.items()} if len(domains) > 1 else {})


def _segment_scores(windows_s: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> dict[str, float]:
    """Computes mAP of segments; per query windows_s float [W, 2], found float [K, 3] of (start, end, score)."""
    query_of = lambda rows: np.repeat(np.arange(len(rows)), [len(of_query) for of_query in rows])
    truth, predicted = np.concatenate(windows_s), np.concatenate(found)
    result = detection_map(
        # Reversed windows as empty ones: both are never found.
        GroundTruth(query_of(windows_s), np.zeros(len(truth), int), np.maximum(truth, truth[:, :1])),
        Predictions(query_of(found), np.zeros(len(predicted), int), predicted[:, :2], predicted[:, 2]),
        ACTIVITYNET_TIOU,
    )
    of_queries = 100 * moment_average_precisions(windows_s, found).mean(axis=0)
    first = first_window_ious(windows_s, found)
    at = {f"{t:.2f}".rstrip("0"): column for column, t in enumerate(TIOU)}
    return {
        "mAP": result["average_mAP"],
        "mAP@0.50": result["mAP@0.50"],
        "mAP@0.75": result["mAP@0.75"],
        "MR-mAP": float(of_queries.mean()),
        **{f"MR-mAP@{t}": float(of_queries[at[t]]) for t in ("0.5", "0.75")},
        **{f"MR-R1@{t}": 100 * float(np.mean(first >= float(t))) for t in ("0.5", "0.7")},
    }


def _annotated_highlights(labels: Sequence[Any], clips: Sequence[np.ndarray]) -> dict[str, float]:
    """Computes HL-mAP and HIT@1 as QVHighlights' evaluator does; {} for datasets without annotators' scores.

    Per query: labels float [clips, A] or None, clips float [clips], the predicted scores.
    """
    rated = [i for i, of_query in enumerate(labels) if of_query is not None]
    truth = [labels[i] for i in rated]
    if not rated or len({scores.shape[1] for scores in truth}) > 1:
        return {}
    found: dict[str, float] = {}
    for name, min_score in MIN_SCORES.items():
        precision, hit = highlight_precision_and_hit(truth, [clips[i] for i in rated], min_score)
        found[f"HL-mAP-{name}"] = 100.0 * float(precision.mean())
        found[f"HIT@1-{name}"] = 100.0 * float(hit.mean())
    return found
