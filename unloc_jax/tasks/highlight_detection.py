"""Highlight detection: one query per video, any number of segments, and a relevance for every moment."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from unloc_jax.metrics.detection import ACTIVITYNET_TIOU, GroundTruth, Predictions, detection_map
from unloc_jax.metrics.highlights import clip_scores, highlight_scores
from unloc_jax.metrics.qvhighlights import MIN_SCORES, highlight_precision_and_hit
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.base import Found
from unloc_jax.tasks.moment_retrieval import MomentRetrieval, ranked_segments


@dataclasses.dataclass(frozen=True)
class HighlightDetection(MomentRetrieval):
    """Moment retrieval with several segments per query; evaluation also ranks the moments themselves.

    A query that describes several segments is one text. config.data.max_queries is 1 for datasets such as
    QVHighlights, whose videos have one query each.
    """

    keeps_curves = True

    def evaluation_texts(self, records: Sequence[VideoRecord]) -> list[list[str]]:
        return [list(dict.fromkeys(record.texts)) for record in records]

    def score(self, records: Sequence[VideoRecord], found: Found) -> dict[str, float]:
        """mAP of segments (every query is searched in its own video) and mAP and HIT@1 of moments.

        A moment is a highlight where a segment of the query covers it; and, where annotators have scored the clips,
        where they say so.
        """
        queries = [(v, text) for v, texts in enumerate(found.texts) for text in texts]
        truth = [
            (i, *segment)
            for i, (v, text) in enumerate(queries)
            for name, segment in zip(records[v].texts, records[v].segments_s)
            if name == text
        ]
        truth_array = np.array(truth, np.float64).reshape(-1, 3)
        curves = [curve for of_video in found.curves for curve in of_video]
        spans_s = [found.spans_s[v] for v, _ in queries]
        rated = _annotated_highlights(records, queries, curves, spans_s)
        if not truth and rated:  # TVSum and the like tell no segments
            return rated
        windows = [truth_array[truth_array[:, 0] == i, 1:] for i in range(len(queries))]
        return _segment_scores(truth_array, found) | highlight_scores(curves, windows, spans_s) | rated


def _segment_scores(truth: np.ndarray, found: Found) -> dict[str, float]:
    """mAP of segments; truth float [n, 3] of (query, start, end)."""
    ranked = ranked_segments(found)
    scores = [s[s > 0] for of_video in found.scores for s in of_video]
    query = np.repeat(np.arange(len(ranked)), [len(segments) for segments in ranked])
    result = detection_map(
        GroundTruth(truth[:, 0].astype(int), np.zeros(len(truth), int), truth[:, 1:]),
        Predictions(query, np.zeros(len(query), int), np.concatenate(ranked), np.concatenate(scores)),
        ACTIVITYNET_TIOU,
    )
    return {
        "mAP": result["average_mAP"],
        "mAP@0.50": result["mAP@0.50"],
        "mAP@0.75": result["mAP@0.75"],
    }


def _annotated_highlights(
    records: Sequence[VideoRecord],
    queries: Sequence[tuple[int, str]],
    curves: Sequence[np.ndarray],
    spans_s: Sequence[np.ndarray],
) -> dict[str, float]:
    """HL-mAP and HIT@1 against annotators' scores, as QVHighlights' evaluator; {} for datasets without such."""
    rated = [i for i, (v, text) in enumerate(queries) if text in records[v].saliency]
    truth = [records[queries[i][0]].saliency[queries[i][1]] for i in rated]
    if not rated or len({scores.shape[1] for scores in truth}) > 1:
        return {}
    predicted = [clip_scores(curves[i], spans_s[i], records[queries[i][0]].duration_s) for i in rated]
    found: dict[str, float] = {}
    for name, min_score in MIN_SCORES.items():
        precision, hit = highlight_precision_and_hit(truth, predicted, min_score)
        found[f"HL-mAP-{name}"] = 100.0 * float(precision.mean())
        found[f"HIT@1-{name}"] = 100.0 * float(hit.mean())
    return found
