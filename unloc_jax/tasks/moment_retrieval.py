"""Moment retrieval: every video has its own queries, each with one segment (paper section 4.1)."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.metrics.moment_retrieval import recall_at_k
from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.unloc import UnLoc
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.base import Found, Params, Task


@dataclasses.dataclass(frozen=True)
class MomentRetrieval(Task):
    """The other queries of a video are the negatives of each of its queries."""

    def text_features(self, params: Params, batch: Batch) -> TextFeatures:
        return self.apply(params, UnLoc.encode_text, batch.text_tokens)

    def text_weights(self, batch: Batch) -> jax.Array:
        return batch.text_mask.astype(jnp.float32)

    def relevance_normalizer(self, pair_weights: jax.Array) -> jax.Array:
        return pair_weights.sum()

    def evaluation_texts(self, records: Sequence[VideoRecord]) -> list[list[str]]:
        return [list(record.texts) for record in records]

    def score(self, records: Sequence[VideoRecord], found: Found) -> dict[str, float]:
        """R@k at IoU thresholds and mean IoU over all queries of all videos."""
        ground_truth = np.concatenate([record.segments_s for record in records])
        return recall_at_k(ground_truth, ranked_segments(found))


def ranked_segments(found: Found) -> list[np.ndarray]:
    """One [k, 2] array of segments in seconds per query, best first."""
    return [
        segments[scores > 0]
        for video_segments, video_scores in zip(found.segments_s, found.scores)
        for segments, scores in zip(video_segments, video_scores)
    ]
