"""Timelines of the videos whose moments are retrieved best and worst."""

import numpy as np

from unloc_jax.metrics.diagnosis.action_timelines import shown_duration
from unloc_jax.metrics.diagnosis.inputs import Moments
from unloc_jax.metrics.diagnosis.moments import OUTCOMES, Outcomes
from unloc_jax.metrics.diagnosis.section import Bar, Lane, Section, Timeline
from unloc_jax.metrics.diagnosis.shared_sections import videos_section
from unloc_jax.metrics.diagnosis.videos import worst_and_best

_MOST_LANES = 6
_WINDOWS = 3


def moment_videos_section(moments: Moments, outcomes: Outcomes) -> Section:
    """Ranks videos by the mean tIoU of their queries' first windows."""
    names, video = np.unique(moments.videos, return_inverse=True)
    queries = np.bincount(video)
    iou = np.bincount(video, outcomes.iou[:, 0]) / queries
    hits = np.bincount(video, outcomes.recall(1))

    def timeline(v: int) -> Timeline:
        rows = np.flatnonzero(video == v)
        lanes = [_lane(moments, outcomes, query) for query in rows[:_MOST_LANES]]
        more = f", {_MOST_LANES} of them shown" if len(rows) > _MOST_LANES else ""
        return Timeline(
            str(names[v]),
            f"mean IoU {100 * iou[v]:.0f} %: {hits[v]:.0f} of {queries[v]} queries found{more}",
            shown_duration(float(moments.duration_s[rows[0]]), lanes),
            lanes,
        )

    zero = iou == 0
    readings = []
    if zero.any():
        readings.append(
            f"In {zero.sum()} of {len(names)} videos no first window touches its moment; they hold"
            f" {queries[zero].sum()} of {len(video)} queries."
        )
    return videos_section(
        "Mean tIoU of the first windows of a video's queries. Of equal ones those with more queries. Timelines show the"
        f" first {_WINDOWS} windows, the first one on top.",
        ("mean IoU %", "queries", "found"),
        lambda v: [str(names[v]), 100 * float(iou[v]), int(queries[v]), int(hits[v])],
        timeline,
        *worst_and_best(iou, queries),
        readings,
    )


def _lane(moments: Moments, outcomes: Outcomes, query: int) -> Lane:
    truth = [Bar(float(start), float(end), "truth", "ground truth") for start, end in moments.truth_s[query]]
    found = []
    for k, (start, end, score) in enumerate(moments.windows[query][:_WINDOWS].tolist()):
        kind = OUTCOMES[outcomes.outcome[query]] if k == 0 else "later"
        note = f"{kind if k == 0 else f'window {k + 1}'}, tIoU {outcomes.iou[query, k]:.2f}"
        found.append(Bar(start, end, kind, note if np.isnan(score) else f"{note}, score {score:.3g}"))
    return Lane(moments.texts[query], truth, found)
