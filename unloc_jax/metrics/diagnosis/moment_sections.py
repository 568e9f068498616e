"""The diagnosis of retrieved moments, section by section."""

import collections

import numpy as np

from unloc_jax.metrics.diagnosis.bin_readings import bin_readings
from unloc_jax.metrics.diagnosis.bins import Bins
from unloc_jax.metrics.diagnosis.calibration_section import calibration_section
from unloc_jax.metrics.diagnosis.comparison import LEAST_ITEMS
from unloc_jax.metrics.diagnosis.inputs import Moments
from unloc_jax.metrics.diagnosis.level_section import Produced, Segments, level_section
from unloc_jax.metrics.diagnosis.levels import Pyramid
from unloc_jax.metrics.diagnosis.moment_timelines import moment_videos_section
from unloc_jax.metrics.diagnosis.moments import (
    HIT,
    KS,
    LEAST_IOU,
    NOTHING,
    OTHER_QUERY,
    OUTCOMES,
    TOO_LONG,
    TOO_SHORT,
    Outcomes,
    find_outcomes,
    moment_bins,
    video_numbers,
)
from unloc_jax.metrics.diagnosis.section import Diagnosis, Section, StackedBars, Table, Value
from unloc_jax.metrics.diagnosis.shared_sections import bin_section, curve_section

CURVE_TIOU = np.round(np.arange(0.05, 0.96, 0.05), 2)
_STRICT_TIOU = 0.7
_MOST_PAIRS = 15
TERMS = (
    "tIoU is the overlap of two segments: the time that they share, divided by the time that they cover together; of a"
    " query with several moments, the one that fits best counts. A window hits with at least the tIoU that is named."
    " R@k is the share of queries with a hit among their first k windows."
)


def diagnose_moments(
    moments: Moments, protocol: str, tiou: float = 0.5, pyramid: Pyramid | None = None
) -> Diagnosis:
    """Returns all sections for moments.

    Args:
      protocol: selects the bins, see `bins`.
      tiou: threshold of a hit.
      pyramid: of the model, to check whether its levels fit the ground truth.
    """
    outcomes = find_outcomes(moments, tiou)
    percent = lambda hits: 100 * float(hits.mean())
    score = np.array([windows[0, 2] for windows in moments.windows if len(windows)])
    predicted = np.array([len(windows) > 0 for windows in moments.windows])
    summary = {
        "queries": len(moments.texts),
        "videos": len(set(moments.videos)),
        **{f"R@{k} at tIoU {tiou:g}": percent(outcomes.recall(k)) for k in KS},
        f"R@1 at tIoU {_STRICT_TIOU:g}": percent(outcomes.recall(1, _STRICT_TIOU)),
        "mean tIoU of the first windows, %": percent(outcomes.iou[:, 0]),
    }
    sections = [
        outcome_section(outcomes),
        *(_by_bin(moments, outcomes, bins) for bins in moment_bins(moments, protocol)),
        _levels(moments, outcomes, pyramid),
        confusion_section(moments, outcomes),
        _curves(outcomes),
        calibration_section(score, outcomes.recall(1)[predicted], "the first window of every query", tiou),
        moment_videos_section(moments, outcomes),
    ]
    return Diagnosis(
        "Diagnosis of moments", summary, [section for section in sections if section is not None], TERMS
    )


def _levels(moments: Moments, outcomes: Outcomes, pyramid: Pyramid | None) -> Section | None:
    """Shows the levels of first windows, and of the ground-truth window that each fits best."""
    hit = outcomes.recall(1)
    produced = None
    if moments.level is not None:
        queries = np.array([query for query, levels in enumerate(moments.level) if len(levels)])
        produced = Produced(
            np.array([moments.level[query][0] for query in queries]),
            outcomes.outcome[queries],
            OUTCOMES,
            np.where(hit[queries], queries, -1),
        )
    segments = Segments(outcomes.nearest_s, moments.duration_s, video_numbers(moments.videos), hit)
    return level_section(segments, produced, pyramid)


