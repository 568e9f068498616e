"""A task: where its texts come from, what is minimised, how its predictions are decoded and scored."""

import abc
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.localization.geometry import PyramidGeometry
from unloc_jax.model.adapters import without_base_gradients
from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.unloc import UnLoc
from unloc_jax.queries import not_shown
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.averaging import Texts, mean_over_crops, mean_over_prompts
from unloc_jax.tasks.description import Description
from unloc_jax.tasks.global_batch import GlobalBatch
from unloc_jax.tasks.keys import Use, key_of
from unloc_jax.tasks.outputs import Evaluation, Output, Predict, Presence, SplitPredictions
from unloc_jax.tasks.texts import TextEncoding
from unloc_jax.tasks.zeroshot_scores import Similarities

Params = Any
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Task(Description, abc.ABC):
    """Describes a task by its texts, loss, decoding and metrics; the common part of all tasks.

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
        """Returns the loss of one global batch, a float32 scalar, and its terms by name.

        Args:
          params: the model's parameters.
          batch: the rows that this call computes.
          rng: typed random key [] of the task in this step; every draw derives its own key (see `keys.Use`).
          global_batch: the batch that the rows are a part of; None = they are all of it.
        """

    def normalizers(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the float32 scalars [] that the loss of a global batch divides its sums by; needs no model.

        A task whose loss is not a sum over rows has none, and cannot be given parts of a batch.
        """
        raise NotImplementedError(f"the loss of {self.config.task} is of a whole batch only")

    def global_batch(self, batch: Batch) -> GlobalBatch:
        """Returns a batch as the global batch of itself."""
        rest = dataclasses.replace(batch, frames=None, features={}, input_masks={})
        return GlobalBatch(rest, jnp.arange(len(batch.frame_mask)), self.normalizers(batch))

    def detect(self, params: Params, batch: Batch, texts: Texts) -> Output:
        """Predicts for the given texts in the batch's videos (jittable).

        Args:
          params: the model's parameters.
          batch: only inputs, their masks and span_s are used.
          texts: [B or 1, N, R, …] as `encoding` makes them, or what `encode_texts` makes of that; the R prompts of a
            text are averaged.

        With config.evaluation.crops, as many rows in a row are crops of one video, whose outputs are averaged.
        """
        return self.detect_encoded(
            params, self.encode_videos(params, batch), batch.frame_mask, batch.span_s, texts
        )

    def encode_videos(self, params: Params, batch: Batch) -> jax.Array:
        """Returns frame tokens [B, T, D] of the batch's videos (jittable): no text changes them."""
        return self.apply(params, UnLoc.encode_video, *batch.seen)

    def encode_texts(self, params: Params, texts: Texts) -> TextFeatures:
        """Encodes texts, as `encoding` makes them, to what fusion reads (jittable): [..., D] and [..., L, D].

        Features are returned unchanged.
        """
        if isinstance(texts, TextFeatures):
            return texts
        return self._read_by_fusion(self.apply(params, UnLoc.encode_text, texts))

    @abc.abstractmethod
    def detect_encoded(
        self, params: Params, video: jax.Array, frame_mask: jax.Array, span_s: jax.Array, texts: Texts
    ) -> Output:
        """Predicts as `detect` does, in encoded videos.

        Args:
          params: the model's parameters.
          video: [B, T, D] from `encode_videos`.
          frame_mask: bool [B, T], True = real frame.
          span_s: float32 [B, 2], times of the first and the last sampled frame.
          texts: see `detect`.
        """

    @abc.abstractmethod
    def zeroshot(self, video: Similarities) -> Output:
        """Predicts by CLIP alone for one video, on the host: NumPy arrays with a batch axis of 1."""

    def evaluation_texts(self, records: Sequence[VideoRecord]) -> list[list[str]]:
        """Returns the texts that each video is searched for in evaluation; here all classes."""
        return [list(self.evaluation_classes)] * len(records)

    def has_ground_truth(self, records: Sequence[VideoRecord]) -> bool:
        """Returns whether any record has what `compute_metrics` compares with; those of hidden test splits do not."""
        return any(len(record.segments_s) or not_shown(record) for record in records)

    @abc.abstractmethod
    def compute_metrics(
        self, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> dict[str, float]:
        """Compares predictions with ground truth, on the host; returns metrics in percent.

        They are computed from the numbers that `unloc evaluate` writes, so that the official metrics of its file are
        the same.
        """

    def evaluate(
        self, records: Sequence[VideoRecord], predict: Predict, train: Callable[[], Sequence[VideoRecord]]
    ) -> Evaluation:
        """Evaluates a split: `compute_metrics`, where there is ground truth, and controls to compare them with.

        Args:
          records: of the split.
          predict: searches the split's videos for texts, one list per record.
          train: returns the training records, for controls that need no video.
        """
        predictions = predict(self.evaluation_texts(records))
        metrics = self.compute_metrics(records, predictions) if self.has_ground_truth(records) else {}
        return Evaluation(predictions, {self.metrics_key: metrics}, "\n".join(self.table(metrics)))

    def table(self, metrics: dict[str, float]) -> list[str]:
        """Returns the lines of `Evaluation.table`; metrics is {} without ground truth."""
        return [f"{self.name} (%)", *(f"  {name:<42}{value:>8.1f}" for name, value in metrics.items()), ""]

    def presence(self, records: Sequence[VideoRecord], predictions: SplitPredictions) -> Presence | None:
        """Returns what is known and predicted about the presence of queries; None if all of them have answers."""
        return None

    @abc.abstractmethod
    def prediction_lines(
        self, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> Iterator[str]:
        """Yields the parts of the predictions' file; nothing that is scored is left out.

        Numbers have all digits of float32, and ids are as the dataset's file has them, so that `unloc metrics` on the
        file gives what `unloc evaluate` prints.
        """

    def segments(self, output: Output, row: int, span_s: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns (segments in seconds float32 [k, 2], scores float32 [k]) of every text in one video, on the host."""
        assert output.detections is not None
        of_texts = zip(
            np.asarray(output.detections.segments_s[row]), np.asarray(output.detections.scores[row])
        )
        return [(segments[scores > 0], scores[scores > 0]) for segments, scores in of_texts]

    def apply(self, params: Params, method: Any, *args: Any, rng: jax.Array | None = None) -> Any:
        """Calls a method of the model; `rng` is a typed random key [] for dropout, None = no dropout."""
        rngs = {"dropout": rng} if rng is not None and self._has_dropout else None
        trained = without_base_gradients(self.config.model, params)
        return self.model.apply({"params": trained}, *args, method=method, rngs=rngs)

    def mean_prediction(
        self, params: Params, method: Any, video: jax.Array, frame_mask: jax.Array, texts: Texts
    ) -> Any:
        """Averages a method of the model for each (video, text) over prompts and crops.

        Args:
          params: the model's parameters.
          method: of (video [B, T, D], frame_mask [B, T], texts [B or 1, N, …]); returns arrays [B, N, …].
          video, frame_mask, texts: see `detect_encoded`.

        Returns:
          As the method, [B / crops, N, …].
        """
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
                model.audio.dropout if model.reads_sound else 0.0,
            )
            > 0
        )

    @property
    def has_constant_vocabulary(self) -> bool:
        """Whether the encoded classes are the same in every step, so that they can be encoded once."""
        text = self.config.model.text
        return bool(self.classes) and (text.freeze or text.encoder == "embeddings")

    def encode_vocabulary(self, params: Params, texts: jax.Array) -> TextFeatures:
        """Encodes texts [1, C, R, …], as `encoding` makes them, to what `Batch.vocabulary` holds (jittable)."""
        return self._read_by_fusion(self.apply(params, UnLoc.encode_words, texts))

    def _read_by_fusion(self, features: TextFeatures) -> TextFeatures:
        """Drops the word pieces unless all of them are fused."""
        if self.config.model.fusion.all_text_tokens:
            return features
        return TextFeatures.from_embeddings(features.sentence)

    def vocabulary_features(self, params: Params, batch: Batch, rng: jax.Array) -> TextFeatures:
        """Returns features [1, C, D] of the training classes in a random prompt."""
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
