"""Timelines of the videos on which a detector does best and worst."""

from collections.abc import Iterable

import numpy as np

from unloc_jax.metrics.diagnosis.errors import TYPES, Errors
from unloc_jax.metrics.diagnosis.inputs import Actions
from unloc_jax.metrics.diagnosis.matches import Matches
from unloc_jax.metrics.diagnosis.section import Bar, Lane, Section, Timeline, Value
from unloc_jax.metrics.diagnosis.shared_sections import videos_section
from unloc_jax.metrics.diagnosis.videos import score_videos, worst_and_best

_MOST_LANES = 5


def action_videos_section(actions: Actions, matches: Matches, errors: Errors) -> Section:
    """Ranks videos by F1 at the score where F1 over all videos is best."""
    scores = score_videos(actions, matches)
    is_found = np.isin(np.arange(len(matches.truth.class_index)), matches.segment[scores.shown])

    def timeline(video: int) -> Timeline:
        truth_rows = np.flatnonzero(matches.truth.video_index == video)
        found_rows = np.flatnonzero((matches.found.video_index == video) & scores.shown)
        true_classes = matches.truth.class_index[truth_rows]
        counts = np.bincount(matches.found.class_index[found_rows], minlength=len(actions.classes)).astype(
            float
        )
        counts[np.unique(true_classes)] += len(found_rows) + 1  # classes with ground truth come first
        lanes = []
        for c in np.argsort(-counts, kind="stable")[:_MOST_LANES]:
            if counts[c]:
                lanes.append(
                    Lane(
                        actions.classes[c],
                        [
                            Bar(
                                *_times(matches.truth.segments_s[i]),
                                "truth" if is_found[i] else "missed",
                                "found" if is_found[i] else "missed",
                            )
                            for i in truth_rows[true_classes == c]
                        ],
                        [
                            Bar(
                                *_times(matches.found.segments_s[i]),
                                TYPES[errors.type[i]],
                                f"{TYPES[errors.type[i]]}, score {matches.found.score[i]:.3g}",
                            )
                            for i in found_rows[matches.found.class_index[found_rows] == c]
                        ],
                    )
                )
        return Timeline(
            actions.videos[video],
            f"F1 {100 * scores.video_f1[video]:.0f} %: {scores.found[video]} of {scores.segments[video]} segments"
            f" found, {scores.predictions[video]} predictions",
            shown_duration(actions.duration_s[video], lanes),
            lanes,
        )

    def row(video: int) -> list[Value]:
        counts = (scores.segments, scores.found, scores.predictions)
        return [
            actions.videos[video],
            100 * float(scores.video_f1[video]),
            *(int(count[video]) for count in counts),
        ]

    readings = []
    known = ~np.isnan(scores.video_f1)
    zero = int((scores.video_f1[known] == 0).sum())
    if zero:
        inside = scores.video_f1 == 0
        readings.append(
            f"In {zero} of {known.sum()} videos with segments nothing is found at score ≥ {scores.threshold:.3g}; they"
            f" hold {scores.segments[inside].sum()} of {scores.segments.sum()} segments."
        )
    return videos_section(
        f"F1 of each video at score ≥ {scores.threshold:.3g}, where F1 over all videos is highest:"
        f" {100 * scores.f1:.1f} %. Of equal ones those with more segments first.",
        ("F1 %", "segments", "found", "predictions"),
        row,
        timeline,
        *worst_and_best(scores.video_f1, scores.segments),
        readings,
    )


def shown_duration(duration_s: float, lanes: Iterable[Lane]) -> float:
    """Returns the length of the time axis in seconds: the video's, if known, but no less than the ground truth's."""
    ends = [bar.end_s for lane in lanes for bar in lane.truth]
    if np.isnan(duration_s):
        ends += [bar.end_s for lane in lanes for bar in lane.found]
    return float(np.nanmax([duration_s, *ends, 1e-3]))


def _times(segment_s: np.ndarray) -> tuple[float, float]:
    """Returns start and end of a segment, float [2] in seconds."""
    return float(segment_s[0]), float(segment_s[1])
