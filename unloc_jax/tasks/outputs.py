"""Predictions of a task's model, for a batch on the device and for a split on the host, and their evaluation."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import numpy as np

from unloc_jax.localization.decode import Detections

Predict = Callable[[Sequence[Sequence[str]]], "SplitPredictions"]  # texts of every video → predictions


@flax.struct.dataclass
class Output:
    """Holds what a model predicts for B videos and N texts; a task fills in what it has.

    detections: segments [B, N, K], best first.
    curve: float32 [B, N, T], relevance of each sampled frame in [0, 1]; 0 where there is none.
    frame_classes: int32 [B, T], the text that each frame shows; -1 = none.
    video_scores: float32 [B, N], how well each text describes the whole video (logits).
    """

    detections: Detections | None = None
    curve: jax.Array | None = None
    frame_classes: jax.Array | None = None
    video_scores: jax.Array | None = None


@dataclasses.dataclass
class SplitPredictions:
    """Holds `Output` of a split on the host: one entry per video, rows aligned with its evaluation texts.

    spans_s: float32 [2] each, the times of the first and the last sampled frame;
    segments_s: float32 [n, K, 2] each; scores: float32 [n, K] each, 0 fills up; points: int [n, K] each, the pyramid
    point that a segment came from; the others as in `Output`, with as many places T as were sampled from this video
    (it depends on the video if windows slide over it).
    """

    texts: list[list[str]]
    spans_s: list[np.ndarray] = dataclasses.field(default_factory=list)
    segments_s: list[np.ndarray] = dataclasses.field(default_factory=list)
    scores: list[np.ndarray] = dataclasses.field(default_factory=list)
    points: list[np.ndarray] = dataclasses.field(default_factory=list)
    curves: list[np.ndarray] = dataclasses.field(default_factory=list)
    frame_classes: list[np.ndarray] = dataclasses.field(default_factory=list)
    video_scores: list[np.ndarray] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Presence:
    """Holds the queries whose answers are known, those without any among them.

    Attributes:
      truth_s: per query float [W, 2] in seconds; W = 0: it has no answer in its video.
      found_s: per query float [K, 2] in seconds, best first.
      score: float64 [Q], how sure the model is that there is an answer: its best score.
    """

    truth_s: Sequence[np.ndarray]
    found_s: Sequence[np.ndarray]
    score: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """Whether a query has an answer, bool [Q]."""
        return np.array([len(windows) > 0 for windows in self.truth_s])


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Holds what `unloc evaluate` reports about a split.

    Attributes:
      predictions: of the texts that the task asks for.
      metrics: what metrics.json holds besides what is evaluated.
      table: what is printed behind "DATASET, SPLIT: N videos, ".
    """

    predictions: SplitPredictions
    metrics: dict[str, Any]
    table: str
