"""The contrastive stage (config.contrastive): every segment's frames against the segments' texts.

It replaces CLIP's pretraining where a model is trained from scratch, and is CLIP's loss on moments.
"""

import jax
import jax.numpy as jnp

from unloc_jax.batch import Batch
from unloc_jax.localization.losses import matching_loss
from unloc_jax.model.unloc import UnLoc
from unloc_jax.tasks.base import Metrics, Params, Task
from unloc_jax.tasks.global_batch import dropout_rng


def segment_text_loss(task: Task, params: Params, batch: Batch, rng: jax.Array) -> tuple[jax.Array, Metrics]:
    """Contrasts every segment of the global batch with every segment's sentence embedding.

    Args:
      task: determines where the texts come from.
      params: the model's parameters.
      batch: its segments [B, S] give M = B·S pairs.
      rng: typed random key of the task in this step, see `Task.loss`.

    Returns:
      (loss, metrics by name), float32 scalars.
    """
    tokens = (
        jnp.asarray(task.encoding(task.classes))[None, :, 0]
        if task.config.with_vocabulary
        else batch.text_tokens
    )
    # A segment covers the frames within half a grid unit of it, so that a short one has at least one.
    grid = jnp.arange(batch.frame_mask.shape[1], dtype=jnp.float32)
    inside = (grid > batch.segments[..., :1] - 0.51) & (grid < batch.segments[..., 1:] + 0.51)  # [B, S, T]
    inside &= batch.frame_mask[:, None]
    texts = tokens if batch.vocabulary is None else jax.tree.map(lambda x: x[:, :, 0], batch.vocabulary)
    inputs = (batch.inputs, batch.frame_mask, inside, texts, batch.input_masks)
    dropout = dropout_rng(rng, None)
    video, sentences, scale = task.apply(params, UnLoc.contrast, *inputs, rng=dropout)

    text_index = jnp.maximum(batch.segment_text, 0)
    own_sentences = jnp.broadcast_to(sentences, (len(video), *sentences.shape[1:]))
    text = jnp.take_along_axis(own_sentences, text_index[..., None], axis=1)
    own_tokens = jnp.broadcast_to(tokens, (len(video), *tokens.shape[1:]))
    words = jnp.take_along_axis(own_tokens, text_index[..., None], axis=1)
    video, text, words = (x.reshape(-1, x.shape[-1]) for x in (video, text, words))
    mask = ((batch.segment_text >= 0) & batch.example_mask[:, None]).reshape(-1)
    same_text = (words[:, None] == words[None]).all(-1)

    unit = lambda x: x / jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)
    loss, accuracy = matching_loss(scale * unit(video) @ unit(text).T, mask, same_text)
    return loss, {"loss": loss, "contrastive_accuracy": accuracy, "similarity_scale": scale}
