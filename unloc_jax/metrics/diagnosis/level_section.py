"""Pyramid levels: the predictions of each, the segments each is responsible for, and whether the ranges fit."""

from typing import NamedTuple

import numpy as np

from unloc_jax.metrics.diagnosis.comparison import LEAST_ITEMS, difference
from unloc_jax.metrics.diagnosis.levels import Pyramid, points_of_levels
from unloc_jax.metrics.diagnosis.section import Section, StackedBars, Table

# Shares of all segments: a level responsible for more is overloaded, one for less is idle.
_MOST_OF_ALL, _LEAST_OF_ALL = 0.6, 0.01


class Produced(NamedTuple):
    """K predictions with levels.

    Attributes:
      level: int [K].
      kind: int [K], index into `kinds`; 0 = hit.
      kinds: their names.
      segment: int [K], the segment that a prediction hits, or -1.
    """

    level: np.ndarray
    kind: np.ndarray
    kinds: tuple[str, ...]
    segment: np.ndarray


class Segments(NamedTuple):
    """n ground-truth segments.

    Attributes:
      segments_s: float64 [n, 2], start and end in seconds.
      duration_s: float64 [n], of their videos in seconds; NaN = unknown.
      video: int [n], the video of each.
      found: bool [n], whether a prediction hits it.
    """

    segments_s: np.ndarray
    duration_s: np.ndarray
    video: np.ndarray
    found: np.ndarray


def level_section(segments: Segments, produced: Produced | None, pyramid: Pyramid | None) -> Section | None:
    """Returns the section, or None if neither predictions nor a checkpoint give levels."""
    if produced is None and pyramid is None:
        return None
    tables, figures, notes, readings = [], [], [], []
    if produced is not None:
        notes.append("The level that made each prediction, as in the file.")
        levels = np.unique(produced.level).tolist()
        kinds = [produced.kind[produced.level == level] for level in levels]
        shares = [(100 * np.bincount(of, minlength=len(produced.kinds)) / len(of)).tolist() for of in kinds]
        rows = [
            [level, len(of_level), int((of_level == 0).sum()), *percent]
            for level, of_level, percent in zip(levels, kinds, shares)
        ]
        columns = ("level", "predictions", "hits", *(f"{name} %" for name in produced.kinds))
        tables.append(Table(columns, rows))
        labels = [f"level {level}" for level in levels]
        figures.append(StackedBars("Predictions by level", labels, produced.kinds, shares))
    if pyramid is not None:
        notes.append(
            "Points inside a segment learn it if the larger of their distances to its start and end (in frames) is in"
            " their level's range; the level with the most of them is responsible for it. Ranges in seconds are those"
            " of the median video; lengths and points are medians."
        )
        counts = points_of_levels(pyramid, segments.segments_s, segments.duration_s)
        responsible = np.where(counts.any(axis=1), counts.argmax(axis=1), -1)
        tables.append(_responsible_table(segments, produced, pyramid, counts, responsible))
        readings += _fit_readings(segments, pyramid, responsible)
        readings += _found_readings(segments, responsible)
    return Section("levels", "Pyramid levels", " ".join(notes), tables, figures, readings)


def _responsible_table(
    segments: Segments,
    produced: Produced | None,
    pyramid: Pyramid,
    counts: np.ndarray,
    responsible: np.ndarray,
) -> Table:
    """Tabulates levels; counts: int [n, levels], points per segment; responsible: int [n], level or -1."""
    found_by = np.full(len(responsible), -1)
    if produced is not None:
        hit = produced.segment >= 0
        found_by[produced.segment[hit]] = produced.level[hit]
    step_s = float(np.nanmedian(pyramid.steps_s(segments.duration_s)))
    length_s = segments.segments_s[:, 1] - segments.segments_s[:, 0]
    rows = []
    for level in [*range(pyramid.geometry.num_levels), -1]:
        inside = responsible == level
        count = int(inside.sum())
        if level < 0 and not count:
            continue
        low, high = pyramid.geometry.regression_ranges[level] if level >= 0 else (np.nan, np.nan)
        row = [
            level if level >= 0 else "none",
            _range(low, high) if level >= 0 else "",
            _range(low * step_s, high * step_s) if level >= 0 else "",
            count,
            100 * count / len(inside),
            float(np.median(length_s[inside])) if count else None,
            float(np.median(counts[inside, level])) if count and level >= 0 else None,
            100 * float(segments.found[inside].mean()) if count else None,
        ]
        if produced is not None:
            same = inside & (found_by == level)
            row.append(100 * float(same.sum() / count) if count and level >= 0 else None)
        rows.append(row)
    columns = (
        "level",
        "range, frames",
        "range, s",
        "segments",
        "% of all",
        "length, s",
        "points",
        "found %",
    )
    return Table((*columns, "found by it %") if produced is not None else columns, rows)


def _fit_readings(segments: Segments, pyramid: Pyramid, responsible: np.ndarray) -> list[str]:
    """Describes levels that are overloaded, idle or missing; responsible: int [n], level per segment, -1 = none."""
    known = np.isfinite(pyramid.steps_s(segments.duration_s))
    total = int(known.sum())
    if total < 5 * LEAST_ITEMS:
        return []
    texts = []
    step_s = float(np.median(pyramid.steps_s(segments.duration_s)[known]))
    nobody = known & (responsible < 0)
    if nobody.sum() >= LEAST_ITEMS:
        length_s = np.diff(segments.segments_s[nobody], axis=1)
        texts.append(
            f"No point of the pyramid is responsible for {nobody.sum()} of {total} segments"
            f" ({100 * nobody.sum() / total:.1f} %), half of them shorter than {np.median(length_s):.3g} s; frames are"
            f" {step_s:.3g} s apart in the median video."
        )
    shares: np.ndarray = (
        np.bincount(responsible[known & (responsible >= 0)], minlength=pyramid.geometry.num_levels) / total
    )
    ranges = pyramid.geometry.regression_ranges
    most = int(np.argmax(shares))
    if shares[most] > _MOST_OF_ALL and len(shares) > 1:
        low, high = ranges[most]
        hint = "other ranges" if most else "more frames, or ranges that end lower,"
        texts.append(
            f"Level {most} (range {_range(low, high)} frames) is responsible for {100 * shares[most]:.0f} % of the"
            f" segments: {hint} would spread them."
        )
    idle = np.flatnonzero(shares < _LEAST_OF_ALL).tolist()
    if idle:
        texts.append(
            f"Level{'s' if len(idle) > 1 else ''} {', '.join(map(str, idle))} "
            f"{'are' if len(idle) > 1 else 'is'} responsible for {round(total * shares[idle].sum())} of {total}"
            f" segments."
        )
    return texts


def _found_readings(segments: Segments, responsible: np.ndarray) -> list[str]:
    """Describes the level whose segments are found least; responsible: int [n], level per segment, -1 = none."""
    worst = []
    for level in np.unique(responsible[responsible >= 0]).tolist():
        found = difference(segments.found, responsible == level, segments.video)
        if found and found.points < 0:
            worst.append((found, level))
    if not worst:
        return []
    found, level = min(worst)
    return [
        f"Segments of level {level} lose {-found.points:.1f} points against the others: {100 * found.inside:.1f} % are"
        f" found, {100 * found.outside:.1f} % of the others."
    ]


def _range(low: float, high: float) -> str:
    return f"≥ {low:.3g}" if np.isinf(high) else f"{low:.3g}–{high:.3g}"
