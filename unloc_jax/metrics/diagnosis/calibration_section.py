"""The section on reliability of scores, for detections and for moments."""

import numpy as np

from unloc_jax.metrics.diagnosis.calibration import chance_that_a_hit_scores_higher, reliability
from unloc_jax.metrics.diagnosis.comparison import LEAST_ITEMS
from unloc_jax.metrics.diagnosis.section import Lines, Section, Table

_SMALL_GAP = 0.03


def calibration_section(score: np.ndarray, hit: np.ndarray, which: str, tiou: float) -> Section:
    """Shows the reliability of predictions.

    Args:
      score: float [n]; NaN: the file has none.
      hit: bool [n].
      which: describes the predictions.
      tiou: threshold of a hit.
    """
    note = f"Scores of {which} against the share that hits at tIoU ≥ {tiou:g}."
    if not len(score) or np.isnan(score).any():
        return Section("calibration", "Calibration of scores", f"{note} The file has no scores.", [])
    ranked = 100 * chance_that_a_hit_scores_higher(score, hit)
    readings = []
    if min(hit.sum(), (~hit).sum()) >= LEAST_ITEMS:
        readings.append(f"A hit outscores a miss {ranked:.0f} times in 100 (by chance: 50).")
    found = reliability(score, hit)
    if found is None:
        note += (
            f" Scores run from {score.min():.3g} to {score.max():.3g}: they are not probabilities, so that there is no"
            f" calibration error; by tenths of the ranking instead."
        )
        tenths = np.array_split(np.argsort(-score, kind="stable"), 10)
        rows = [
            [
                f"{10 * i}–{10 * i + 10} %",
                len(part),
                f"{score[part].mean():.3g}",
                100 * float(hit[part].mean()),
            ]
            for i, part in enumerate(tenths)
            if len(part)
        ]
        table = Table(("best … of the ranking", "predictions", "mean score", "hits %"), rows)
        return Section("calibration", "Calibration of scores", note, [table], (), readings)

    edges = np.linspace(0, 1, len(found.count) + 1)
    rows = [
        [
            f"{low:.1f}–{high:.1f}",
            int(count),
            100 * float(mean),
            100 * float(rate),
            100 * float(mean - rate),
        ]
        for low, high, count, mean, rate in zip(
            edges, edges[1:], found.count, found.mean_score, found.hit_rate
        )
        if count
    ]
    table = Table(("score", "predictions", "mean score %", "hits %", "gap"), rows)
    gap = float(score.mean() - hit.mean())
    if len(score) >= 10 * LEAST_ITEMS:
        if found.ece < _SMALL_GAP:
            text = "scores can be read as probabilities"
        elif abs(gap) > found.ece / 2:
            text = f"scores are too {'high' if gap > 0 else 'low'}, by {100 * abs(gap):.1f} points on average"
        else:
            text = "some scores are too high, others too low"
        readings.append(f"The expected calibration error is {100 * found.ece:.1f} points: {text}.")
    enough = found.count >= LEAST_ITEMS
    curve = np.where(enough, 100 * found.mean_score, np.nan), np.where(enough, 100 * found.hit_rate, np.nan)
    figure = Lines(
        f"Reliability (bins of at least {LEAST_ITEMS} predictions)",
        "mean score, %",
        "hits, %",
        {"predictions": (curve[0].tolist(), curve[1].tolist())},
        (0, 100),
        diagonal=True,
    )
    return Section("calibration", "Calibration of scores", note, [table], [figure], readings)
