"""Moment retrieval: every video has its own queries, each with one segment (paper section 4.1)."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.localization.targets import Targets
from unloc_jax.metrics.moment_retrieval import recall_at_k
from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.unloc import UnLoc
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.base import Found, LocalizationTask, Params


@dataclasses.dataclass(frozen=True)
class MomentRetrieval(LocalizationTask):
    """Negatives of a query are the other queries of its video, or (loss.negatives = "batch") of the global batch.

    With the global batch's, N = B·Q texts are paired with every video: row b·Q + q is query q of video b.
    """

    @property
    def _batch_negatives(self) -> bool:
        return self.config.loss.negatives == "batch"

    def text_features(self, params: Params, batch: Batch, rng: jax.Array) -> TextFeatures:
        tokens = batch.text_tokens
        if self._batch_negatives:
            tokens = tokens.reshape(1, -1, tokens.shape[-1])
        return self.apply(params, UnLoc.encode_text, tokens, rng=rng)

    def text_weights(self, batch: Batch) -> jax.Array:
        """A query of another video that reads like one of this video's own is no negative."""
        own = batch.text_mask.astype(jnp.float32)  # [B, Q]
        if not self._batch_negatives:
            return own
        videos, queries = own.shape
        words = batch.text_tokens.reshape(videos * queries, -1)
        same = (words[:, None] == words[None]).all(-1).reshape(videos, queries, -1)  # [B, Q, B·Q]
        reads_like_own = (same & batch.text_mask[:, :, None]).any(1)  # [B, B·Q]
        is_own = jnp.repeat(jnp.eye(videos, dtype=bool), queries, axis=1)
        real = (batch.text_mask & batch.example_mask[:, None]).reshape(-1)
        return (real & (is_own | ~reads_like_own)).astype(jnp.float32)

    def targets(self, batch: Batch) -> Targets:
        own = super().targets(batch)
        if not self._batch_negatives:
            return own
        return jax.tree.map(among_all_queries, own)

    def relevance_normalizer(self, pair_weights: jax.Array) -> jax.Array:
        return pair_weights.sum()

    def evaluation_texts(self, records: Sequence[VideoRecord]) -> list[list[str]]:
        return [list(record.texts) for record in records]

    def score(self, records: Sequence[VideoRecord], found: Found) -> dict[str, float]:
        """R@k at IoU thresholds and mean IoU over all queries of all videos."""
        ground_truth = np.concatenate([record.segments_s for record in records])
        return recall_at_k(ground_truth, ranked_segments(found))


def among_all_queries(own: jax.Array) -> jax.Array:
    """[B, Q, …] → [B, B·Q, …]: each video's own rows in their place among all queries, zeros elsewhere."""
    videos, queries = own.shape[:2]
    place = jnp.eye(videos, dtype=own.dtype).reshape(videos, videos, *[1] * (own.ndim - 1))
    return (place * own[:, None]).reshape(videos, videos * queries, *own.shape[2:])


def ranked_segments(found: Found) -> list[np.ndarray]:
    """One [k, 2] array of segments in seconds per query, best first."""
    return [
        segments[scores > 0]
        for video_segments, video_scores in zip(found.segments_s, found.scores)
        for segments, scores in zip(video_segments, video_scores)
    ]
