"""A task: where its texts come from, what is minimised, how its predictions are decoded and scored."""

import abc
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.localization.decode import Detections, Localization, decode, frame_curve
from unloc_jax.localization.geometry import PyramidGeometry
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
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.description import Description
from unloc_jax.tasks.keys import Use, key_of
from unloc_jax.tasks.texts import TextEncoding
from unloc_jax.tasks.zeroshot_scores import Similarities, localize

Params = Any
Texts = jax.Array | TextFeatures
Metrics = dict[str, jax.Array]
Predict = Callable[[Sequence[Sequence[str]]], "SplitPredictions"]  # texts of every video → predictions


@flax.struct.dataclass
class Output:
    """What a model says about a batch of B videos and N texts; a task fills in what it has.

    detections: segments [B, N, K], best first.
    curve: float32 [B, N, T], relevance of each sampled frame in [0, 1]; 0 where there is none.
    frame_classes: int32 [B, T], the text that each frame shows; -1 = none.
    video_scores: float32 [B, N], how well each text describes the whole video (logits).
    """

    detections: Detections | None = None
    curve: jax.Array | None = None
    frame_classes: jax.Array | None = None
    video_scores: jax.Array | None = None


@flax.struct.dataclass
class GlobalBatch:
    """The global batch that the rows of a loss belong to. Sums over its parts are the loss of all of it.

    batch: all rows, without frames and features.
    rows: int32 [b], where the loss's rows are among them.
    normalizers: what sums are divided by, over all rows (see `Task.normalizers`).
    """

    batch: Batch
    rows: jax.Array
    normalizers: dict[str, jax.Array]


