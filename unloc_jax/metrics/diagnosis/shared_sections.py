"""Sections that detections and moments share: metrics over tIoU, metrics by bin, worst and best videos."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from unloc_jax.metrics.diagnosis.bins import Bins
from unloc_jax.metrics.diagnosis.section import Bars, Lines, Section, Table, Timeline, Timelines, Value


def curve_section(
    title: str,
    note: str,
    tious: np.ndarray,
    curves: Mapping[str, Sequence[float]],
    found: str | None,
) -> Section:
    """Shows metrics over tIoU.

    Args:
      title, note: of the section.
      tious: float [n], with 0.3 and 0.7.
      curves: by metric, percent at each of them; the reading is on the first metric.
      found: what lacks boundaries if the first metric falls steeply; None = too little data for a reading.
    """
    metric = next(iter(curves))
    low, high = (curves[metric][int(np.flatnonzero(tious == t)[0])] for t in (0.3, 0.7))
    readings = []
    if found and low > 0:
        kept = 100 * high / low
        readings.append(
            f"From tIoU 0.3 to 0.7 {metric} goes from {low:.1f} to {high:.1f}: {kept:.0f} % of it remain"
            f"{f', boundaries are what most {found} lack' if kept < 50 else ''}."
        )
    rows = [[f"{t:.2f}", *values] for t, *values in zip(tious, *curves.values()) if round(100 * t) % 10 == 0]
    lines = {name: (tious.tolist(), values) for name, values in curves.items()}
    figure = Lines(title, "tIoU", "%", lines, (float(tious[0]), float(tious[-1])))
    return Section("curves", title, note, [Table(("tIoU", *curves), rows)], [figure], readings)


def bin_section(
    bins: Bins,
    things: str,
    note: str,
    columns: Mapping[str, Sequence[float]],
    drawn: tuple[str, str, float],
    readings: Sequence[str],
) -> Section:
    """Shows metrics by one characteristic.

    Args:
      bins: of the ground truth.
      things: name of what is in the bins, such as "segments".
      note: of the section.
      columns: by metric, percent of each bin that is not empty.
      drawn: the metric that is drawn, its name in the figure's title, and its value for all.
      readings: of the section.
    """
    name = bins.short_name
    section, title = f"by-{name.replace(' ', '-')}", f"By {bins.name}"
    unknown = int((bins.index < 0).sum())
    if unknown == len(bins.index):
        return Section(section, title, "The ground truth does not have the length of its videos.", [])
    if unknown:
        note += f" {unknown} {things} are in videos of unknown duration."
    labels, counts = zip(*((label, int(inside.sum())) for label, inside in bins.members()))
    rows = [list(row) for row in zip(labels, counts, *columns.values())]
    metric, shown, of_all = drawn
    figure = Bars(f"{shown} by {name}, % (line: all)", labels, columns[metric], counts, of_all)
    figures = [figure] if len(rows) > 1 else []
    return Section(section, title, note, [Table((name, things, *columns), rows)], figures, readings)


def videos_section(
    note: str,
    columns: Sequence[str],
    row: Callable[[int], Sequence[Value]],
    timeline: Callable[[int], Timeline],
    worst: np.ndarray,
    best: np.ndarray,
    readings: Sequence[str],
) -> Section:
    """Shows the worst and the best videos.

    Args:
      note: of the section.
      columns: of the tables, after the video's name.
      row, timeline: of a video.
      worst, best: int [n], int [m], videos; `worst` has all of them if `best` is empty.
      readings: of the section.
    """
    title = f"The {len(worst)} worst videos" if len(best) else "All videos, the worst first"
    return Section(
        "videos",
        "Worst and best videos",
        note,
        [
            Table(("worst", *columns), [row(v) for v in worst]),
            Table(("best", *columns), [row(v) for v in best]),
        ],
        [
            Timelines(title, [timeline(v) for v in worst]),
            Timelines(f"The {len(best)} best videos", [timeline(v) for v in best]),
        ],
        readings,
    )
