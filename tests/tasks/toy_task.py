"""A task that the project does not know: at which share of the video does a text happen?"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.model.unloc import UnLoc
from unloc_jax.tasks.base import Task
from unloc_jax.tasks.global_batch import dropout_rng
from unloc_jax.tasks.outputs import Output


@dataclasses.dataclass(frozen=True)
class Share(Task):
    """The model's score of a (video, text) pair, as a share of the video's length."""

    name = "share"
    heads = ("video_score",)

    def loss(self, params, batch, rng, global_batch=None):
        video = self.apply(params, UnLoc.encode_video, batch.inputs, batch.frame_mask)
        text = self.apply(params, UnLoc.encode_text, batch.text_tokens)
        logits = self.apply(
            params, UnLoc.score_videos, video, batch.frame_mask, text, rng=dropout_rng(rng, global_batch)
        )
        middle = batch.segments.mean(-1) / (batch.frame_mask.shape[1] - 1)  # [B, S]
        found = jnp.take_along_axis(logits, jnp.maximum(batch.segment_text, 0), axis=1)
        weights = (batch.segment_text >= 0) & batch.example_mask[:, None]
        count = (
            self.normalizers(batch)["segments"]
            if global_batch is None
            else global_batch.normalizers["segments"]
        )
        loss = (jnp.square(jax.nn.sigmoid(found) - middle) * weights).sum() / (count + 1e-8)
        return loss, {"loss": loss}

    def normalizers(self, batch):
        return {"segments": ((batch.segment_text >= 0) & batch.example_mask[:, None]).sum()}

    def detect_encoded(self, params, video, frame_mask, span_s, texts):
        scores = self.mean_prediction(params, UnLoc.score_videos, video, frame_mask, texts)
        return Output(video_scores=jax.nn.sigmoid(scores))

    def zeroshot(self, video):
        best = video.cosines.argmax(1) / max(video.cosines.shape[1] - 1, 1)
        return Output(video_scores=best[None])

    def evaluation_texts(self, records):
        return [record.texts for record in records]

    def compute_metrics(self, records, predictions):
        errors = [
            abs(share - segment.mean() / record.duration_s)
            for record, shares in zip(records, predictions.video_scores)
            for share, segment in zip(shares, record.segments_s)
        ]
        return {"mean_error": 100 * float(np.mean(errors))}

    def prediction_lines(self, records, predictions):
        for record, texts, shares in zip(records, predictions.texts, predictions.video_scores):
            yield json.dumps({"vid": record.video_id, "shares": dict(zip(texts, shares.tolist()))}) + "\n"
