"""UnLoc: towers → fusion and pyramid → heads (paper figure 2)."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from unloc_jax.config import ModelConfig
from unloc_jax.localization.decode import Localization
from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.fusion import Fusion
from unloc_jax.model.heads import LocalizationHead, VideoHead
from unloc_jax.model.layout import UNSHARDED, Layout
from unloc_jax.model.towers import TOWERS
from unloc_jax.model.transformer import ComputeOptions

Inputs = Mapping[str, jax.Array]

# The heads that a model can have on top of towers and fusion; each task lists those it needs.
HEADS = ("localization", "video_score", "contrastive")

LARGEST_LOGIT_SCALE = math.log(100.0)
"""CLIP's cap of the parameter `logit_scale`: a step cuts it off there (see `unloc_jax.training.optimizer`)."""


class UnLoc(nn.Module):
    """The complete model. `encode_video` and `encode_text` can be called alone and their results reused.

    Attributes:
      config: Architecture and sizes.
      num_frames: T.
      heads: A subset of `HEADS`; only these have parameters.
      dtype: Of the computation; parameters and outputs are float32.
      layout: How activations are sharded.
    """

    config: ModelConfig
    num_frames: int
    heads: tuple[str, ...] = ("localization",)
    dtype: DTypeLike = jnp.float32
    layout: Layout = UNSHARDED

    def setup(self):
        config, width = self.config, self.config.fusion.width
        cudnn_works = jax.default_backend() == "gpu" and self.dtype == jnp.bfloat16
        cudnn = config.attention == "cudnn" and cudnn_works
        compute = ComputeOptions(config.remat, config.unroll, self.dtype, self.layout, cudnn=cudnn)
        frame_compute = dataclasses.replace(compute, chunk_size=config.frame_chunk)
        self.geometry = config.geometry(self.num_frames)
        modalities = config.modalities.items()
        adapted = lambda options, rank: dataclasses.replace(options, lora_rank=rank)
        self.towers = {
            name: TOWERS[m.encoder].video(config, adapted(frame_compute, m.lora_rank))
            for name, m in modalities
            if m.has_tower
        }
        self.projections = {
            name: nn.Dense(m.projection_width, use_bias=m.projection_bias, dtype=self.dtype)
            for name, m in modalities
            if m.projection_width
        }
        self.norms = {name: nn.LayerNorm(dtype=self.dtype) for name, m in modalities if m.norm}
        if config.video_projection:
            self.video_projection = nn.Dense(width, use_bias=config.video_projection_bias, dtype=self.dtype)
        if config.text.reads_tokens:
            make = TOWERS[config.text.encoder].text
            assert make is not None, "the config's choices are encoders of texts"
            self.text_tower = make(config, adapted(compute, config.text.lora_rank))
        if config.text.projection:
            self.text_projection = nn.Dense(width, use_bias=config.text.projection_bias, dtype=self.dtype)
        self.fusion = Fusion(config.fusion, config.pyramid, config.pyramid_layers, self.geometry, compute)
        if "localization" in self.heads:
            self.head = LocalizationHead(self.geometry, config.head, dtype=self.dtype, layout=self.layout)
        if "video_score" in self.heads:
            self.video_head = VideoHead()
        if "contrastive" in self.heads:
            self.contrastive_projection = nn.Dense(width, dtype=self.dtype)
            # As in CLIP, the logarithm of the factor of the cosines; it begins at log(1 / 0.07).
            self.logit_scale = self.param("logit_scale", nn.initializers.constant(2.659), ())

    def encode_video(
        self, inputs: Inputs, frame_mask: jax.Array | None = None, input_masks: Inputs | None = None
    ) -> jax.Array:
        """Encodes all modalities and concatenates their frame tokens.

        Args:
          inputs: By modality: frames [B, T, H, W, 3] (uint8, or floating if already normalised), sound (see
            `AudioTower`), or features, floating [B, T, D].
          frame_mask: bool [B, T], True = real frame; real frames come first. None = all are real.
          input_masks: bool [B, T] by modality, True = the video has it there; elsewhere nothing of the input passes.
            Modalities without an entry are everywhere.

        Returns:
          Frame tokens [B, T, D] in the compute dtype.
        """
        tokens = []
        for name, modality in sorted(self.config.modalities.items()):
            x, mask = inputs[name], (input_masks or {}).get(name)
            chex.assert_rank(x, 5 if modality.reads_frames else {3, 4} if modality.reads_sound else 3)
            for given in (frame_mask, mask):
                if given is not None:
                    chex.assert_type(given, bool)
                    chex.assert_shape(given, x.shape[:2])
            if modality.reads_sound:
                both = [given for given in (frame_mask, mask) if given is not None]
                x = self.towers[name](x, functools.reduce(jnp.logical_and, both) if both else None)
            elif modality.reads_frames:
                x = self.towers[name](x, frame_mask)
            x = x.astype(self.dtype)
            if modality.freeze:
                x = jax.lax.stop_gradient(x)
            if modality.projection_width:
                x = self.projections[name](x)
            if modality.norm:
                x = self.norms[name](x)
            if mask is not None:
                x = jnp.where(mask[:, :, None], x, 0)
            tokens.append(x)
        video = jnp.concatenate(tokens, axis=-1)
        if self.config.video_projection:
            video = self.video_projection(video)
        return self.layout.constrain(video, "videos", None, None)  # from here on, `context` shards texts

    def encode_words(self, texts: jax.Array) -> TextFeatures:
        """Encodes texts without the projection; constant where the tower is frozen.

        Args:
          texts: Word pieces, int32 [B or 1, N, L], or precomputed embeddings, floating [B or 1, N, D].
        """
        config = self.config.text
        if config.reads_tokens:
            features = self.text_tower(texts)
        else:
            features = TextFeatures.from_embeddings(texts.astype(self.dtype))
        return jax.lax.stop_gradient(features) if config.freeze else features

    def encode_text(self, texts: jax.Array | TextFeatures) -> TextFeatures:
        """Encodes texts and projects them to the fusion's width.

        Args:
          texts: As for `encode_words`, or its result.

        Returns:
          Features of leading shape [B or 1, N] and width D, in the compute dtype.
        """
        features = texts if isinstance(texts, TextFeatures) else self.encode_words(texts)
        project = self.text_projection if self.config.text.projection else lambda x: x
        shard = lambda x: self.layout.constrain(x, "videos", *[None] * (x.ndim - 1))
        projected = lambda x: shard(project(shard(x)))
        return TextFeatures(projected(features.tokens), features.mask, projected(features.sentence))

    def localize(self, video: jax.Array, frame_mask: jax.Array, text: TextFeatures) -> Localization:
        """Localises each text in each video.

        Args:
          video: Frame tokens, floating [B, T, D].
          frame_mask: bool [B, T], True = real frame.
          text: Features of leading shape [B, N] (texts per video) or [1, N] (the same texts for all videos). Where
            texts share boundaries (head.offsets_per_text = False), the boundaries depend on all N: they are a
            vocabulary.

        Returns:
          Relevance float32 [B, N, P]; offsets float32 [B, N, P, 2], or [B, 1, P, 2] where texts share them, or None.
        """
        self._check_pairs(video, frame_mask, text)
        late = self.config.fusion.type == "late"
        shared_offsets = self.config.head.type == "conv" and not self.config.head.offsets_per_text
        encoded = self.fusion.encode_frames(video, frame_mask) if late else video
        num_texts = text.sentence.shape[1]
        real_point = self.geometry.point_mask(frame_mask)

        def localize_chunk(model: "UnLoc", text: TextFeatures, is_text: jax.Array) -> tuple[dict, dict]:
            fusion = model.fusion
            points = (
                fusion.multiply(encoded, text)
                if late
                else fusion.encode_pairs(encoded, frame_mask, text).points
            )  # [B, n, P, D]
            outputs = {"relevance": model.head.predict_relevance(points, real_point)}
            if shared_offsets:
                return outputs, {"points": (points * is_text[:, :, None, None]).sum(1)}
            if self.config.head.type == "conv":
                outputs["offsets"] = model.head.predict_offsets(points, real_point)
            return outputs, {}

        outputs, sums = self._over_texts(localize_chunk, text, jnp.ones((1, num_texts), bool))
        if shared_offsets:
            mean = sums["points"] / jnp.asarray(num_texts, self.dtype)
            outputs["offsets"] = self.head.predict_offsets(mean[:, None], real_point)
        return Localization(outputs["relevance"], outputs.get("offsets"))

    def _check_pairs(self, video: jax.Array, frame_mask: jax.Array, text: TextFeatures) -> None:
        """Asserts video [B, T, D], frame_mask bool [B, T] and text features of leading shape [B or 1, N]."""
        chex.assert_rank([video, text.tokens], [3, 4])
        chex.assert_type(frame_mask, bool)
        chex.assert_shape(frame_mask, (len(video), self.num_frames))
        chex.assert_shape(text.sentence, ({1, len(video)}, None, None))

    def score_videos(self, video: jax.Array, frame_mask: jax.Array, text: TextFeatures) -> jax.Array:
        """Scores how well each text describes the whole video, from its fused text token.

        Args:
          video: Frame tokens, floating [B, T, D].
          frame_mask: bool [B, T], True = real frame.
          text: Features of leading shape [B, N] or [1, N].

        Returns:
          Logits, float32 [B, N].
        """

        self._check_pairs(video, frame_mask, text)

        def score_chunk(model: "UnLoc", text: TextFeatures) -> tuple[dict, dict]:
            fused = model.fusion.encode_pairs(video, frame_mask, text).text  # [B, n, L, D]
            # With all text tokens, the last real one is the end token, which represents the text.
            last = text.mask.sum(-1) - 1 if self.config.fusion.all_text_tokens else jnp.zeros((1, 1), int)
            last = jnp.broadcast_to(jnp.maximum(last, 0), fused.shape[:2])[..., None, None]
            return {"video_score": model.video_head(jnp.take_along_axis(fused, last, axis=2)[:, :, 0])}, {}

        return self._over_texts(score_chunk, text)[0]["video_score"]

    def _over_texts(
        self, process_chunk: Callable, text: TextFeatures, *others: jax.Array
    ) -> tuple[dict, dict]:
        """Calls process_chunk(model, text, *others) for `text_chunk` texts at a time.

        Args:
          process_chunk: Returns a dictionary of arrays [B, n, ...] for its n texts, and one of arrays to sum over all
            texts. The latter must be zero for texts whose `others` are zero: such texts pad the last chunk and
            sharded axes.
          text, others: Arrays [B or 1, N, ...].

        Returns:
          The two dictionaries for all N texts. The backward pass recomputes each chunk, so only one is in memory.
        """
        num_texts = text.sentence.shape[1]
        chunk = num_texts if self.is_initializing() else min(self.config.text_chunk or num_texts, num_texts)
        if num_texts > 1:
            chunk += -chunk % self.layout.num_shards("texts")

        def split(x: jax.Array) -> jax.Array:  # [b, N, …] → [chunks, b, chunk, …]
            x = jnp.pad(x, ((0, 0), (0, -num_texts % chunk)) + ((0, 0),) * (x.ndim - 2))
            x = jnp.moveaxis(x.reshape(len(x), -1, chunk, *x.shape[2:]), 1, 0)
            return self.layout.constrain(x, None, "videos", "texts", *[None] * (x.ndim - 3))

        chunks = jax.tree.map(split, (text, *others))
        if chunk >= num_texts:
            each, sums = process_chunk(self, *jax.tree.map(lambda x: x[0], chunks))
            return jax.tree.map(lambda x: x[:, :num_texts], each), sums

        scan = nn.scan(
            nn.remat(lambda model, carry, chunk: (carry, process_chunk(model, *chunk)), prevent_cse=False),
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
        )
        _, (each, sums) = scan(self, (), chunks)
        join = lambda x: jnp.concatenate(list(x), axis=1)[:, :num_texts]
        return jax.tree.map(join, each), jax.tree.map(lambda x: x.sum(0), sums)

    def __call__(
        self, inputs: Inputs, frame_mask: jax.Array, texts: jax.Array, input_masks: Inputs | None = None
    ) -> jax.Array | Localization:
        """Localises texts in videos; for arguments and result see `encode_video`, `encode_text` and `localize`."""
        video, text = self.encode_video(inputs, frame_mask, input_masks), self.encode_text(texts)
        if self.is_initializing():
            if "contrastive" in self.heads:
                self.contrast(inputs, frame_mask, frame_mask[:, None], texts)
            if "video_score" in self.heads:
                scores = self.score_videos(video, frame_mask, text)
                if "localization" not in self.heads:
                    return scores
        return self.localize(video, frame_mask, text)

    def contrast(
        self,
        inputs: Inputs,
        frame_mask: jax.Array,
        segment_mask: jax.Array,
        texts: jax.Array,
        input_masks: Inputs | None = None,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Computes the embeddings that the contrastive stage compares: one per segment and one per text.

        A segment's embedding is a projection of the mean of its frame tokens and of their slope over time, so that
        "moves to the left" and "moves to the right" can differ whatever the speed.

        Args:
          inputs, frame_mask, input_masks: See `encode_video`.
          segment_mask: bool [B, S, T], True = frame of the segment.
          texts: See `encode_text`.

        Returns:
          (segments float32 [B, S, D], texts float32 [B or 1, N, D], float32 scalar by which cosines are
          multiplied, the exponential of the parameter `logit_scale`).
          Embeddings are not normalised.
        """
        video = self.encode_video(inputs, frame_mask, input_masks)
        chex.assert_type(segment_mask, bool)
        chex.assert_shape(segment_mask, (len(video), None, video.shape[1]))
        time = jnp.arange(video.shape[1], dtype=jnp.float32)
        count = jnp.maximum(segment_mask.sum(-1, keepdims=True), 1)
        centred = time - (segment_mask * time).sum(-1, keepdims=True) / count
        weights = (
            segment_mask * jnp.stack([jnp.ones_like(centred), 4.0 * centred / count]) / count
        )  # [2, B, S, T]
        mean, slope = jnp.einsum("kbst,btd->kbsd", weights.astype(video.dtype), video)
        segments = self.contrastive_projection(jnp.concatenate([mean, slope], axis=-1))
        sentence = self.encode_text(texts).sentence
        return segments.astype(jnp.float32), sentence.astype(jnp.float32), jnp.exp(self.logit_scale)
