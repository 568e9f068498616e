"""UnLoc: towers → fusion and pyramid → heads (paper figure 2)."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from unloc_jax.config import ModelConfig
from unloc_jax.localization.decode import Localization
from unloc_jax.model.clip import ImageTower, TextFeatures, TextTower
from unloc_jax.model.fusion import Fusion
from unloc_jax.model.heads import LocalizationHead, VideoHead
from unloc_jax.model.layout import ONE_PLACE, Layout
from unloc_jax.model.transformer import Run

Inputs = Mapping[str, jax.Array]

# What a model can have on top of towers and fusion; a task says what it needs.
PARTS = ("localization", "video_score", "moments")

LARGEST_TEMPERATURE = math.log(100.0)
"""Of the parameter `temperature`, CLIP's cap: a step cuts it off there (see `unloc_jax.training.optimizer`)."""


class UnLoc(nn.Module):
    """The whole model. `encode_video` and `encode_text` can be called alone and their results kept.

    Attributes:
      config: parts and sizes.
      num_frames: T.
      parts: of PARTS; only these have parameters.
      dtype: of the computation; parameters and outputs are float32.
      layout: which device computes what.
    """

    config: ModelConfig
    num_frames: int
    parts: tuple[str, ...] = ("localization",)
    dtype: DTypeLike = jnp.float32
    layout: Layout = ONE_PLACE

    def setup(self):
        config, width = self.config, self.config.fusion.width
        possible = jax.default_backend() == "gpu" and self.dtype == jnp.bfloat16
        cudnn = config.attention == "cudnn" and possible
        run = Run(config.remat, config.unroll, self.dtype, self.layout, cudnn=cudnn)
        of_frames = dataclasses.replace(run, sequences=config.frame_chunk)
        self.geometry = config.geometry(self.num_frames)
        modalities = config.modalities.items()
        self.towers = {
            name: ImageTower(config.image, of_frames) for name, m in modalities if m.encoder == "clip"
        }
        self.projections = {
            name: nn.Dense(m.projection_width, use_bias=m.projection_bias, dtype=self.dtype)
            for name, m in modalities
            if m.projection_width
        }
        self.norms = {name: nn.LayerNorm(dtype=self.dtype) for name, m in modalities if m.norm}
        if config.video_projection:
            self.video_projection = nn.Dense(width, use_bias=config.video_projection_bias, dtype=self.dtype)
        if config.text.encoder == "clip":
            self.text_tower = TextTower(config.text, run)
        if config.text.projection:
            self.text_projection = nn.Dense(width, use_bias=config.text.projection_bias, dtype=self.dtype)
        self.fusion = Fusion(config.fusion, config.pyramid, config.pyramid_layers, self.geometry, run)
        if "localization" in self.parts:
            self.head = LocalizationHead(self.geometry, config.head, dtype=self.dtype, layout=self.layout)
        if "video_score" in self.parts:
            self.video_head = VideoHead()
        if "moments" in self.parts:
            self.moment_projection = nn.Dense(width, dtype=self.dtype)
            self.temperature = self.param("temperature", nn.initializers.constant(2.659), ())  # log(1 / 0.07)

    def encode_video(self, inputs: Inputs, frame_mask: jax.Array | None = None) -> jax.Array:
        """Frame tokens of all modalities, side by side.

        Args:
          inputs: by modality: frames [B, T, H, W, 3] (uint8, or floating and already normalised), or features
            [B, T, D].
          frame_mask: bool [B, T], True = real frame; these come first. None = all.

        Returns:
          [B, T, D].
        """
        tokens = []
        for name, modality in sorted(self.config.modalities.items()):
            x = self.towers[name](inputs[name], frame_mask) if modality.encoder == "clip" else inputs[name]
            x = x.astype(self.dtype)
            if modality.freeze:
                x = jax.lax.stop_gradient(x)
            if modality.projection_width:
                x = self.projections[name](x)
            if modality.norm:
                x = self.norms[name](x)
            tokens.append(x)
        video = jnp.concatenate(tokens, axis=-1)
        if self.config.video_projection:
            video = self.video_projection(video)
        return self.layout.constrain(video, "videos", None, None)  # from here on, `context` splits texts

    def encode_words(self, texts: jax.Array) -> TextFeatures:
        """The part of `encode_text` before the projection: of the tower's width, and constant where that is frozen."""
        config = self.config.text
        if config.encoder == "clip":
            features = self.text_tower(texts)
        else:
            features = TextFeatures.from_embeddings(texts.astype(self.dtype))
        return jax.lax.stop_gradient(features) if config.freeze else features

    def encode_text(self, texts: jax.Array | TextFeatures) -> TextFeatures:
        """Texts → features of the fusion's width.

        Args:
          texts: [B or 1, N, …]: int32 tokens [L], or given embeddings float [D], or what `encode_words` made of them.
        """
        features = texts if isinstance(texts, TextFeatures) else self.encode_words(texts)
        project = self.text_projection if self.config.text.projection else lambda x: x
        whole = lambda x: self.layout.constrain(x, "videos", *[None] * (x.ndim - 1))
        projected = lambda x: whole(project(whole(x)))
        return TextFeatures(projected(features.tokens), features.mask, projected(features.sentence))

    def localize(self, video: jax.Array, frame_mask: jax.Array, text: TextFeatures) -> Localization:
        """Where each text happens.

        Args:
          video: [B, T, D] frame tokens.
          frame_mask: bool [B, T], True = real frame.
          text: features of leading shape [B, N] (texts per video) or [1, N] (the same texts for all videos). Where
            texts share boundaries (head.offsets_per_text = False), all N count: they are a vocabulary.

        Returns:
          Localization [B, N, P].
        """
        late = self.config.fusion.type == "late"
        shared_offsets = self.config.head.type == "conv" and not self.config.head.offsets_per_text
        seen = self.fusion.frames(video, frame_mask) if late else video
        num_texts = text.sentence.shape[1]
        real_point = self.geometry.point_mask(frame_mask)

        def of_some(model: "UnLoc", text: TextFeatures, counts: jax.Array) -> tuple[dict, dict]:
            fusion = model.fusion
            points = (
                fusion.meet(seen, text) if late else fusion.pairs(seen, frame_mask, text).points
            )  # [B, n, P, D]
            found = {"relevance": model.head.score(points, real_point)}
            if shared_offsets:
                return found, {"points": (points * counts[:, :, None, None]).sum(1)}
            if self.config.head.type == "conv":
                found["offsets"] = model.head.distances(points, real_point)
            return found, {}

        found, sums = self._over_texts(of_some, text, jnp.ones((1, num_texts), bool))
        if shared_offsets:
            mean = sums["points"] / jnp.asarray(num_texts, self.dtype)
            found["offsets"] = self.head.distances(mean[:, None], real_point)
        return Localization(found["relevance"], found.get("offsets"))

    def score_videos(self, video: jax.Array, frame_mask: jax.Array, text: TextFeatures) -> jax.Array:
        """How well each text describes the whole video, from the fused text token: float32 logits [B, N]."""

        def of_some(model: "UnLoc", text: TextFeatures) -> tuple[dict, dict]:
            fused = model.fusion.pairs(video, frame_mask, text).text  # [B, n, L, D]
            # Of all text tokens the last real one is the end token, which stands for the text.
            last = text.mask.sum(-1) - 1 if self.config.fusion.all_text_tokens else jnp.zeros((1, 1), int)
            last = jnp.broadcast_to(jnp.maximum(last, 0), fused.shape[:2])[..., None, None]
            return {"score": model.video_head(jnp.take_along_axis(fused, last, axis=2)[:, :, 0])}, {}

        return self._over_texts(of_some, text)[0]["score"]

    def _over_texts(self, of_some: Callable, text: TextFeatures, *others: jax.Array) -> tuple[dict, dict]:
        """Runs of_some(model, text, *others) on `text_chunk` texts at a time.

        Args:
          of_some: returns arrays [B, n, …] of its n texts, and arrays that are to be summed over all texts. It must
            give zeros to the latter for texts whose `others` are zero: such texts fill up the last chunk, and what
            the layout splits.
          text, others: [B or 1, N, …].

        Returns:
          The same two dictionaries for all N texts. Gradients recompute a chunk, so memory is that of one.
        """
        num_texts = text.sentence.shape[1]
        chunk = num_texts if self.is_initializing() else min(self.config.text_chunk or num_texts, num_texts)
        if num_texts > 1:
            chunk += -chunk % self.layout.parts("texts")

        def split(x: jax.Array) -> jax.Array:  # [b, N, …] → [chunks, b, chunk, …]
            x = jnp.pad(x, ((0, 0), (0, -num_texts % chunk)) + ((0, 0),) * (x.ndim - 2))
            x = jnp.moveaxis(x.reshape(len(x), -1, chunk, *x.shape[2:]), 1, 0)
            return self.layout.constrain(x, None, "videos", "texts", *[None] * (x.ndim - 3))

        chunks = jax.tree.map(split, (text, *others))
        if chunk >= num_texts:
            each, sums = of_some(self, *jax.tree.map(lambda x: x[0], chunks))
            return jax.tree.map(lambda x: x[:, :num_texts], each), sums

        scan = nn.scan(
            nn.remat(lambda model, carry, of_chunk: (carry, of_some(model, *of_chunk)), prevent_cse=False),
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
        )
        _, (each, sums) = scan(self, (), chunks)
        join = lambda x: jnp.concatenate(list(x), axis=1)[:, :num_texts]
        return jax.tree.map(join, each), jax.tree.map(lambda x: x.sum(0), sums)

    def __call__(self, inputs: Inputs, frame_mask: jax.Array, texts: jax.Array) -> jax.Array | Localization:
        """Localization of texts [B or 1, N, …] in videos (see `encode_video`, `encode_text`, `localize`)."""
        video, text = self.encode_video(inputs, frame_mask), self.encode_text(texts)
        if self.is_initializing():
            if "moments" in self.parts:
                self.contrast(inputs, frame_mask, frame_mask[:, None], texts)
            if "video_score" in self.parts:
                scores = self.score_videos(video, frame_mask, text)
                if "localization" not in self.parts:
                    return scores
        return self.localize(video, frame_mask, text)

    def contrast(
        self, inputs: Inputs, frame_mask: jax.Array, segment_mask: jax.Array, texts: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What contrastive pretraining compares: one embedding per segment and one per text.

        A segment's embedding is a projection of the mean of its frame tokens and of their slope over time, so that
        "moves to the left" and "moves to the right" can differ whatever the speed.

        Args:
          inputs, frame_mask: see `encode_video`.
          segment_mask: bool [B, S, T], True = frame of the segment.
          texts: see `encode_text`.

        Returns:
          Segments [B, S, D] and texts [..., D], float32 and not normalised, and the scalar that multiplies cosines.
        """
        video = self.encode_video(inputs, frame_mask)
        time = jnp.arange(video.shape[1], dtype=jnp.float32)
        count = jnp.maximum(segment_mask.sum(-1, keepdims=True), 1)
        centred = time - (segment_mask * time).sum(-1, keepdims=True) / count
        weights = (
            segment_mask * jnp.stack([jnp.ones_like(centred), 4.0 * centred / count]) / count
        )  # [2, B, S, T]
        mean, slope = jnp.einsum("kbst,btd->kbsd", weights.astype(video.dtype), video)
        segments = self.moment_projection(jnp.concatenate([mean, slope], axis=-1))
        sentence = self.encode_text(texts).sentence
        return segments.astype(jnp.float32), sentence.astype(jnp.float32), jnp.exp(self.temperature)
