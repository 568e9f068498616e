"""Action segmentation: every frame shows one of the classes, or none (paper section 4.1)."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.decimals import shortest
from unloc_jax.localization.decode import Localization
from unloc_jax.localization.geometry import PyramidGeometry, pyramid_geometry
from unloc_jax.localization.losses import masked_mean
from unloc_jax.localization.targets import Targets
from unloc_jax.metrics.segmentation import Frames, labels_at, segmentation_scores
from unloc_jax.queries import as_annotated, file_id
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.base import Metrics
from unloc_jax.tasks.localization_task import LocalizationTask
from unloc_jax.tasks.outputs import Output, SplitPredictions
from unloc_jax.tasks.zeroshot_scores import Similarities, smooth

BACKGROUND = "background"


@dataclasses.dataclass(frozen=True)
class ActionSegmentation(LocalizationTask):
    """Classifies frames by relevance alone: a model without a pyramid, or the first level of one with.

    A frame shows a class when one of the class's segments covers it.
    """

    name = "action_segmentation"
    with_vocabulary = True
    has_boundaries = False
    protocols = ("segmentation",)
    annotation_formats = ("coin", "ms_tcn", "assembly101")
    radius = None

    @property
    def geometry(self) -> PyramidGeometry:
        """Returns the sampled frames as the points of a single level."""
        return pyramid_geometry(self.config.data.num_frames, 1, self.config.model.pyramid.stride)

    def losses(
        self,
        localization: Localization,
        targets: Targets,
        weights: jax.Array,
        normalizers: dict[str, jax.Array] | None = None,
    ) -> tuple[jax.Array, Metrics]:
        """Returns relevance_weight · relevance loss, summed over classes and averaged over frames, and the accuracy.

        For the arguments ([B, N, P], of which the first T points count) see `LocalizationTask.losses`.
        """
        normalizers = normalizers or self._normalizers(targets, weights)
        relevance = localization.relevance[:, :, : self.geometry.num_points]
        loss = self.config.loss.relevance_weight * self.relevance_loss(
            relevance, targets, weights, normalizers
        )
        shown = frame_classes(relevance)
        right = jnp.take_along_axis(targets.relevance, jnp.maximum(shown, 0)[:, None], axis=1)[:, 0]
        right = jnp.where(shown < 0, 1.0 - targets.relevance.max(1), right)
        accuracy = masked_mean(right, weights[:, 0], normalizers["relevance"])
        return loss, {"loss": loss, "frame_accuracy": accuracy}

    def output(self, localization: Localization, frame_mask: jax.Array, span_s: jax.Array) -> Output:
        """Returns the classes' probabilities in every frame [B, N, T], and the class that each frame shows [B, T]."""
        relevance = localization.relevance[:, :, : self.geometry.num_points]
        curve = jnp.where(frame_mask[:, None], jax.nn.sigmoid(relevance), 0.0)
        return Output(curve=curve, frame_classes=jnp.where(frame_mask, frame_classes(relevance), -1))

    def zeroshot(self, video: Similarities) -> Output:
        """Gives every frame the class of the highest smoothed cosine."""
        smoothed = np.array([smooth(row, video.smoothing_s * video.fps) for row in video.cosines])
        shown: Any = smoothed.argmax(0).astype(np.int32)[None]
        return Output(frame_classes=shown)

    def segments(self, output: Output, row: int, span_s: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns runs of frames that show a text, [k, 2] in seconds; the score [k] is the mean probability within."""
        assert output.frame_classes is not None and output.curve is not None
        shown, curve = np.asarray(output.frame_classes[row]), np.asarray(output.curve[row])
        times_s = np.linspace(span_s[0], span_s[1], len(shown))
        half_s = 0.5 * (times_s[1] - times_s[0])
        cuts = np.flatnonzero(np.diff(shown)) + 1
        starts, ends = np.r_[0, cuts], np.r_[cuts, len(shown)]
        found = []
        for text in range(len(curve)):
            runs = [(a, b) for a, b in zip(starts, ends) if shown[a] == text]
            segments = np.array([(times_s[a] - half_s, times_s[b - 1] + half_s) for a, b in runs]).reshape(
                -1, 2
            )
            scores = np.array([curve[text, a:b].mean() for a, b in runs])
            order = np.argsort(-scores, kind="stable")
            found.append((np.clip(segments, *span_s)[order], scores[order]))
        return found

    def compute_metrics(
        self, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> dict[str, float]:
        """Computes the accuracy of all frames and of those that show a class, and edit and F1 of runs of frames."""
        number = {name: i for i, name in enumerate(self.evaluation_classes)}
        shown = np.concatenate(predictions.frame_classes)
        labels = np.concatenate(
            [
                frame_labels(record, span_s, len(classes), number)
                for record, span_s, classes in zip(records, predictions.spans_s, predictions.frame_classes)
            ]
        )
        lengths = np.array([len(classes) for classes in predictions.frame_classes])
        scores = segmentation_scores(Frames(_own_classes(labels, shown), shown, lengths), background=-1)
        without_background = scores["accuracy_without_background"] if labels.any() else 0.0
        return {
            "frame_accuracy": scores["accuracy"],
            "frame_accuracy_without_background": without_background,
            **{name: scores[name] for name in ("edit", "F1@10", "F1@25", "F1@50")},
        }

    def prediction_lines(
        self, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> Iterator[str]:
        """Yields a line per video: "pred", the class of each sampled frame, and "gt", its own where that is known.

        Of a frame with several classes "gt" is the predicted one if it is among them.
        """
        names = np.array([*self.evaluation_classes, BACKGROUND], object)  # -1 is the background
        number = {name: i for i, name in enumerate(self.evaluation_classes)}
        known = self.has_ground_truth(records)
        for record, span_s, shown in zip(records, predictions.spans_s, predictions.frame_classes):
            times_s = frame_times_s(span_s, len(shown)).tolist()
            line = {"video_id": file_id(record), "times_s": times_s, "pred": names[shown].tolist()}
            if known:
                own = frame_labels(record, span_s, len(shown), number)
                line["gt"] = names[_own_classes(own, shown)].tolist()
            yield json.dumps(line) + "\n"


def _own_classes(labels: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Returns one class per frame, int [T], -1 = background: the shown one if it is among labels, bool [T, C]."""
    right = labels[np.arange(len(shown)), shown] & (shown >= 0)
    return np.where(right, shown, np.where(labels.any(1), labels.argmax(1), -1))


def frame_times_s(span_s: np.ndarray, num_frames: int) -> np.ndarray:
    """Returns the times of T frames, float64 [T] in seconds, as they are written; span_s is float32 [2]."""
    return shortest(np.linspace(span_s[0], span_s[1], num_frames).astype(np.float32))


def frame_labels(
    record: VideoRecord, span_s: np.ndarray, num_frames: int, number: Mapping[str, int]
) -> np.ndarray:
    """Returns the classes of one record's frames, bool [T, C], at T times spread evenly over span_s, float32 [2]."""
    which = np.array([number[text] for text in record.texts[: len(record.segments_s)]], int)
    return labels_at(frame_times_s(span_s, num_frames), as_annotated(record), which, len(number))


def frame_classes(relevance: jax.Array) -> jax.Array:
    """Returns int32 [B, T] of logits float [B, C, T]: each frame's best class, -1 if none is more likely than not."""
    best = relevance.argmax(1).astype(jnp.int32)
    return jnp.where(relevance.max(1) > 0, best, -1)