@dataclasses.dataclass
class SplitPredictions:
    """`Output` of a split, on the host: one entry per video, rows aligned with its evaluation texts.

    spans_s: float32 [2] each, the times of the first and the last frame that was looked at;
    segments_s: float32 [n, K, 2] each; scores: float32 [n, K] each, 0 fills up; points: int [n, K] each, the pyramid
    point that a segment came from; the others as in `Output`, with T as
    many places as were looked at in this video (it depends on the video where windows slide over it).
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
class Evaluation:
    """What `unloc evaluate` says of a split.

    Attributes:
      predictions: of the texts that the task asks for.
      metrics: what metrics.json holds besides what is evaluated.
      table: what is printed behind "DATASET, SPLIT: N videos, ".
    """

    predictions: SplitPredictions
    metrics: dict[str, Any]
    table: str


@dataclasses.dataclass(frozen=True)
class Task(Description, abc.ABC):
    """Common part of all tasks.

    Attributes:
      config: the experiment, seen from this task.
      model: the one model.
      encoding: texts → what the model reads.
      classes: vocabulary of training, () for tasks whose videos have their own queries.
      evaluation_classes: vocabulary of evaluation; other classes in a zero-shot experiment.
    """

    config: Config
    model: UnLoc
    encoding: TextEncoding
    classes: tuple[str, ...] = ()
    evaluation_classes: tuple[str, ...] = ()

    @abc.abstractmethod
    def loss(
        self, params: Params, batch: Batch, rng: jax.Array, global_batch: GlobalBatch | None = None
    ) -> tuple[jax.Array, Metrics]:
        """Loss of one global batch and its parts.

        Args:
          params: the model's parameters.
          batch: the rows to look at.
          rng: of the task in this step; every draw has a key of its own from it (see `keys.Use`).
          global_batch: the batch that the rows are a part of; None = they are all of it.
        """

    def normalizers(self, batch: Batch) -> dict[str, jax.Array]:
        """Scalars that the loss of a global batch divides its sums by, by name; they need no model.

        A task whose loss is no sum over rows has none, and cannot be given parts of a batch.
        """
        raise NotImplementedError(f"the loss of {self.config.task} is of a whole batch only")

    def global_batch(self, batch: Batch) -> GlobalBatch:
        """Returns a batch of which all rows are looked at."""
        rest = dataclasses.replace(batch, frames=None, features={})
        return GlobalBatch(rest, jnp.arange(len(batch.frame_mask)), self.normalizers(batch))

    def detect(self, params: Params, batch: Batch, texts: Texts) -> Output:
        """What the model says about the given texts in the batch's videos (jittable).

        Args:
          params: the model's parameters.
          batch: only inputs, frame_mask and span_s are used.
          texts: [B or 1, N, R, …] as `encoding` makes them, or what `encode_texts` makes of that; the R prompts of a
            text are averaged.

        With config.evaluation.crops, as many rows in a row are crops of one video, whose outputs are averaged.
        """
        return self.detect_encoded(
            params, self.encode_videos(params, batch), batch.frame_mask, batch.span_s, texts
        )

    def encode_videos(self, params: Params, batch: Batch) -> jax.Array:
        """Frame tokens [B, T, D] of the batch's videos (jittable): all of `detect` that no text changes."""
        return self.apply(params, UnLoc.encode_video, batch.inputs, batch.frame_mask)

    def encode_texts(self, params: Params, texts: Texts) -> TextFeatures:
        """Texts as `encoding` makes them → what fusion reads of them (jittable), [..., D] and [..., L, D].

        Features stay as they are.
        """
        if isinstance(texts, TextFeatures):
            return texts
        return self._read_by_fusion(self.apply(params, UnLoc.encode_text, texts))

    @abc.abstractmethod
    def detect_encoded(
        self, params: Params, video: jax.Array, frame_mask: jax.Array, span_s: jax.Array, texts: Texts
    ) -> Output:
        """As `detect`, in videos that are encoded already.

        Args:
          params: the model's parameters.
          video: [B, T, D] of `encode_videos`.
          frame_mask: bool [B, T], True = real frame.
          span_s: float32 [B, 2], times of the first and the last sampled frame.
          texts: see `detect`.
        """

    @abc.abstractmethod
    def zeroshot(self, video: Similarities) -> Output:
        """What CLIP says about one video without any training: NumPy arrays with a batch axis of 1. Host side."""

    def evaluation_texts(self, records: Sequence[VideoRecord]) -> list[list[str]]:
        """The texts that each video is searched for in evaluation: all classes, of a task with a vocabulary."""
        return [list(self.evaluation_classes)] * len(records)

    def has_ground_truth(self, records: Sequence[VideoRecord]) -> bool:
        """Whether any record has what `compute_metrics` compares with; those of hidden test splits do not."""
        return any(len(record.segments_s) for record in records)

    @abc.abstractmethod
    def compute_metrics(
        self, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> dict[str, float]:
        """Metrics of predictions against ground truth, in percent. Host side.

        They are of the numbers that `unloc evaluate` writes, so that the official metrics of its file are the same.
        """

    def evaluate(
        self, records: Sequence[VideoRecord], predict: Predict, train: Callable[[], Sequence[VideoRecord]]
    ) -> Evaluation:
        """Evaluates a split: `compute_metrics`, where there is ground truth, and controls that say what they are worth.

        Args:
          records: of the split.
          predict: searches the split's videos for texts, one list per record.
          train: returns the training records, for controls that need no video.
        """
        predictions = predict(self.evaluation_texts(records))
        metrics = self.compute_metrics(records, predictions) if self.has_ground_truth(records) else {}
        return Evaluation(predictions, {self.metrics_key: metrics}, "\n".join(self.table(metrics)))

    def table(self, metrics: dict[str, float]) -> list[str]:
        """Lines of `Evaluation.table`; metrics is {} where nothing is known to compare with."""
        return [f"{self.name} (%)", *(f"  {name:<42}{value:>8.1f}" for name, value in metrics.items()), ""]

    @abc.abstractmethod
    def prediction_lines(
        self, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> Iterator[str]:
        """The parts of the predictions' file, with nothing left out that is scored.

        Numbers have all digits of float32, and ids are as the dataset's file has them, so that `unloc metrics` on the
        file gives what `unloc evaluate` prints.
        """

    def segments(self, output: Output, row: int, span_s: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Host side: (segments in seconds [k, 2], scores [k]) of every text in one video of an output."""
        assert output.detections is not None
        of_texts = zip(
            np.asarray(output.detections.segments_s[row]), np.asarray(output.detections.scores[row])
        )
        return [(segments[scores > 0], scores[scores > 0]) for segments, scores in of_texts]

    def apply(self, params: Params, method: Any, *args: Any, rng: jax.Array | None = None) -> Any:
        rngs = {"dropout": rng} if rng is not None and self._has_dropout else None
        return self.model.apply({"params": params}, *args, method=method, rngs=rngs)

    def mean_prediction(
        self, params: Params, method: Any, video: jax.Array, frame_mask: jax.Array, texts: Texts
    ) -> Any:
        """Averages a method of the model for each (video, text) over prompts and crops; see `detect_encoded`."""
        of_prompt = lambda prompt: self.apply(
            params, method, video, frame_mask, self.encode_texts(params, prompt)
        )
        return mean_over_crops(mean_over_prompts(of_prompt, texts), self.config.evaluation.crops)

    @property
    def _has_dropout(self) -> bool:
        model = self.config.model
        fusion = model.fusion
        return (
            max(
                fusion.dropout,
                fusion.attention_dropout,
                fusion.stochastic_depth,
                model.image.stochastic_depth,
            )
            > 0
        )

    @property
    def has_constant_vocabulary(self) -> bool:
        """Whether the encoded classes are the same in every step: they can be encoded once."""
        text = self.config.model.text
        return bool(self.classes) and (text.freeze or text.encoder == "embeddings")

    def encode_vocabulary(self, params: Params, texts: jax.Array) -> TextFeatures:
        """texts [1, C, R, …] as `encoding` makes them → what `Batch.vocabulary` holds (jittable)."""
        return self._read_by_fusion(self.apply(params, UnLoc.encode_words, texts))

    def _read_by_fusion(self, features: TextFeatures) -> TextFeatures:
        """Without the word pieces, unless all of them are fused."""
        if self.config.model.fusion.all_text_tokens:
            return features
        return TextFeatures.from_embeddings(features.sentence)

    def vocabulary_features(self, params: Params, batch: Batch, rng: jax.Array) -> TextFeatures:
        """Features [1, C] of the training classes, in a prompt that is drawn."""
        vocabulary = batch.vocabulary
        if vocabulary is None:
            vocabulary = jnp.asarray(self.encoding(self.classes))[None]  # [1, C, R, …]
        prompts = jax.tree.leaves(vocabulary)[0].shape[2]
        prompt = jax.random.randint(key_of(rng, Use.PROMPT), (), 0, prompts)
        drawn = jax.tree.map(lambda x: x[:, :, prompt], vocabulary)
        return self.apply(params, UnLoc.encode_text, drawn)

    @property
    def geometry(self) -> PyramidGeometry:
        return self.config.model.geometry(self.config.data.num_frames)


class LocalizationTask(Task):
    """A task whose predictions are segments: relevance and boundaries of pyramid points.

    The texts are the classes of the vocabulary; a task with queries overrides where they come from.
    """

    has_boundaries = True

    def text_features(
        self, params: Params, batch: Batch, rng: jax.Array, global_batch: GlobalBatch | None = None
    ) -> TextFeatures:
        """Features of the texts that this batch's videos are searched for: leading shape [B, N] or [1, N]."""
        return self.vocabulary_features(params, batch, rng)

    def text_weights(self, batch: Batch, global_batch: GlobalBatch | None = None) -> jax.Array:
        """float32 [B, N], 1 where the (video, text) pair counts."""
        return jnp.ones((len(batch.frame_mask), len(self.classes)), jnp.float32)

    def relevance_normalizer(self, pair_weights: jax.Array) -> jax.Array:
        """The scalar that the summed relevance loss is divided by; pair_weights float32 [B, N, P]."""
        return pair_weights[:, 0].sum()  # summed over classes, averaged over points, as in the reference

    @property
    def radius(self) -> float | None:
        """Centre-sampling radius in strides; None = every point of a segment is positive."""
        return self.config.loss.radius

    def targets(self, batch: Batch, global_batch: GlobalBatch | None = None) -> Targets:
        """[B, N, P], see `assign_targets`."""
        num_texts = len(self.classes) if self.config.with_vocabulary else batch.text_mask.shape[1]
        return assign_targets(batch.segments, batch.segment_text, num_texts, self.geometry, self.radius)

    def loss(
        self, params: Params, batch: Batch, rng: jax.Array, global_batch: GlobalBatch | None = None
    ) -> tuple[jax.Array, Metrics]:
        """relevance_weight · relevance loss + boundary loss (paper section 3.4)."""
        dropout = dropout_rng(rng, global_batch)
        video = self.apply(params, UnLoc.encode_video, batch.inputs, batch.frame_mask, rng=dropout)
        text = self.text_features(params, batch, rng, global_batch)
        localization = self.apply(params, UnLoc.localize, video, batch.frame_mask, text, rng=dropout)
        return self.localization_loss(localization, batch, global_batch)

    def localization_loss(
        self, localization: Localization, batch: Batch, global_batch: GlobalBatch | None = None
    ) -> tuple[jax.Array, Metrics]:
        normalizers = None if global_batch is None else global_batch.normalizers
        targets, weights = self.targets(batch, global_batch), self.point_weights(batch, global_batch)
        return self.losses(localization, targets, weights, normalizers)

    def point_weights(self, batch: Batch, global_batch: GlobalBatch | None = None) -> jax.Array:
        """float32 [B, N, P], 1 where the point of the (video, text) pair counts."""
        points = self.geometry.point_mask(batch.frame_mask) & batch.example_mask[:, None]
        return self.text_weights(batch, global_batch)[:, :, None] * points[:, None]

    def normalizers(self, batch: Batch) -> dict[str, jax.Array]:
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
        """The losses of a localization whose targets are known.

        Args:
          localization: of B videos.
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
        """The loss of relevance logits [B, N, P], a scalar; see `losses`."""
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
        localization = self.mean_prediction(params, UnLoc.localize, video, frame_mask, texts)
        crops = self.config.evaluation.crops
        return self.output(localization, frame_mask[::crops], span_s[::crops])

    def output(self, localization: Localization, frame_mask: jax.Array, span_s: jax.Array) -> Output:
        """Detections [B, N, K], and for every frame the highest probability of a point that covers it."""
        settings = self.config.evaluation.suppression(self.geometry.num_points)
        nms = not self.config.data.windowed
        detections = decode(localization, frame_mask, span_s, self.geometry, settings, nms=nms)
        curve = frame_curve(jax.nn.sigmoid(localization.relevance), self.geometry)
        return Output(detections, jnp.where(frame_mask[:, None], curve, 0.0))

    def zeroshot(self, video: Similarities) -> Output:
        """Stretches that stand out from what is around them.

        The score of a class is multiplied by its share: softmax over the classes, averaged over the segment's frames.
        """
        shares = None
        if self.with_vocabulary:
            likely = np.exp(video.logits - video.logits.max(0))
            shares = likely / likely.sum(0)
        curves, rows = localize(
            video.cosines,
            fps=video.fps,
            smoothing_s=video.smoothing_s,
            duration_s=video.duration_s,
            settings=self.config.evaluation,
            shares=shares,
        )
        padded: Any = np.zeros((1, len(rows), max([1, *map(len, rows)]), 3), np.float32)
        for i, of_text in enumerate(rows):
            padded[0, i, : len(of_text)] = of_text
        curve: Any = curves[None]
        return Output(Detections(padded[..., :2], padded[..., 2], None), curve)

    def levels(self, predictions: SplitPredictions) -> Sequence[np.ndarray | None]:
        """Per video int [n, K]: the pyramid level of every segment; None where nothing came from a pyramid."""
        if predictions.points:
            return [self.geometry.levels[points] for points in predictions.points]
        return [None] * len(predictions.scores)


def dropout_rng(rng: jax.Array, global_batch: GlobalBatch | None) -> jax.Array:
    """Another key for each part of a batch, where a loss is taken part by part."""
    return key_of(rng, Use.DROPOUT, first_row=None if global_batch is None else global_batch.rows[0])


def mean_over_crops(outputs: Any, crops: int) -> Any:
    """Mean of every `crops` rows in a row: arrays [B · crops, …] → [B, …]."""
    if crops == 1:
        return outputs
    return jax.tree.map(lambda x: x.reshape(-1, crops, *x.shape[1:]).mean(1), outputs)


def mean_over_prompts(of_prompt: Any, texts: Texts) -> Any:
    """Mean of of_prompt(texts [b, N, …]) over the R prompts of texts [b, N, R, …], one prompt at a time."""
    if jax.tree.leaves(texts)[0].shape[2] == 1:
        return of_prompt(jax.tree.map(lambda x: x[:, :, 0], texts))
    each = jax.lax.map(of_prompt, jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), texts))
    return jax.tree.map(lambda x: x.mean(0), each)
