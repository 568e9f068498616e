"""Sensitivity: how well the segments of each bin are found, by AP_N (DETAD) and by the share found."""

from typing import NamedTuple

import numpy as np

from unloc_jax.metrics.diagnosis.bins import Bins, bins_of_protocol
from unloc_jax.metrics.diagnosis.inputs import Actions
from unloc_jax.metrics.diagnosis.matches import Matches, normalized_average_precisions


class BinScore(NamedTuple):
    """Scores of one bin.

    Attributes:
      label: such as "0–3 s".
      segments: number of segments.
      map_n: mean AP_N in percent over the classes with segments in the bin.
      found: percent of the segments that are found.
    """

    label: str
    segments: int
    map_n: float
    found: float


def action_bins(actions: Actions, protocol: str) -> list[Bins]:
    """Bins every ground-truth segment by four characteristics."""
    video, class_index, segments_s = actions.truth
    length_s = segments_s[:, 1] - segments_s[:, 0]
    duration_s = actions.duration_s[video]
    group = video * len(actions.classes) + class_index
    _, inverse, counts = np.unique(group, return_inverse=True, return_counts=True)
    return bins_of_protocol(
        protocol,
        {
            "segment length": length_s,
            "coverage (segment / video)": length_s / duration_s,
            "number of instances (of the class in the video)": counts[inverse].astype(float),
            "position (of the centre in the video)": segments_s.mean(axis=1) / duration_s,
        },
    )


def scores_by_bin(matches: Matches, bins: Bins) -> list[BinScore]:
    """Scores every bin that is not empty, as if its segments were the ground truth.

    Predictions that hit a segment of another bin are left out, false positives stay (DETAD, section 5). N of AP_N
    is that of the whole ground truth, so that bins can be compared.
    """
    average = matches.average_num_truth
    is_found = matches.is_found
    result = []
    for label, inside in bins.members():
        kept = ~matches.hit | inside[matches.segment]
        num_truth = np.bincount(matches.truth.class_index[inside], minlength=len(matches.num_truth))
        ap_n = normalized_average_precisions(
            matches.found.class_index[kept], matches.hit[kept], num_truth, average
        )
        result.append(
            BinScore(
                label, int(inside.sum()), 100 * float(np.nanmean(ap_n)), 100 * float(is_found[inside].mean())
            )
        )
    return result
