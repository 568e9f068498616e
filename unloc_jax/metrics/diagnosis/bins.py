"""Bins of the ground truth: length, coverage, number of instances, position."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

# DETAD's edges for the two datasets; also 5 % of the video, where DETAD's first edge is 20 %.
LENGTH_EDGES_S = {
    "activitynet": (0, 30, 60, 120, 180, np.inf),
    "thumos14": (0, 3, 6, 12, 18, np.inf),
    "moment-retrieval": (0, 5, 10, 20, 40, np.inf),
    "qvhighlights": (0, 10, 30, 150),
}
COVERAGE_EDGES = {
    "activitynet": (0, 0.05, 0.2, 0.4, 0.6, 0.8, 1),
    "thumos14": (0, 0.02, 0.04, 0.06, 0.08, 1),
    "moment-retrieval": (0, 0.05, 0.2, 0.4, 0.6, 0.8, 1),
    "qvhighlights": (0, 0.05, 0.2, 0.4, 0.6, 0.8, 1),
}
INSTANCE_EDGES = {
    "activitynet": (0, 1, 4, 8, np.inf),
    "thumos14": (0, 1, 40, 80, np.inf),
    "moment-retrieval": (0, 1, 2, 4, np.inf),
    "qvhighlights": (0, 1, 2, 4, np.inf),
}
POSITION_EDGES = (0, 0.2, 0.4, 0.6, 0.8, 1)
# Edges that put more than this share into one bin are uninformative: use quintiles.
_MOST_IN_ONE_BIN = 0.9


@dataclasses.dataclass(frozen=True)
class Bins:
    """Items of the ground truth, binned by one characteristic.

    Attributes:
      name: of the characteristic, as a heading.
      labels: of the bins.
      index: int [n], the bin of each item; -1 = unknown.
    """

    name: str
    labels: tuple[str, ...]
    index: np.ndarray

    @property
    def short_name(self) -> str:
        """The name without its part in brackets."""
        return self.name.split(" (")[0]

    def members(self) -> list[tuple[str, np.ndarray]]:
        """Returns label and bool [n] of every bin that is not empty."""
        inside = [(label, self.index == i) for i, label in enumerate(self.labels)]
        return [(label, mask) for label, mask in inside if mask.any()]


def bins_of_protocol(protocol: str, values: Mapping[str, np.ndarray]) -> list[Bins]:
    """Bins float [n] by name: lengths (s), coverages, numbers of instances and relative positions, in this order."""
    edges = (LENGTH_EDGES_S[protocol], COVERAGE_EDGES[protocol], INSTANCE_EDGES[protocol], POSITION_EDGES)
    return [bins_of(*item, *of) for item, of in zip(values.items(), zip(edges, ("s", "%", "", "%")))]


def bins_of(name: str, values: np.ndarray, edges: Sequence[float], unit: str) -> Bins:
    """Sorts `values` into bins (low, high]; the lowest contains its low edge; the outer ones, values beyond the edges.

    NaN is in no bin. If one bin holds more than nine tenths, quintiles replace the edges, rounded to two digits and
    without empty bins between them.

    Args:
      name: of the characteristic.
      values: float [n].
      edges: ascending, in the unit of the values.
      unit: "s", "%" (of values in [0, 1]) or "" for whole numbers.
    """
    known = ~np.isnan(values)
    inner = np.asarray(edges[1:-1], np.float64)
    index = np.where(known, np.searchsorted(inner, values, side="left"), -1)
    counts: np.ndarray = np.bincount(index[known], minlength=len(edges) - 1)
    if known.any() and counts.max() > _MOST_IN_ONE_BIN * known.sum() and unit:
        quintiles = np.quantile(values[known], [0.2, 0.4, 0.6, 0.8])
        inner = np.unique([float(f"{q:.2g}") for q in quintiles])
        # Rounding may leave nothing between two edges: a bin extends to the next value that is in another one.
        filled = np.unique(np.searchsorted(inner, values[known], side="left"))
        inner = inner[filled[filled < len(inner)]]
        edges = (0.0, *inner, np.inf if unit == "s" else 1.0)
        index = np.where(known, np.searchsorted(inner, values, side="left"), -1)
    return Bins(name, tuple(_label(low, high, unit) for low, high in itertools.pairwise(edges)), index)


def _label(low: float, high: float, unit: str) -> str:
    if not unit:
        if np.isinf(high):
            return f"> {low:g}"
        return f"{high:g}" if high - low <= 1 else f"{low + 1:g}–{high:g}"
    scale = 100 if unit == "%" else 1
    if np.isinf(high):
        return f"> {low * scale:g} {unit}"
    return f"{low * scale:g}–{high * scale:g} {unit}"
