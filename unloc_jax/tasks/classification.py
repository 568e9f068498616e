"""Pretraining on trimmed videos (paper section 3.5): which of the texts describes the whole video?

Both forms score (video, text) pairs by the fused text token. The texts are all class names, or the texts of the
batch's other videos.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.decimals import shortest
from unloc_jax.localization.losses import masked_mean, matching_loss
from unloc_jax.metrics.classification import accuracy_at_k
from unloc_jax.model.unloc import UnLoc
from unloc_jax.queries import file_id
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.averaging import Texts
from unloc_jax.tasks.base import Metrics, Params, Task
from unloc_jax.tasks.global_batch import GlobalBatch, dropout_rng
from unloc_jax.tasks.outputs import Output, SplitPredictions
from unloc_jax.tasks.zeroshot_scores import Similarities


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Classifies videos by a softmax over the classes; a video's label is that of its first segment."""

    name = "classification"
    with_vocabulary = True
    heads = ("video_score",)
    annotation_formats: ClassVar[tuple[str, ...]] = ("kinetics",)

    def loss(
        self, params: Params, batch: Batch, rng: jax.Array, global_batch: GlobalBatch | None = None
    ) -> tuple[jax.Array, Metrics]:
        """Returns the cross entropy of logits [B, C] and the accuracy, float32 scalars; see `Task.loss`."""
        dropout = dropout_rng(rng, global_batch)
        video = self.apply(params, UnLoc.encode_video, *batch.seen, rng=dropout)
        text = self.vocabulary_features(params, batch, rng)
        logits = self.apply(params, UnLoc.score_videos, video, batch.frame_mask, text, rng=dropout)  # [B, C]
        label, mask = batch.segment_text[:, 0], _labelled(batch).astype(jnp.float32)
        total = None if global_batch is None else global_batch.normalizers["videos"]
        one_hot = jax.nn.one_hot(label, logits.shape[1])
        targets = optax.smooth_labels(one_hot, self.config.loss.label_smoothing)
        loss = masked_mean(optax.softmax_cross_entropy(logits, targets), mask, total)
        right = (logits.argmax(-1) == label).astype(jnp.float32)
        return loss, {"loss": loss, "accuracy": masked_mean(right, mask, total)}

    def normalizers(self, batch: Batch) -> dict[str, jax.Array]:
        """Returns the number of labelled videos among [B], a float32 scalar."""
        return {"videos": _labelled(batch).astype(jnp.float32).sum()}

    def detect_encoded(
        self, params: Params, video: jax.Array, frame_mask: jax.Array, span_s: jax.Array, texts: Texts
    ) -> Output:
        """Predicts scores [B, N] of whole videos; see `Task.detect_encoded`."""
        return Output(video_scores=self.mean_prediction(params, UnLoc.score_videos, video, frame_mask, texts))

    def segments(self, output: Output, row: int, span_s: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns the whole video for each text, float32 [1, 2], with the text's share of the probability [1]."""
        assert output.video_scores is not None
        shares = np.asarray(jax.nn.softmax(output.video_scores[row]))
        return [(np.array([span_s]), np.array([share])) for share in shares]

    def zeroshot(self, video: Similarities) -> Output:
        """Averages the frames' logits."""
        scores: Any = video.logits.mean(1)[None]
        return Output(video_scores=scores)

    def has_ground_truth(self, records: Sequence[VideoRecord]) -> bool:
        return any(record.texts for record in records)

    def compute_metrics(
        self, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> dict[str, float]:
        """Computes the share of videos whose own text is the best, or among the best 5."""
        known = [v for v, record in enumerate(records) if record.texts]
        labels = np.array([predictions.texts[v].index(records[v].texts[0]) for v in known])
        return accuracy_at_k(np.stack([predictions.video_scores[v] for v in known]), labels)

    def prediction_lines(
        self, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> Iterator[str]:
        """Yields a line per video: "best", its five best texts with scores, and "label", its own if known."""
        for record, texts, scores in zip(records, predictions.texts, predictions.video_scores):
            best = np.argsort(-scores, kind="stable")[:5]
            values = shortest(scores)
            line = {"video_id": file_id(record), "best": [[texts[i], float(values[i])] for i in best]}
            yield json.dumps(line | ({"label": record.texts[0]} if record.texts else {})) + "\n"


def _labelled(batch: Batch) -> jax.Array:
    """Returns bool [B], True where a video is real and has a text."""
    return batch.example_mask & (batch.segment_text[:, 0] >= 0)


@dataclasses.dataclass(frozen=True)
class VideoTextContrastive(Classification):
    """Contrasts every video of the global batch with every video's text, both ways; equal texts are not negatives."""

    name = "video_text_contrastive"
    with_vocabulary = False
    compares_videos = True
    annotation_formats = ()

    @classmethod
    def num_texts(cls, config: Config, num_classes: int | None) -> tuple[int, int]:
        return config.batch_size, config.batch_size

    normalizers = Task.normalizers  # none: a text's loss is over all videos

    def loss(
        self, params: Params, batch: Batch, rng: jax.Array, global_batch: GlobalBatch | None = None
    ) -> tuple[jax.Array, Metrics]:
        """Returns the cross entropy of logits [B, B], both ways, and the accuracy, float32 scalars; see `Task.loss`."""
        assert global_batch is None, "a text's loss is over all videos"
        dropout = dropout_rng(rng, global_batch)
        video = self.apply(params, UnLoc.encode_video, *batch.seen, rng=dropout)
        which = jnp.maximum(batch.segment_text[:, 0], 0)
        tokens = jnp.take_along_axis(batch.text_tokens, which[:, None, None], axis=1)[:, 0]  # [B, L]
        text = self.apply(params, UnLoc.encode_text, tokens[None])
        logits = self.apply(params, UnLoc.score_videos, video, batch.frame_mask, text, rng=dropout)  # [B, B]
        mask = _labelled(batch)
        same_text = (tokens[:, None] == tokens[None]).all(-1)
        loss, accuracy = matching_loss(logits, mask, same_text)
        return loss, {"loss": loss, "accuracy": accuracy}

    def evaluation_texts(self, records: Sequence[VideoRecord]) -> list[list[str]]:
        """Returns all texts of the split for every video."""
        texts = list(dict.fromkeys(text for record in records for text in record.texts))
        return [texts] * len(records)
