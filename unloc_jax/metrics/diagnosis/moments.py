"""Outcomes of queries: tIoU of their windows, and the kind of miss of the first one."""

import dataclasses

import numpy as np

from unloc_jax.metrics.diagnosis.bins import Bins, bins_of_protocol
from unloc_jax.metrics.diagnosis.inputs import Moments
from unloc_jax.metrics.moment_retrieval import padded
from unloc_jax.metrics.tiou import segment_iou

KS = (1, 5, 10)
LEAST_IOU = 0.1
# For a window that overlaps its moment but misses: one of the two lengths is at least half as long again.
_MUCH_LONGER = 1.5

# Outcomes of a query's first window, in this order of precedence.
OUTCOMES = (
    "hit",
    "no prediction",
    "another query's moment",
    "too long",
    "too short",
    "shifted",
    "background",
)
HIT, NOTHING, OTHER_QUERY, TOO_LONG, TOO_SHORT, SHIFTED, BACKGROUND = range(7)


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Outcomes of N queries at one tIoU threshold.

    Attributes:
      tiou: the threshold.
      iou: float64 [N, 10], of the first windows with the ground-truth window that each fits best; padded with 0.
      nearest_s: float64 [N, 2] in seconds, the ground-truth window that the first window fits best.
      outcome: int [N], index into OUTCOMES.
      other: int [N], for OTHER_QUERY the query of the same video whose moment was found; otherwise -1.
    """

    tiou: float
    iou: np.ndarray
    nearest_s: np.ndarray
    outcome: np.ndarray
    other: np.ndarray

    def recall(self, k: int, tiou: float | None = None) -> np.ndarray:
        """Returns whether one of the first k windows hits, bool [N]."""
        return np.any(self.iou[:, :k] >= (self.tiou if tiou is None else tiou), axis=1)


def find_outcomes(moments: Moments, tiou: float) -> Outcomes:
    """Classifies the first window of each query at tIoU ≥ `tiou`.

    The outcomes are "hit"; "no prediction"; "another query's moment": it hits that of another query of the same video,
    and overlaps its own by less; below that, with a tIoU ≥ 0.1, "too long" or "too short" by half or more, or
    "shifted"; "background".
    """
    num_queries = len(moments.texts)
    most = max(map(len, moments.truth_s))
    truth_s = padded(moments.truth_s, most)
    windows_s = padded([windows[:, :2] for windows in moments.windows], max(KS))
    every = segment_iou(windows_s[:, :, None], truth_s[:, None])
    iou = every.max(axis=2)
    first = windows_s[:, 0]
    nearest_s = truth_s[np.arange(num_queries), every[:, 0].argmax(axis=1)]
    lengths = (first[:, 1] - first[:, 0]), (nearest_s[:, 1] - nearest_s[:, 0])

    other = np.full(num_queries, -1)
    of_video: dict[str, list[int]] = {}
    for query, video in enumerate(moments.videos):
        of_video.setdefault(video, []).append(query)
    for queries in of_video.values():
        if len(queries) > 1:
            of_others = segment_iou(first[queries, None, None], truth_s[None, queries]).max(axis=2)
            same_text = np.array([[moments.texts[a] == moments.texts[b] for b in queries] for a in queries])
            of_others[same_text] = 0
            best = of_others.argmax(axis=1)
            found = of_others.max(axis=1) >= tiou
            other[queries] = np.where(found, np.array(queries)[best], -1)
    hit = iou[:, 0] >= tiou
    outcome = np.select(
        [
            hit,
            [not len(windows) for windows in moments.windows],
            other >= 0,
            iou[:, 0] < LEAST_IOU,
            lengths[0] >= _MUCH_LONGER * lengths[1],
            lengths[1] >= _MUCH_LONGER * lengths[0],
        ],
        [HIT, NOTHING, OTHER_QUERY, BACKGROUND, TOO_LONG, TOO_SHORT],
        SHIFTED,
    )
    return Outcomes(tiou, iou, nearest_s, outcome, np.where(outcome == OTHER_QUERY, other, -1))


def moment_bins(moments: Moments, protocol: str) -> list[Bins]:
    """Bins every query by four characteristics; for several windows by mean length and position, and joint coverage."""
    mean_length_s = np.array([(w[:, 1] - w[:, 0]).mean() for w in moments.truth_s])
    count = np.array([len(w) for w in moments.truth_s], float)
    centre_s = np.array([w.mean() for w in moments.truth_s])
    covered_s = np.array([_covered(w) for w in moments.truth_s])
    return bins_of_protocol(
        protocol,
        {
            "moment length": mean_length_s,
            "coverage (moments / video)": covered_s / moments.duration_s,
            "number of moments (of the query)": count,
            "position (of the centre in the video)": centre_s / moments.duration_s,
        },
    )


def _covered(segments_s: np.ndarray) -> float:
    """Returns the length in s of the union of segments [W, 2] (s); DiDeMo's are overlapping answers to one query."""
    total, until = 0.0, -np.inf
    for start, end in sorted(segments_s.tolist()):
        total += max(end - max(start, until), 0.0)
        until = max(until, end)
    return total


def video_numbers(videos: list[str]) -> np.ndarray:
    """Returns int [N]: equal numbers for queries of the same video."""
    return np.unique(videos, return_inverse=True)[1]
