"""Recall of moment retrieval, beside controls that put it in proportion."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unloc_jax.decimals import shortest
from unloc_jax.metrics.moment_retrieval import recall_at_k
from unloc_jax.metrics.moment_retrieval_controls import (
    another_query_of_same_video,
    another_videos_query,
    fit_constant_segment,
    right_event_rates,
)
from unloc_jax.queries import Query
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.outputs import Evaluation, Predict, SplitPredictions

CONSTANT = "best constant segment"
RECALLS = ("R1@0.3", "R1@0.5", "R1@0.7", "R5@0.3", "R5@0.5", "R5@0.7", "mIoU")


def ranked_segments(predictions: SplitPredictions) -> list[np.ndarray]:
    """Returns float64 [k, 2] per query: segments in seconds, best first, as they are written."""
    return [
        shortest(segments[scores > 0])
        for video_segments, video_scores in zip(predictions.segments_s, predictions.scores)
        for segments, scores in zip(video_segments, video_scores)
    ]


def recall_beside_controls(
    of_videos: Sequence[Sequence[Query]],
    records: Sequence[VideoRecord],
    predict: Predict,
    train: Callable[[], Sequence[VideoRecord]],
) -> Evaluation:
    """Returns recall, three controls, and how often the right event of the video is hit.

    Args:
      of_videos: the queries of each record.
      records, predict, train: see `Task.evaluate`.
    """
    queries = [query for of_video in of_videos for query in of_video]
    texts = [query.text for query in queries]
    video = np.repeat(np.arange(len(records)), [len(of_video) for of_video in of_videos])
    known = np.flatnonzero([len(query.windows_s) > 0 for query in queries])
    unknown = sum(not len(query.windows_s) and not query.is_absent for query in queries)

    # One pass over the videos: every query is followed by one of another video, for the first control.
    foreign = np.full(len(queries), -1)
    foreign[known] = another_videos_query(video, texts=texts)[known]
    swapped = [
        [*(query.text for query in of_video), *(texts[j] for j in foreign[video == v] if j >= 0)]
        for v, of_video in enumerate(of_videos)
    ]
    both = predict(swapped)
    predictions = _columns(both, [slice(0, len(of_video)) for of_video in of_videos])
    metrics: dict[str, Any] = {"queries": len(queries)}
    if unknown:
        metrics["queries_without_ground_truth"] = unknown
    if not len(known):
        return Evaluation(predictions, metrics, f"{len(queries)} queries")

    every = ranked_segments(predictions)
    ranked, video = [every[i] for i in known], video[known]
    windows_s, texts = [queries[i].windows_s for i in known], [texts[i] for i in known]
    results = {"model": recall_at_k(windows_s, ranked)}
    has_foreign = np.flatnonzero(foreign[known] >= 0)
    if len(has_foreign):
        others = ranked_segments(_columns(both, [slice(len(of_video), None) for of_video in of_videos]))
        results["another video's query"] = recall_at_k([windows_s[i] for i in has_foreign], others)
    neighbour = another_query_of_same_video(video, windows_s, texts)
    has_neighbour = np.flatnonzero(neighbour >= 0)
    if len(has_neighbour):
        results["another query of the same video"] = recall_at_k(
            [windows_s[i] for i in has_neighbour], [ranked[neighbour[i]] for i in has_neighbour]
        )
    constant = None
    of_training = train()
    if any(len(record.segments_s) for record in of_training):
        constant = fit_constant_segment(
            np.concatenate([record.segments_s.reshape(-1, 2) / record.duration_s for record in of_training])
        )
        always = [np.array([constant]) * records[v].duration_s for v in video.tolist()]
        results[CONSTANT] = recall_at_k(windows_s, always)

    top1 = np.array([segments[0] if len(segments) else (0.0, 0.0) for segments in ranked])
    right = right_event_rates(top1, windows_s, video, [queries[i].description for i in known], texts)
    table = _table(len(known), results, right)
    if unknown:
        table.append(f"  {unknown} more queries have no ground truth: predicted, not scored\n")
    return Evaluation(
        predictions,
        metrics
        | {
            "recall": results,
            "constant_segment": None if constant is None else list(constant),
            "queries_without_another_in_their_video": int((neighbour < 0).sum()),
            "right_event": right,
        },
        "\n".join(table),
    )


def _columns(predictions: SplitPredictions, of_video: list[slice]) -> SplitPredictions:
    """Selects some of the texts of every video."""
    pick = lambda rows: [row[part] for row, part in zip(rows, of_video)]
    return dataclasses.replace(
        predictions,
        texts=pick(predictions.texts),
        segments_s=pick(predictions.segments_s),
        scores=pick(predictions.scores),
        points=pick(predictions.points) if predictions.points else [],
    )


def _table(num_queries: int, results: dict[str, dict], right: dict[str, Any]) -> list[str]:
    """Returns lines, of which the last is empty."""
    lines = [f"{num_queries} queries; recall (%) at IoU, mean IoU (%)"]
    lines.append(f"  {'':<42}" + "".join(f"{key:>8}" for key in RECALLS))
    for row, values in results.items():
        label = row if row == "model" else f"control: {row}"
        # A constant is one segment: its recall at 5 would only repeat that at 1.
        absent = [key for key in RECALLS if row == CONSTANT and key.startswith("R5")]
        cells = ["–" if key in absent else f"{values[key]:.1f}" for key in RECALLS]
        lines.append(f"  {label:<42}" + "".join(f"{cell:>8}" for cell in cells))
    lines.append("\n  Is it the right event of the video that is hit? (%)")
    lines.append(f"  {'':<42}{'right':>8}{'chance':>8}{'none hit':>10}{'queries':>9}")
    rows = {"all queries": right["right_event"]}
    rows |= {f"others differ only in {key}": value for key, value in right["differs_only_in"].items()}
    lines += [
        f"  {label:<42}{value['rate']:>8.1f}{value['chance']:>8.1f}{value['hit_none']:>10.1f}{value['count']:>9d}"
        for label, value in rows.items()
        if value["count"]
    ]
    return [*lines, ""]
