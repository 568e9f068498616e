"""Action segmentation: every frame shows one of the classes, or none (paper section 4.1)."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.decimals import shortest
from unloc_jax.localization.decode import Localization
from unloc_jax.localization.geometry import PyramidGeometry, pyramid_geometry
from unloc_jax.localization.losses import masked_mean, relevance_loss, smooth_labels
from unloc_jax.localization.targets import Targets, assign_targets
from unloc_jax.metrics.segmentation import frame_accuracy, labels_at
from unloc_jax.model.unloc import UnLoc
from unloc_jax.queries import as_annotated
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.base import (
    Found,
    Metrics,
    Output,
    Params,
    Task,
    Texts,
    Whole,
    dropout_rng,
    mean_over_crops,
    mean_over_prompts,
)


@dataclasses.dataclass(frozen=True)
class ActionSegmentation(Task):
    """Relevance of the frames alone: a model without a pyramid, or the first level of one with."""

    @property
    def frames(self) -> PyramidGeometry:
        """The sampled frames as the points of a single level."""
        return pyramid_geometry(self.config.data.num_frames, 1, self.config.model.pyramid.stride)

    def targets(self, batch: Batch) -> Targets:
        """A frame shows a class when one of the class's segments covers it: relevance [B, C, T]."""
        return assign_targets(batch.segments, batch.segment_text, len(self.classes), self.frames, radius=None)

    def loss(
        self, params: Params, batch: Batch, rng: jax.Array, whole: Whole | None = None
    ) -> tuple[jax.Array, Metrics]:
        dropout = dropout_rng(rng, whole)
        video = self.apply(params, UnLoc.encode_video, batch.inputs, batch.frame_mask, rng=dropout)
        text = self.vocabulary_features(params, batch, rng)
        localization = self.apply(params, UnLoc.localize, video, batch.frame_mask, text, rng=dropout)
        total = None if whole is None else whole.normalizers["frames"]
        return self.losses(localization, self.targets(batch), _frame_weights(batch), total)

    def normalizers(self, batch: Batch) -> dict[str, jax.Array]:
        return {"frames": _frame_weights(batch).sum()}

    def losses(
        self,
        localization: Localization,
        targets: Targets,
        weights: jax.Array,
        total: jax.Array | None = None,
    ) -> tuple[jax.Array, Metrics]:
        """relevance_weight · relevance loss, summed over classes and averaged over frames.

        Args:
          localization: of B videos.
          targets: for them.
          weights: float32 [B, T].
          total: the weights' sum over the batch that the videos are a part of; None = they are all of it.
        """
        config = self.config.loss
        relevance = localization.relevance[:, :, : weights.shape[1]]
        elementwise = relevance_loss(
            relevance,
            smooth_labels(targets.relevance, config.label_smoothing),
            config.relevance,
            alpha=config.focal_alpha,
            gamma=config.focal_gamma,
        )
        loss = config.relevance_weight * masked_mean(elementwise.sum(1), weights, total)
        shown = frame_classes(relevance)
        right = jnp.take_along_axis(targets.relevance, jnp.maximum(shown, 0)[:, None], axis=1)[:, 0]
        right = jnp.where(shown < 0, 1.0 - targets.relevance.max(1), right)
        return loss, {"loss": loss, "frame_accuracy": masked_mean(right, weights, total)}

    def detect_in(
        self, params: Params, video: jax.Array, frame_mask: jax.Array, span_s: jax.Array, texts: Texts
    ) -> Output:
        relevance = mean_over_prompts(
            lambda prompt: (
                self.apply(
                    params, UnLoc.localize, video, frame_mask, self.encode_texts(params, prompt)
                ).relevance
            ),
            texts,
        )[:, :, : self.config.data.num_frames]
        crops = self.config.evaluation.crops
        relevance, real = mean_over_crops(relevance, crops), frame_mask[::crops]
        curve = jnp.where(real[:, None], jax.nn.sigmoid(relevance), 0.0)
        return Output(curve=curve, frame_classes=jnp.where(real, frame_classes(relevance), -1))

    def segments(self, output: Output, row: int, span_s: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Runs of frames that show a text; the score is the mean probability within."""
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

    def evaluation_texts(self, records: Sequence[VideoRecord]) -> list[list[str]]:
        return [list(self.evaluation_classes)] * len(records)

    def score(self, records: Sequence[VideoRecord], found: Found) -> dict[str, float]:
        """Accuracy over all sampled frames of all videos, and over those that show a class."""
        number = {name: i for i, name in enumerate(self.evaluation_classes)}
        shown = np.concatenate(found.frame_classes)
        labels = np.concatenate(
            [
                frame_labels(record, span_s, len(classes), number)
                for record, span_s, classes in zip(records, found.spans_s, found.frame_classes)
            ]
        )
        # One score per frame and class, for the official formula: 1 for what is shown, 0 (background) else.
        scores = np.eye(len(number) + 1, dtype=np.float32)[shown][:, :-1]
        some = labels.any(1)
        return {
            "frame_accuracy": 100.0 * frame_accuracy(scores, labels),
            "frame_accuracy_without_background": 100.0 * frame_accuracy(scores[some], labels[some])
            if some.any()
            else 0.0,
        }


def frame_times_s(span_s: np.ndarray, num_frames: int) -> np.ndarray:
    """float64 [T]: when the frames were, as it is written."""
    return shortest(np.linspace(span_s[0], span_s[1], num_frames).astype(np.float32))


def frame_labels(
    record: VideoRecord, span_s: np.ndarray, num_frames: int, number: Mapping[str, int]
) -> np.ndarray:
    """bool [T, C]: the classes of one record's frames, at num_frames times spread evenly over span_s."""
    which = np.array([number[text] for text in record.texts[: len(record.segments_s)]], int)
    return labels_at(frame_times_s(span_s, num_frames), as_annotated(record), which, len(number))


def _frame_weights(batch: Batch) -> jax.Array:
    """float32 [B, T], 1 where a frame counts."""
    return (batch.frame_mask & batch.example_mask[:, None]).astype(jnp.float32)


def frame_classes(relevance: jax.Array) -> jax.Array:
    """Logits [B, C, T] → int32 [B, T]: the best class of each frame, -1 where none is more likely than not."""
    best = relevance.argmax(1).astype(jnp.int32)
    return jnp.where(relevance.max(1) > 0, best, -1)
