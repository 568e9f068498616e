"""Losses on relevance logits and boundary offsets (paper section 3.4). Inputs of any leading shape."""

import jax
import jax.numpy as jnp
import optax


def focal_loss(logits: jax.Array, targets: jax.Array, alpha: float, gamma: float) -> jax.Array:
    """Focal sigmoid cross entropy (Lin et al. 2017), elementwise; `alpha` weighs positives, 1 - alpha negatives."""
    return optax.sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma)


def offsets_iou(offsets: jax.Array, target_offsets: jax.Array) -> jax.Array:
    """IoU in [0, 1] of two segments given as distances ≥ 0 from the same point: [..., 2] → [...]."""
    intersection = jnp.minimum(offsets, target_offsets).sum(-1)
    union = jnp.maximum(offsets, target_offsets).sum(-1)
    return intersection / jnp.maximum(union, 1e-6)


def masked_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Σ values·weights / Σ weights; 0 where nothing counts. Scalar float32."""
    return (values * weights).sum() / (weights.sum() + 1e-8)


def contrastive_loss(
    video: jax.Array, text: jax.Array, mask: jax.Array, same_text: jax.Array, temperature: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Symmetric video–text cross entropy within the global batch (CLIP), blind to duplicates.

    Args:
      video: float32 [M, D], one L2-normalised embedding per segment.
      text: float32 [M, D], the embedding of the segment's text.
      mask: bool [M], True = real pair.
      same_text: bool [M, M], True where two pairs have the same text: such pairs are no negatives.
      temperature: scalar that multiplies the cosine.

    Returns:
      (loss, accuracy of video → text), scalars.
    """
    logits = temperature * video @ text.T
    diagonal = jnp.eye(len(mask), dtype=bool)
    excluded = ~mask[None] | ~mask[:, None] | (same_text & ~diagonal)
    logits = jnp.where(excluded & ~diagonal, -1e9, logits)
    labels = jnp.arange(len(mask))
    both = [optax.softmax_cross_entropy_with_integer_labels(x, labels) for x in (logits, logits.T)]
    accuracy = masked_mean((logits.argmax(-1) == labels).astype(jnp.float32), mask.astype(jnp.float32))
    return masked_mean(0.5 * (both[0] + both[1]), mask.astype(jnp.float32)), accuracy
