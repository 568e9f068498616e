"""Measures how much of a moment-retrieval result comes from understanding the text.

Three controls and a rate, all pure functions on arrays:

- *best constant segment*: no video, no text; the same part of every video, fitted on train
  (`fit_constant_segment`);
- *another query of the same video*: predictions for query j of the video, scored against the ground
  truth of query i (`another_query_of_same_video` chooses j). The model need not run again;
- *another video's query*: the model runs on the video of query i with a sentence about another video
  (`another_videos_query` chooses it), scored against the ground truth of query i. Evaluation runs the model;
- *right event*: how often the prediction hits, among the events that a video's queries describe, the one that was
  asked for, and whether the object or the motion in the sentence decides it (`right_event_rates`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.tiou import pairwise_segment_iou

# float [N, 2], one segment (s) for each of N queries; or N arrays [W, 2], the answers to each.
Windows = np.ndarray | Sequence[np.ndarray]
# Starts and ends are multiples of 1/50 of the video: finer than the tIoU threshold can tell apart.
GRID = np.arange(51) / 50


def fit_constant_segment(train_relative: np.ndarray, threshold: float = 0.5) -> tuple[float, float]:
    """Returns the (start, end), relative to the video's length, with tIoU ≥ `threshold` to the most train segments.

    train_relative: float [M, 2], start and end of each train segment divided by the duration of its video.

    Ties are broken by the highest mean tIoU, then the earliest start, then the earliest end.

    Raises:
      UserError: M is 0.
    """
    train_relative = np.asarray(train_relative, np.float64)
    if len(train_relative) == 0:
        raise UserError("the best constant segment is fitted on train segments, and there are none")
    best: tuple[int, float] = (-1, -1.0)
    best_segment = (0.0, 1.0)
    for start in range(len(GRID) - 1):
        ends = GRID[start + 1 :]
        candidates = np.stack([np.full_like(ends, GRID[start]), ends], axis=-1)
        iou = pairwise_segment_iou(candidates, train_relative)
        hits, mean_iou = (iou >= threshold).sum(axis=1), iou.mean(axis=1)
        winner = np.lexsort((ends, -mean_iou, -hits))[0]
        if (hits[winner], mean_iou[winner]) > best:
            best = (int(hits[winner]), float(mean_iou[winner]))
            best_segment = (float(GRID[start]), float(ends[winner]))
    return best_segment


def another_query_of_same_video(
    video_index: np.ndarray, ground_truth_s: Windows | None = None, texts: Sequence[str] | None = None
) -> np.ndarray:
    """Returns for each query the next query of its video, cyclically: int [N]; -1 if the video has no other.

    Args:
      video_index: int [N], the video of each query, in any order.
      ground_truth_s: float [N, 2] in seconds, or N arrays [W, 2]. If given, a query with one of the same segments does
        not count as another one: it is the same event in other words (Charades-STA has many), and the control tests
        whether the model knows which event is asked for.
      texts: N sentences. If given, a query in the same words does not count as another one.

    Queries with -1 must be left out of the control, and counted.
    """
    events = _events(ground_truth_s, len(video_index))
    chosen = np.full(len(video_index), -1)
    for queries in _by_video(video_index).values():
        for place, query in enumerate(queries):
            for other in (*queries[place + 1 :], *queries[:place]):
                same = not events[query].isdisjoint(events[other])
                if not same and not (texts and texts[query] == texts[other]):
                    chosen[query] = other
                    break
    return chosen


def another_videos_query(
    video_index: np.ndarray, seed: int = 0, texts: Sequence[str] | None = None
) -> np.ndarray:
    """Draws for each query a query of another video, uniformly: int [N]; -1 if there is none.

    The same `video_index` (int [N]) and seed give the same assignment.

    texts: N sentences. If given, and the query's own video has the drawn text too, the next one is taken.
    """
    video_index = np.asarray(video_index)
    order, start, size, _ = _blocks(video_index)
    others = len(video_index) - size
    # Drawn among the queries of the other videos: positions in `order` without the own video's block.
    drawn = np.random.default_rng(seed).integers(0, np.maximum(others, 1))
    at = lambda place: order[np.where(place < start, place, place + size) % max(len(order), 1)]
    chosen = np.where(others > 0, at(drawn), -1)
    if texts is None:
        return chosen
    of_video = {video: {texts[i] for i in queries} for video, queries in _by_video(video_index).items()}
    for query in range(len(chosen)):
        own = of_video[int(video_index[query])]
        if chosen[query] < 0 or texts[chosen[query]] not in own:
            continue
        first, last, count = start[query], start[query] + size[query], others[query]
        places = ((drawn[query] + step) % count for step in range(1, count))
        candidates = (order[place if place < first else place + last - first] for place in places)
        chosen[query] = next((other for other in candidates if texts[other] not in own), -1)
    return chosen


def right_event_rates(
    top1_s: np.ndarray,
    ground_truth_s: Windows,
    video_index: np.ndarray,
    attributes: Sequence[Mapping[str, str]],
    texts: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Measures how often the first prediction hits the event that was asked for rather than another of the video.

    Args:
      top1_s: float [N, 2], first prediction for each query in seconds; an empty segment (0, 0) if there is none.
      ground_truth_s: float [N, 2] in seconds, or N arrays [W ≥ 1, 2], the answers to each query.
      video_index: int [N].
      attributes: N mappings, attribute name → value, such as {"object": "red circle", "motion": "left"};
        {} if unknown.
      texts: N, if known.

    The rivals of query i are the queries of its video in other words and with other ground-truth segments (an identical
    segment is the same event). Query i is *right* if its prediction's tIoU with its own event (the best-fitting
    answer) is > 0 and greater than with every rival.

    Returns {"right_event": R, "differs_only_in": {name: R, …}}: the first over all queries with at least one
    rival; the others, per attribute name, use only those rivals that differ from the query in this attribute
    and in no other, over the queries that have one. Each R is
      "rate"  percent of queries that are right
      "chance"  the same if one of the compared events is hit at random: mean of 1 / their number
      "hit_none"  percent of queries whose prediction has tIoU 0 with all compared events, and so is not right
      "count"  number of queries

    With count 0 the other three are NaN.
    """
    top1_s = np.asarray(top1_s, np.float64).reshape(-1, 2)
    answers_s = [np.asarray(of_query, np.float64).reshape(-1, 2) for of_query in ground_truth_s]
    events = _events(answers_s, len(answers_s))
    names = sorted({name for query in attributes for name in query})

    outcomes: dict[str | None, list[tuple[bool, bool, float]]] = {name: [] for name in [None, *names]}
    for queries in _by_video(video_index).values():
        joined = np.concatenate([answers_s[query] for query in queries])
        first = np.cumsum([0, *(len(answers_s[query]) for query in queries)])[:-1]
        iou = np.maximum.reduceat(pairwise_segment_iou(top1_s[queries], joined), first, axis=1)
        for i, query in enumerate(queries):
            rivals = [
                k
                for k, other in enumerate(queries)
                if events[query].isdisjoint(events[other]) and not (texts and texts[query] == texts[other])
            ]
            own_values, values = attributes[query], [attributes[queries[k]] for k in rivals]
            differ = [[n for n in names if own_values.get(n) != of.get(n)] for of in values]
            for name, of_name in outcomes.items():
                compared = [k for k, d in zip(rivals, differ) if name is None or d == [name]]
                if compared:
                    own, others = iou[i, i], iou[i, compared]
                    num_events = 1 + len({events[queries[k]] for k in compared})
                    of_name.append((own > others.max(), max(own, others.max()) == 0, 1 / num_events))
    return {
        "right_event": _rates(outcomes[None]),
        "differs_only_in": {name: _rates(outcomes[name]) for name in names},
    }


