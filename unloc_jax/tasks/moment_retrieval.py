"""Moment retrieval: every video has its own queries (paper section 4.1)."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.decimals import shortest
from unloc_jax.localization.targets import Targets
from unloc_jax.metrics.moment_retrieval import recall_at_k
from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.unloc import UnLoc
from unloc_jax.queries import Query, queries_of
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.base import Found, LocalizationTask, Params, Whole


@dataclasses.dataclass(frozen=True)
class MomentRetrieval(LocalizationTask):
    """Negatives of a query are the other queries of its video, or (loss.negatives = "batch") of the global batch.

    With the global batch's, N = B·Q texts are paired with every video: row b·Q + q is query q of video b.
    """

    equal_texts_are_one: ClassVar[bool] = False
    """Whether equal texts of a video that have no ids are one query, see `queries_of`."""

    @property
    def _batch_negatives(self) -> bool:
        return self.config.loss.negatives == "batch"

    def text_features(
        self, params: Params, batch: Batch, rng: jax.Array, whole: Whole | None = None
    ) -> TextFeatures:
        tokens = batch.text_tokens
        if self._batch_negatives:
            tokens = _all_rows(batch, whole)[0].text_tokens.reshape(1, -1, tokens.shape[-1])
        return self.apply(params, UnLoc.encode_text, tokens)

    def text_weights(self, batch: Batch, whole: Whole | None = None) -> jax.Array:
        """A query of another video that reads like one of this video's own is no negative."""
        own = batch.text_mask.astype(jnp.float32)  # [B, Q]
        if not self._batch_negatives:
            return own
        everything, rows = _all_rows(batch, whole)
        words = everything.text_tokens.reshape(-1, batch.text_tokens.shape[-1])
        same = (batch.text_tokens[:, :, None] == words).all(-1)  # [b, Q, B·Q]
        reads_like_own = (same & batch.text_mask[:, :, None]).any(1)  # [b, B·Q]
        videos, queries = everything.text_mask.shape
        is_own = jnp.repeat(jax.nn.one_hot(rows, videos, dtype=bool), queries, axis=1)
        real = (everything.text_mask & everything.example_mask[:, None]).reshape(-1)
        return (real & (is_own | ~reads_like_own)).astype(jnp.float32)

    def targets(self, batch: Batch, whole: Whole | None = None) -> Targets:
        own = super().targets(batch)
        if not self._batch_negatives:
            return own
        everything, rows = _all_rows(batch, whole)
        return jax.tree.map(lambda x: among_all_queries(x, rows, len(everything.text_mask)), own)

    def relevance_normalizer(self, pair_weights: jax.Array) -> jax.Array:
        return pair_weights.sum()

    def queries(self, records: Sequence[VideoRecord]) -> list[list[Query]]:
        """What each video is searched for, and the answers."""
        return [queries_of(record, by_text=self.equal_texts_are_one) for record in records]

    def evaluation_texts(self, records: Sequence[VideoRecord]) -> list[list[str]]:
        return [[query.text for query in of_video] for of_video in self.queries(records)]

    def score(self, records: Sequence[VideoRecord], found: Found) -> dict[str, float]:
        """R@k at IoU thresholds and mean IoU over all queries of all videos whose answers are known; any is a hit."""
        windows_s = [query.windows_s for of_video in self.queries(records) for query in of_video]
        known = [i for i, windows in enumerate(windows_s) if len(windows)]
        ranked = ranked_segments(found)
        return recall_at_k([windows_s[i] for i in known], [ranked[i] for i in known])


def _all_rows(batch: Batch, whole: Whole | None) -> tuple[Batch, jax.Array]:
    """The global batch, and where these rows are in it."""
    return (batch, jnp.arange(len(batch.text_mask))) if whole is None else (whole.batch, whole.rows)


def among_all_queries(own: jax.Array, rows: jax.Array, num_videos: int) -> jax.Array:
    """[b, Q, …] → [b, B·Q, …]: own queries of the videos `rows` in their place among those of all B, else zeros."""
    place = jax.nn.one_hot(rows, num_videos, dtype=own.dtype)
    place = place.reshape(len(own), num_videos, *[1] * (own.ndim - 1))
    return (place * own[:, None]).reshape(len(own), num_videos * own.shape[1], *own.shape[2:])


def ranked_segments(found: Found) -> list[np.ndarray]:
    """One float64 [k, 2] of segments in seconds per query, best first, as they are written."""
    return [
        shortest(segments[scores > 0])
        for video_segments, video_scores in zip(found.segments_s, found.scores)
        for segments, scores in zip(video_segments, video_scores)
    ]
