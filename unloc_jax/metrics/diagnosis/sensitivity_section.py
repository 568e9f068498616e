"""The section on how well segments of each length, coverage, … are found."""

import numpy as np

from unloc_jax.metrics.diagnosis.bin_readings import bin_readings
from unloc_jax.metrics.diagnosis.bins import Bins
from unloc_jax.metrics.diagnosis.comparison import LEAST_ITEMS, LEAST_VIDEOS
from unloc_jax.metrics.diagnosis.matches import Matches
from unloc_jax.metrics.diagnosis.section import Section
from unloc_jax.metrics.diagnosis.sensitivity import BinScore, scores_by_bin
from unloc_jax.metrics.diagnosis.shared_sections import bin_section

_MUCH_LOWER = 3.0  # points of mAP_N


def sensitivity_section(matches: Matches, bins: Bins, map_n: float) -> Section:
    """Shows mAP_N and the share found by one characteristic; map_n: of all segments, in percent."""
    scores = scores_by_bin(matches, bins)
    readings = bin_readings(
        bins,
        matches.is_found,
        matches.truth.video_index,
        "segments",
        "are found",
        [f"mAP_N {score.map_n:.1f}" for score in scores],
    )
    readings += _lowest_map_n(matches, bins, scores, map_n)
    return bin_section(
        bins,
        "segments",
        "mAP_N of each bin's segments alone (hits of other bins left out, false positives kept) and the share that is"
        f" found at tIoU ≥ {matches.tiou:g}.",
        {"mAP_N": [score.map_n for score in scores], "found %": [score.found for score in scores]},
        ("found %", "Found", 100 * float(matches.is_found.mean())),
        readings,
    )


def _lowest_map_n(matches: Matches, bins: Bins, scores: list[BinScore], of_all: float) -> list[str]:
    """Names the bin with the lowest mAP_N of those that are large enough, if it is much below that of all segments."""
    video = matches.truth.video_index
    large = [
        score
        for score, (_, inside) in zip(scores, bins.members())
        if score.segments >= 2 * LEAST_ITEMS and len(np.unique(video[inside])) >= LEAST_VIDEOS
    ]
    lowest = min(large, key=lambda score: score.map_n, default=None)
    if lowest is None or len(scores) < 2 or lowest.map_n > of_all - _MUCH_LOWER:
        return []
    return [
        f"mAP_N is lowest for {lowest.label} ({lowest.segments} segments): {lowest.map_n:.1f}, of all {of_all:.1f}."
    ]
