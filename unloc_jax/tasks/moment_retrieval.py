"""Moment retrieval: every video has its own queries (paper section 4.1)."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.decimals import shortest
from unloc_jax.errors import UserError
from unloc_jax.localization.targets import Targets
from unloc_jax.metrics.highlights import clip_scores
from unloc_jax.metrics.moment_retrieval import recall_at_k
from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.unloc import UnLoc
from unloc_jax.queries import Query, file_id, pieces_of_query, queries_of
from unloc_jax.records import VideoRecord
from unloc_jax.tasks.base import Params
from unloc_jax.tasks.global_batch import GlobalBatch
from unloc_jax.tasks.localization_task import LocalizationTask
from unloc_jax.tasks.outputs import Evaluation, Predict, Presence, SplitPredictions
from unloc_jax.tasks.recall import ranked_segments, recall_beside_controls


@dataclasses.dataclass(frozen=True)
class MomentRetrieval(LocalizationTask):
    """Retrieves segments by queries. Negatives: other queries of the video, or (loss.negatives = "batch") of all.

    With the global batch's, N = B·Q texts are paired with every video: row b·Q + q is query q of video b.
    """

    name = "moment_retrieval"
    protocols = ("moment-retrieval", "qvhighlights", "gmr", "nextgqa")
    equal_texts_are_one: ClassVar[bool] = False
    """Whether equal texts of a video that have no ids are one query, see `queries_of`."""

    @classmethod
    def check_config(cls, config: Config, where: str) -> None:
        super().check_config(config, where)
        if not config.model.head.offsets_per_text:
            raise UserError(
                f"{where}.task = {cls.name!r} has other texts in every video, and config.model.head.offsets_per_text = "
                "False would average their boundaries: what is found for one would depend on which others are asked "
                "with it. Set it to True (the parameters are the same); False is for tasks with a vocabulary."
            )

    @classmethod
    def notes(cls, config: Config, records: Sequence[VideoRecord]) -> list[str]:
        one_each = len(records) > 1 and all(len(set(record.texts)) <= 1 for record in records)
        # Highlights have one query per video on purpose.
        if not one_each or config.loss.negatives != "own" or cls.equal_texts_are_one:
            return []
        return [
            "every training video has one text, which is never compared with another: config.loss.negatives = "
            "'batch' takes those of other videos"
        ]

    @property
    def _batch_negatives(self) -> bool:
        return self.config.loss.negatives == "batch"

    def text_features(
        self, params: Params, batch: Batch, rng: jax.Array, global_batch: GlobalBatch | None = None
    ) -> TextFeatures:
        """Returns features of the queries: the videos' own [B, Q], or those of all videos [1, B·Q]."""
        tokens = batch.text_tokens
        if self._batch_negatives:
            tokens = _all_rows(batch, global_batch)[0].text_tokens.reshape(1, -1, tokens.shape[-1])
        return self.apply(params, UnLoc.encode_text, tokens)

    def text_weights(self, batch: Batch, global_batch: GlobalBatch | None = None) -> jax.Array:
        """Returns float32 [B, N], 0 for padding and for a query of another video that reads like one of this video's
        own: it is not a negative.
        """
        own = batch.text_mask.astype(jnp.float32)  # [B, Q]
        if not self._batch_negatives:
            return own
        everything, rows = _all_rows(batch, global_batch)
        words = everything.text_tokens.reshape(-1, batch.text_tokens.shape[-1])
        same = (batch.text_tokens[:, :, None] == words).all(-1)  # [b, Q, B·Q]
        reads_like_own = (same & batch.text_mask[:, :, None]).any(1)  # [b, B·Q]
        videos, queries = everything.text_mask.shape
        is_own = jnp.repeat(jax.nn.one_hot(rows, videos, dtype=bool), queries, axis=1)
        real = (everything.text_mask & everything.example_mask[:, None]).reshape(-1)
        return (real & (is_own | ~reads_like_own)).astype(jnp.float32)

    def targets(self, batch: Batch, global_batch: GlobalBatch | None = None) -> Targets:
        own = super().targets(batch)
        if not self._batch_negatives:
            return own
        everything, rows = _all_rows(batch, global_batch)
        return jax.tree.map(lambda x: among_all_queries(x, rows, len(everything.text_mask)), own)

    def relevance_normalizer(self, pair_weights: jax.Array) -> jax.Array:
        """Returns the sum of pair_weights, float32 [B, N, P]: a mean over all pairs and points."""
        return pair_weights.sum()

    def queries(self, records: Sequence[VideoRecord]) -> list[list[Query]]:
        """Returns the queries of each video and their answers."""
        return [queries_of(record, by_text=self.equal_texts_are_one) for record in records]

    def evaluation_texts(self, records: Sequence[VideoRecord]) -> list[list[str]]:
        return [[query.text for query in of_video] for of_video in self.queries(records)]

    def compute_metrics(
        self, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> dict[str, float]:
        """Computes R@k at IoU thresholds and mean IoU over all queries whose answers are known; any answer is a hit."""
        windows_s = [query.windows_s for of_video in self.queries(records) for query in of_video]
        known = [i for i, windows in enumerate(windows_s) if len(windows)]
        ranked = ranked_segments(predictions)
        return recall_at_k([windows_s[i] for i in known], [ranked[i] for i in known])

    def presence(self, records: Sequence[VideoRecord], predictions: SplitPredictions) -> Presence | None:
        queries = [query for of_video in self.queries(records) for query in of_video]
        if not any(query.is_absent for query in queries):
            return None
        windows = scored_windows(predictions)
        known = [i for i, query in enumerate(queries) if query.is_absent or len(query.windows_s)]
        return Presence(
            [queries[i].windows_s for i in known],
            [windows[i][:, :2] for i in known],
            np.array([windows[i][:, 2].max(initial=0.0) for i in known]),
        )

    def evaluate(
        self, records: Sequence[VideoRecord], predict: Predict, train: Callable[[], Sequence[VideoRecord]]
    ) -> Evaluation:
        return recall_beside_controls(self.queries(records), records, predict, train)

    def prediction_lines(
        self, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> Iterator[str]:
        """Yields moment_detr's format: a line per query, with the ground truth's windows where they are known.

        Highlights ("pred_saliency_scores") are there where curves are: per 2-second clip, or per labelled piece.
        """
        windows, levels = iter(scored_windows(predictions)), self.levels(predictions)
        for v, (record, of_video) in enumerate(zip(records, self.queries(records))):
            for i, query in enumerate(of_video):
                line: dict[str, Any] = {} if query.qid is None else {"qid": query.qid}
                line |= {"vid": file_id(record), "query": query.text}
                line["duration"] = float(shortest(np.float32(record.duration_s)))
                if "domain" in query.attributes:
                    line["domain"] = query.attributes["domain"]
                if len(query.windows_s) or query.is_absent:
                    line["relevant_windows"] = query.windows_s.tolist()
                if query.is_absent:
                    line["absent"] = True
                line["pred_relevant_windows"] = next(windows).tolist()
                of_pyramid = levels[v]
                if of_pyramid is not None:
                    line["pred_levels"] = of_pyramid[i][predictions.scores[v][i] > 0].tolist()
                if self.keeps_curves:
                    clips = highlight_clips(record, query, predictions.curves[v][i], predictions.spans_s[v])
                    line["pred_saliency_scores"] = clips.tolist()
                yield json.dumps(line) + "\n"


def _all_rows(batch: Batch, global_batch: GlobalBatch | None) -> tuple[Batch, jax.Array]:
    """Returns the global batch, and int32 [b], where these rows are in it."""
    return (
        (batch, jnp.arange(len(batch.text_mask)))
        if global_batch is None
        else (global_batch.batch, global_batch.rows)
    )


def among_all_queries(own: jax.Array, rows: jax.Array, num_videos: int) -> jax.Array:
    """Places the queries [b, Q, …] of the videos `rows` among those of all B videos, [b, B·Q, …], zeros elsewhere."""
    place = jax.nn.one_hot(rows, num_videos, dtype=own.dtype)
    place = place.reshape(len(own), num_videos, *[1] * (own.ndim - 1))
    return (place * own[:, None]).reshape(len(own), num_videos * own.shape[1], *own.shape[2:])


def highlight_clips(record: VideoRecord, query: Query, curve: np.ndarray, span_s: np.ndarray) -> np.ndarray:
    """Returns the scores that are written of a query, float64 [clips]: of 2-second clips or of the labelled pieces.

    `curve` is float32 [T], over span_s, float32 [2].
    """
    pieces = pieces_of_query(query)
    bounds_s = None if pieces is None else pieces[:, :2]
    return shortest(clip_scores(curve, span_s, record.duration_s, bounds_s))


def scored_windows(predictions: SplitPredictions) -> list[np.ndarray]:
    """Returns float64 [k, 3] per query: start, end (s) and score, best first, as they are written."""
    return [
        np.concatenate([shortest(segments[scores > 0]), shortest(scores[scores > 0])[:, None]], axis=1)
        for of_video in zip(predictions.segments_s, predictions.scores)
        for segments, scores in zip(*of_video)
    ]
