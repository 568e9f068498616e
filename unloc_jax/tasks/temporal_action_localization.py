"""Temporal action localisation: every video is searched for all classes of a vocabulary (paper section 4.1)."""

import dataclasses
import json
from collections.abc import Iterator, Sequence

import numpy as np

from unloc_jax.config import Config
from unloc_jax.decimals import shortest
from unloc_jax.metrics.detection import (
    ACTIVITYNET_TIOU,
    THUMOS14_TIOU,
    GroundTruth,
    Predictions,
    detection_map,
)
from unloc_jax.metrics.thresholds import thresholds_of
from unloc_jax.queries import as_annotated, file_id, not_shown_classes
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.localization_task import LocalizationTask
from unloc_jax.tasks.outputs import SplitPredictions


@dataclasses.dataclass(frozen=True)
class TemporalActionLocalization(LocalizationTask):
    """Localises the classes: their names are the texts, the same for all videos."""

    name = "temporal_action_localization"
    with_vocabulary = True
    metrics_key = "mAP"
    predictions_file = "predictions.json"

    protocols = ("activitynet", "thumos14", "per-frame")

    @classmethod
    def check_config(cls, config: Config, where: str) -> None:
        super().check_config(config, where)
        thresholds_of(config.evaluation.tiou or None, ACTIVITYNET_TIOU, f"{where}.evaluation.tiou")

    @property
    def _thresholds(self) -> tuple[np.ndarray, ...]:
        """Returns the tIoU thresholds of each average, float64 [T] each."""
        told = self.config.evaluation.tiou
        return (thresholds_of(told, ACTIVITYNET_TIOU),) if told else (THUMOS14_TIOU, ACTIVITYNET_TIOU)

    def compute_metrics(
        self, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> dict[str, float]:
        """Computes mAP at tIoU 0.3:0.1:0.7 and 0.5:0.05:0.95, or at config.evaluation.tiou, each with its average."""
        number = {name: i for i, name in enumerate(self.evaluation_classes)}
        truth = [
            (v, number[text], start_s, end_s)
            for v, record in enumerate(records)
            for text, start_s, end_s in (
                *((text, *segment) for text, segment in zip(record.texts, as_annotated(record))),
                *not_shown_classes(record),
            )
            if text in number
        ]
        video, label, rank = (
            np.concatenate(columns)
            for columns in zip(*(_positive(v, scores) for v, scores in enumerate(predictions.scores)))
        )
        segments = np.concatenate(
            [shortest(s[scores > 0]) for s, scores in zip(predictions.segments_s, predictions.scores)]
        )
        truth_array = np.array(truth, np.float64).reshape(-1, 4)
        ground_truth = GroundTruth(
            truth_array[:, 0].astype(int), truth_array[:, 1].astype(int), truth_array[:, 2:]
        )
        metrics = {}
        for thresholds in self._thresholds:
            result = detection_map(ground_truth, Predictions(video, label, segments, rank), thresholds)
            metrics[_average_name(thresholds)] = result["average_mAP"]
            metrics |= {key: value for key, value in result.items() if key.startswith("mAP@")}
        return metrics

    def table(self, metrics: dict[str, float]) -> list[str]:
        table = [f"{len(self.evaluation_classes)} classes"]
        for thresholds in self._thresholds if metrics else ():
            average = metrics[_average_name(thresholds)]
            values = "".join(f"{metrics[f'mAP@{t:.2f}']:>7.1f}" for t in thresholds)
            table.append("  tIoU   " + "".join(f"{t:>7.2f}" for t in thresholds) + "   average")
            table.append(f"  mAP (%){values}{average:>10.1f}\n")
        return table

    def prediction_lines(
        self, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> Iterator[str]:
        """Yields ActivityNet's submission format: every detection that has a score, best first within its video."""
        yield '{"version": "VERSION 1.3", "results": {'
        of_videos = zip(records, predictions.segments_s, predictions.scores, self.levels(predictions))
        for number, (record, segments_s, scores, levels) in enumerate(of_videos):
            label, place = np.nonzero(scores > 0)
            segments, values = shortest(segments_s[label, place]), shortest(scores[label, place])
            rows = [
                {
                    "label": self.evaluation_classes[label[i]],
                    "score": float(values[i]),
                    "segment": segments[i].tolist(),
                }
                | ({} if levels is None else {"level": int(levels[label[i], place[i]])})
                for i in np.argsort(-values, kind="stable")
            ]
            yield f"{', ' if number else ''}{json.dumps(str(file_id(record)))}: {json.dumps(rows)}"
        yield '}, "external_data": {}}\n'


def _average_name(thresholds: np.ndarray) -> str:
    return f"mAP@{thresholds[0]:.2f}:{thresholds[-1]:.2f}"


def _positive(video: int, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (video index, class index, score) of every real detection; scores are float32 [C, K]."""
    label, _ = np.nonzero(scores > 0)
    return np.full(len(label), video), label, shortest(scores[scores > 0])
