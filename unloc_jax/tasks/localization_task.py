"""The common part of the tasks that find segments."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.localization.decode import Detections, Localization, decode, frame_curve
from unloc_jax.localization.losses import (
    boundary_loss,
    masked_mean,
    offsets_iou,
    relevance_loss,
    smooth_labels,
)
from unloc_jax.localization.targets import Targets, assign_targets
from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.unloc import UnLoc
from unloc_jax.tasks.averaging import Texts
from unloc_jax.tasks.base import Metrics, Params, Task
from unloc_jax.tasks.global_batch import GlobalBatch, dropout_rng
from unloc_jax.tasks.outputs import Output, SplitPredictions
from unloc_jax.tasks.zeroshot_scores import Similarities, localize


class LocalizationTask(Task):
    """Finds segments by the relevance and boundaries of pyramid points.

    The texts are the classes of the vocabulary; a task with queries overrides where they come from.
    """

    has_boundaries = True

    def text_features(
        self, params: Params, batch: Batch, rng: jax.Array, global_batch: GlobalBatch | None = None
    ) -> TextFeatures:
        """Returns features of the texts that the batch's videos are searched for, of leading shape [B, N] or [1, N]."""
        return self.vocabulary_features(params, batch, rng)

    def text_weights(self, batch: Batch, global_batch: GlobalBatch | None = None) -> jax.Array:
        """Returns float32 [B, N], 1 where the (video, text) pair counts."""
        return jnp.ones((len(batch.frame_mask), len(self.classes)), jnp.float32)

    def relevance_normalizer(self, pair_weights: jax.Array) -> jax.Array:
        """Returns the scalar that divides the summed relevance loss; pair_weights is float32 [B, N, P]."""
        return pair_weights[:, 0].sum()  # summed over classes, averaged over points, as in the reference

    @property
    def radius(self) -> float | None:
        """Centre-sampling radius in strides; None = every point of a segment is positive."""
        return self.config.loss.radius

    def targets(self, batch: Batch, global_batch: GlobalBatch | None = None) -> Targets:
        """Returns targets [B, N, P], see `assign_targets`."""
        num_texts = len(self.classes) if self.config.with_vocabulary else batch.text_mask.shape[1]
        return assign_targets(batch.segments, batch.segment_text, num_texts, self.geometry, self.radius)

    def loss(
        self, params: Params, batch: Batch, rng: jax.Array, global_batch: GlobalBatch | None = None
    ) -> tuple[jax.Array, Metrics]:
        """Returns relevance_weight · relevance loss + boundary loss (paper section 3.4), and these terms.

        They are float32 scalars []; for the arguments see `Task.loss`.
        """
        dropout = dropout_rng(rng, global_batch)
        video = self.apply(params, UnLoc.encode_video, *batch.seen, rng=dropout)
        text = self.text_features(params, batch, rng, global_batch)
        localization = self.apply(params, UnLoc.localize, video, batch.frame_mask, text, rng=dropout)
        return self.localization_loss(localization, batch, global_batch)

    def localization_loss(
        self, localization: Localization, batch: Batch, global_batch: GlobalBatch | None = None
    ) -> tuple[jax.Array, Metrics]:
        """Returns the loss, a float32 scalar, and its terms, of a localization [B, N, P] of the batch's videos."""
        normalizers = None if global_batch is None else global_batch.normalizers
        targets, weights = self.targets(batch, global_batch), self.point_weights(batch, global_batch)
        return self.losses(localization, targets, weights, normalizers)

    def point_weights(self, batch: Batch, global_batch: GlobalBatch | None = None) -> jax.Array:
        """Returns float32 [B, N, P], 1 where the point of the (video, text) pair counts."""
        points = self.geometry.point_mask(batch.frame_mask) & batch.example_mask[:, None]
        return self.text_weights(batch, global_batch)[:, :, None] * points[:, None]

    def normalizers(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the sums of the weights [B, N, P] of all points, and of those inside segments: float32 scalars."""
        return self._normalizers(self.targets(batch), self.point_weights(batch))

    def _normalizers(self, targets: Targets, weights: jax.Array) -> dict[str, jax.Array]:
        inside = (targets.relevance * weights).sum()
        return {"relevance": self.relevance_normalizer(weights), "inside": inside}

    def losses(
        self,
        localization: Localization,
        targets: Targets,
        weights: jax.Array,
        normalizers: dict[str, jax.Array] | None = None,
    ) -> tuple[jax.Array, Metrics]:
        """Computes the losses of a localization whose targets are known.

        Args:
          localization: relevance [B, N, P] and offsets [B, N, P, 2] of B videos.
          targets: for them.
          weights: float32 [B, N, P] of (pair, point).
          normalizers: of the batch that the videos are a part of; None = they are all of it.
        """
        normalizers = normalizers or self._normalizers(targets, weights)
        config = self.config.loss
        assert localization.offsets is not None, "a model without boundaries cannot be trained for segments"
        relevance = self.relevance_loss(localization.relevance, targets, weights, normalizers)
        inside = targets.relevance * weights
        mean = lambda values: masked_mean(values, inside, normalizers["inside"])
        boundaries = mean(boundary_loss(config.boundaries, localization.offsets, targets.offsets))
        loss = config.relevance_weight * relevance + boundaries
        return loss, {
            "loss": loss,
            "relevance_loss": relevance,
            "boundary_loss": boundaries,
            "point_iou": mean(offsets_iou(localization.offsets, targets.offsets)),
        }

    def relevance_loss(
        self,
        logits: jax.Array,
        targets: Targets,
        weights: jax.Array,
        normalizers: dict[str, jax.Array],
    ) -> jax.Array:
        """Returns the loss of relevance logits float32 [B, N, P], a scalar; see `losses`."""
        config = self.config.loss
        elementwise = relevance_loss(
            logits,
            smooth_labels(targets.relevance, config.label_smoothing),
            config.relevance,
            alpha=config.focal_alpha,
            gamma=config.focal_gamma,
        )
        return (elementwise * weights).sum() / (normalizers["relevance"] + 1e-8)

    def detect_encoded(
        self, params: Params, video: jax.Array, frame_mask: jax.Array, span_s: jax.Array, texts: Texts
    ) -> Output:
        """Predicts detections [B, N, K] and curves [B, N, T]; see `Task.detect_encoded`."""
        localization = self.mean_prediction(params, UnLoc.localize, video, frame_mask, texts)
        crops = self.config.evaluation.crops
        return self.output(localization, frame_mask[::crops], span_s[::crops])

    def output(self, localization: Localization, frame_mask: jax.Array, span_s: jax.Array) -> Output:
        """Decodes detections [B, N, K], and for every frame the highest probability of a point that covers it."""
        settings = self.config.evaluation.suppression(self.geometry.num_points)
        nms = not self.config.data.windowed
        detections = decode(localization, frame_mask, span_s, self.geometry, settings, nms=nms)
        curve = frame_curve(jax.nn.sigmoid(localization.relevance), self.geometry)
        return Output(detections, jnp.where(frame_mask[:, None], curve, 0.0))

    def zeroshot(self, video: Similarities) -> Output:
        """Finds stretches that stand out from what is around them.

        The score of a class is multiplied by its share: softmax over the classes, averaged over the segment's frames.
        """
        shares = None
        if self.with_vocabulary:
            likely = np.exp(video.logits - video.logits.max(0))
            shares = likely / likely.sum(0)
        curves, rows = localize(video, self.config.evaluation, shares)
        padded: Any = np.zeros((1, len(rows), max([1, *map(len, rows)]), 3), np.float32)
        for i, of_text in enumerate(rows):
            padded[0, i, : len(of_text)] = of_text
        curve: Any = curves[None]
        return Output(Detections(padded[..., :2], padded[..., 2], None), curve)

    def levels(self, predictions: SplitPredictions) -> Sequence[np.ndarray | None]:
        """Returns the pyramid level of every segment, int [n, K] per video; None where there was no pyramid."""
        if predictions.points:
            return [self.geometry.levels[points] for points in predictions.points]
        return [None] * len(predictions.scores)
