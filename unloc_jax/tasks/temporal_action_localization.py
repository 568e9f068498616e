"""Temporal action localisation: every video is searched for all classes of a vocabulary (paper section 4.1)."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.decimals import shortest
from unloc_jax.metrics.detection import (
    ACTIVITYNET_TIOU,
    THUMOS14_TIOU,
    GroundTruth,
    Predictions,
    detection_map,
)
from unloc_jax.model.clip import TextFeatures
from unloc_jax.queries import as_annotated, not_shown
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.base import Found, LocalizationTask, Params, Whole


@dataclasses.dataclass(frozen=True)
class TemporalActionLocalization(LocalizationTask):
    """The classes' names are the texts, the same for all videos."""

    def text_features(
        self, params: Params, batch: Batch, rng: jax.Array, whole: Whole | None = None
    ) -> TextFeatures:
        return self.vocabulary_features(params, batch, rng)

    def text_weights(self, batch: Batch, whole: Whole | None = None) -> jax.Array:
        return jnp.ones((len(batch.frame_mask), len(self.classes)), jnp.float32)

    def relevance_normalizer(self, pair_weights: jax.Array) -> jax.Array:
        return pair_weights[:, 0].sum()  # summed over classes, averaged over points, as in the reference

    def evaluation_texts(self, records: Sequence[VideoRecord]) -> list[list[str]]:
        return [list(self.evaluation_classes)] * len(records)

    def score(self, records: Sequence[VideoRecord], found: Found) -> dict[str, float]:
        """mAP at tIoU 0.3:0.1:0.7 and 0.5:0.05:0.95, each with its average."""
        number = {name: i for i, name in enumerate(self.evaluation_classes)}
        truth = [
            (v, number[text], start_s, end_s)
            for v, record in enumerate(records)
            for text, start_s, end_s in (
                *((text, *segment) for text, segment in zip(record.texts, as_annotated(record))),
                *not_shown(record),
            )
            if text in number
        ]
        video, label, rank = (
            np.concatenate(columns)
            for columns in zip(*(_positive(v, scores) for v, scores in enumerate(found.scores)))
        )
        segments = np.concatenate(
            [shortest(s[scores > 0]) for s, scores in zip(found.segments_s, found.scores)]
        )
        truth_array = np.array(truth, np.float64).reshape(-1, 4)
        ground_truth = GroundTruth(
            truth_array[:, 0].astype(int), truth_array[:, 1].astype(int), truth_array[:, 2:]
        )
        metrics = {}
        for thresholds in (THUMOS14_TIOU, ACTIVITYNET_TIOU):
            result = detection_map(ground_truth, Predictions(video, label, segments, rank), thresholds)
            metrics[f"mAP@{thresholds[0]:.2f}:{thresholds[-1]:.2f}"] = result["average_mAP"]
            metrics |= {key: value for key, value in result.items() if key.startswith("mAP@")}
        return metrics


def _positive(video: int, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(video index, class index, score) of every real detection; scores [C, K]."""
    label, _ = np.nonzero(scores > 0)
    return np.full(len(label), video), label, shortest(scores[scores > 0])