def outcome_section(outcomes: Outcomes) -> Section:
    """Shows the outcomes of first windows."""
    total = len(outcomes.outcome)
    later = outcomes.recall(5) & ~outcomes.recall(1)
    counts = np.bincount(outcomes.outcome, minlength=len(OUTCOMES)).tolist()
    repaired = np.bincount(outcomes.outcome[later], minlength=len(OUTCOMES)).tolist()
    rows: list[list[Value]] = [
        [name, counts[i], 100 * counts[i] / total, repaired[i] if i else None]
        for i, name in enumerate(OUTCOMES)
    ]
    missed = total - counts[HIT]
    readings = []
    if missed >= LEAST_ITEMS:
        worst = max(range(1, len(OUTCOMES)), key=counts.__getitem__)
        readings.append(
            f"{missed} of {total} first windows miss; the most frequent reason is {OUTCOMES[worst]}"
            f" ({100 * counts[worst] / missed:.0f} % of the misses)."
        )
        n = int(later.sum())
        if n >= LEAST_ITEMS:
            readings.append(
                f"A better order of windows alone could gain {100 * n / total:.1f} points: for {n} of the {missed}"
                f" misses one of the windows 2 to 5 hits."
            )
        long, short = counts[TOO_LONG], counts[TOO_SHORT]
        # More than chance: two standard errors of a fair coin.
        if long + short >= LEAST_ITEMS and abs(long - short) > 2 * np.sqrt(long + short):
            which = "long" if long > short else "short"
            readings.append(
                f"Windows of the wrong length are rather too {which}: {long} too long, {short} too short."
            )
    return Section(
        "outcomes",
        "First windows: hits, and misses by reason",
        f"A hit has tIoU ≥ {outcomes.tiou:g}. Otherwise: the window hits the moment of another query of the video; it"
        f" overlaps its own (≥ {LEAST_IOU:g}) but is longer or shorter by half or more, or else shifted; or it is on"
        " background. The last column: a window from 2 to 5 hits.",
        [Table(("first window", "queries", "%", "later one hits"), rows)],
        [
            StackedBars(
                "First windows", ["all queries"], OUTCOMES, [[100 * count / total for count in counts]]
            )
        ],
        readings,
    )


def _by_bin(moments: Moments, outcomes: Outcomes, bins: Bins) -> Section:
    """Shows R@k and mean tIoU by one characteristic."""
    tiou, hit = outcomes.tiou, outcomes.recall(1)
    columns = {
        f"R@1, {tiou:g}": hit,
        f"R@1, {_STRICT_TIOU:g}": outcomes.recall(1, _STRICT_TIOU),
        f"R@5, {tiou:g}": outcomes.recall(5),
        "mean tIoU %": outcomes.iou[:, 0],
    }
    return bin_section(
        bins,
        "queries",
        "R@k at two tIoU thresholds, and mean tIoU of first windows.",
        {
            name: [100 * float(values[inside].mean()) for _, inside in bins.members()]
            for name, values in columns.items()
        },
        (f"R@1, {tiou:g}", f"R@1 at tIoU {tiou:g}", 100 * float(hit.mean())),
        bin_readings(bins, hit, video_numbers(moments.videos), "queries", "are found"),
    )


def confusion_section(moments: Moments, outcomes: Outcomes) -> Section:
    """Shows queries that were answered with the moment of another query of the same video."""
    confused = np.flatnonzero(outcomes.outcome == OTHER_QUERY)
    per_video = collections.Counter(moments.videos)
    with_others = np.array([per_video[video] > 1 for video in moments.videos])
    rows: list[list[Value]]
    by_gap = confused[np.argsort(outcomes.iou[confused, 0], kind="stable")][:_MOST_PAIRS]
    rows = [
        [
            moments.videos[q],
            moments.texts[q],
            moments.texts[outcomes.other[q]],
            100 * float(outcomes.iou[q, 0]),
        ]
        for q in by_gap
    ]
    readings = []
    misses = with_others & (outcomes.outcome != HIT) & (outcomes.outcome != NOTHING)
    if len(confused) >= LEAST_ITEMS:
        readings.append(
            f"{len(confused)} of the {misses.sum()} misses in videos with several queries"
            f" ({100 * len(confused) / misses.sum():.0f} %) find the moment of another query of the video."
        )
    return Section(
        "confusion",
        "Queries taken for one another",
        f"First windows that miss their moment but hit (tIoU ≥ {outcomes.tiou:g}) that of another query of the video;"
        f" those that overlap their own least. {with_others.sum()} of {len(moments.texts)} queries have others in their"
        f" video." + ("" if rows else " There are none."),
        [Table(("video", "query", "found instead", "tIoU with its own %"), rows)] if rows else [],
        (),
        readings,
    )


def _curves(outcomes: Outcomes) -> Section:
    """Shows R@k over tIoU."""
    curves = {f"R@{k}": [100 * float(outcomes.recall(k, t).mean()) for t in CURVE_TIOU] for k in KS}
    return curve_section(
        "R@k over tIoU",
        "Share of queries with a hit among the first k windows.",
        CURVE_TIOU,
        curves,
        "first windows" if len(outcomes.outcome) >= 5 * LEAST_ITEMS else None,
    )
