"""A task: where its texts come from, what is minimised, how its segments are decoded and scored."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.localization.decode import Detections, Localization, decode
from unloc_jax.localization.geometry import PyramidGeometry, pyramid_geometry
from unloc_jax.localization.losses import focal_loss, masked_mean, offsets_iou
from unloc_jax.localization.targets import Targets, assign_targets
from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.unloc import UnLoc
from unloc_jax.records import VideoRecord

Params = Any
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """Common part of all localisation tasks.

    Attributes:
      config: the experiment.
      model: the one model.
      classes: vocabulary, () for tasks whose videos have their own queries.
      vocabulary: int32 [C, L], the classes' tokens ([0, L] without a vocabulary).
    """

    config: Config
    model: UnLoc
    classes: tuple[str, ...]
    vocabulary: np.ndarray

    @abc.abstractmethod
    def text_features(self, params: Params, batch: Batch) -> TextFeatures:
        """Features of the texts that this batch's videos are searched for: leading shape [B, N] or [1, N]."""

    @abc.abstractmethod
    def text_weights(self, batch: Batch) -> jax.Array:
        """float32 [B, N], 1 where the (video, text) pair counts."""

    @abc.abstractmethod
    def relevance_normalizer(self, pair_weights: jax.Array) -> jax.Array:
        """The scalar that the summed relevance loss is divided by; pair_weights float32 [B, N, P]."""

    @abc.abstractmethod
    def score(self, records: Sequence[VideoRecord], found: "Found") -> dict[str, float]:
        """Metrics of detections against ground truth, in percent. Host side."""

    @abc.abstractmethod
    def evaluation_texts(self, records: Sequence[VideoRecord]) -> list[list[str]]:
        """The texts that each video is searched for in evaluation."""

    def apply(self, params: Params, method: Any, *args: Any) -> Any:
        return self.model.apply({"params": params}, *args, method=method)

    def loss(self, params: Params, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Relevance (focal) and boundary (IoU) loss of one global batch; scalar loss and its parts."""
        video = self.apply(params, UnLoc.encode_video, batch.frames)
        text = self.text_features(params, batch)
        localization = self.apply(params, UnLoc.localize, video, batch.frame_mask, text)
        return self.localization_loss(localization, batch)

    def localization_loss(self, localization: Localization, batch: Batch) -> tuple[jax.Array, Metrics]:
        config = self.config.loss
        geometry = self.geometry
        num_texts = localization.relevance.shape[1]
        targets: Targets = assign_targets(
            batch.segments, batch.segment_text, num_texts, geometry, config.radius
        )
        points = batch.frame_mask[:, geometry.positions.astype(int)] & batch.example_mask[:, None]
        weights = self.text_weights(batch)[:, :, None] * points[:, None]

        focal = focal_loss(localization.relevance, targets.relevance, config.focal_alpha, config.focal_gamma)
        relevance = (focal * weights).sum() / (self.relevance_normalizer(weights) + 1e-8)
        iou = offsets_iou(localization.offsets, targets.offsets)
        mean_iou = masked_mean(iou, targets.relevance * weights)
        boundaries = masked_mean(1.0 - iou, targets.relevance * weights)
        loss = config.relevance_weight * relevance + boundaries
        return loss, {
            "loss": loss,
            "relevance_loss": relevance,
            "boundary_loss": boundaries,
            "point_iou": mean_iou,
        }

    def detect(self, params: Params, batch: Batch, text_tokens: jax.Array) -> tuple[Detections, jax.Array]:
        """Segments of the given texts in the batch's videos.

        Args:
          params: the model's parameters.
          batch: only frames, frame_mask and span_s are used.
          text_tokens: int32 [B or 1, N, L].

        Returns:
          Detections [B, N, K], and the relevance curve float32 [B, N, T]: for every sampled frame the highest
          probability of a pyramid point that covers it.
        """
        video = self.apply(params, UnLoc.encode_video, batch.frames)
        text = self.apply(params, UnLoc.encode_text, text_tokens)
        localization = self.apply(params, UnLoc.localize, video, batch.frame_mask, text)
        config = self.config.evaluation
        detections = decode(
            localization,
            batch.frame_mask,
            batch.span_s,
            self.geometry,
            max_detections=min(config.max_detections, self.geometry.num_points),
            sigma=config.soft_nms_sigma,
            score_threshold=config.score_threshold,
        )
        levels = self.geometry.split_levels(jax.nn.sigmoid(localization.relevance), axis=2)
        spread = [jnp.repeat(x, self.config.data.num_frames // x.shape[2], axis=2) for x in levels]
        return detections, jnp.stack(spread).max(0)

    @property
    def geometry(self) -> PyramidGeometry:
        return pyramid_geometry(self.config.data.num_frames, **dataclasses.asdict(self.config.model.pyramid))


@dataclasses.dataclass
class Found:
    """What a model found in a split: one entry per video, rows aligned with its evaluation texts.

    segments_s: float32 [n, K, 2] each; scores: float32 [n, K] each, 0 fills up.
    """

    texts: list[list[str]]
    segments_s: list[np.ndarray]
    scores: list[np.ndarray]