def _events(ground_truth_s: Windows | None, count: int) -> list[frozenset[tuple[float, ...]]]:
    """Returns the segments of each query as a set; empty sets, which share nothing, if no segments are given."""
    if ground_truth_s is None:
        return [frozenset()] * count
    answers = (np.asarray(of_query, np.float64).reshape(-1, 2).tolist() for of_query in ground_truth_s)
    return [frozenset(map(tuple, of_query)) for of_query in answers]


def _by_video(video_index: np.ndarray) -> dict[int, list[int]]:
    """Returns the queries of each video (int [N]), both in order of first appearance."""
    queries: dict[int, list[int]] = {}
    for query, video in enumerate(np.asarray(video_index).tolist()):
        queries.setdefault(video, []).append(query)
    return queries


def _rates(outcomes: list[tuple[bool, bool, float]]) -> dict[str, float | int]:
    right, hit_none, chance = np.mean(outcomes, axis=0) if outcomes else (np.nan,) * 3
    return {
        "rate": 100 * float(right),
        "chance": 100 * float(chance),
        "hit_none": 100 * float(hit_none),
        "count": len(outcomes),
    }


def _blocks(video_index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sorts the queries by their videos; returns order, and each query's block start, block size and place in it.

    All int [N]. `order` is stable; query i is `order[start[i] + place[i]]`.
    """
    order = np.argsort(video_index, kind="stable")
    in_order = video_index[order]
    start = np.searchsorted(in_order, video_index, side="left")
    size = np.searchsorted(in_order, video_index, side="right") - start
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    return order, start, size, position - start
