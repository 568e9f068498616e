"""Losses on relevance logits and boundary offsets (paper section 3.4). Inputs of any leading shape."""

import jax
import jax.numpy as jnp
import optax


def relevance_loss(
    logits: jax.Array, targets: jax.Array, kind: str, *, alpha: float = 0.25, gamma: float = 2.0
) -> jax.Array:
    """Elementwise loss of relevance logits against targets in [0, 1].

    Args:
      logits, targets: float32 [...].
      kind: "focal" (Lin et al. 2017; `alpha` weighs positives, 1 - alpha negatives) or "sigmoid" (cross entropy).
        Of smoothed targets the focal loss takes exp(-cross entropy) as p_t, as the reference does; optax's, which
        takes the probability of hitting the target by chance, is the same for targets 0 and 1 only.
      alpha, gamma: of the focal loss.

    Returns:
      float32 [...].
    """
    cross_entropy = optax.sigmoid_binary_cross_entropy(logits, targets)
    if kind == "sigmoid":
        return cross_entropy
    weights = alpha * targets + (1.0 - alpha) * (1.0 - targets)
    return weights * (1.0 - jnp.exp(-cross_entropy)) ** gamma * cross_entropy


def smooth_labels(targets: jax.Array, amount: float) -> jax.Array:
    """Moves 0 and 1 towards ½ by amount/2, as for a choice of two (yes or no) per text.

    The reference divides by the number of classes instead: with one class its negatives become `amount` while
    its positives stay 1.
    """
    return targets * (1.0 - amount) + 0.5 * amount


def offsets_iou(offsets: jax.Array, target_offsets: jax.Array) -> jax.Array:
    """IoU in [0, 1] of two segments given as distances ≥ 0 from the same point: [..., 2] → [...]."""
    intersection = jnp.minimum(offsets, target_offsets).sum(-1)
    return intersection / jnp.maximum(_union(offsets, target_offsets), 1e-6)


def offsets_l1(offsets: jax.Array, target_offsets: jax.Array) -> jax.Array:
    """|start error| + |end error| as a share of the union: [..., 2] → [...], so that long segments weigh no more."""
    distance = jnp.abs(offsets - target_offsets).sum(-1)
    return distance / jnp.maximum(_union(offsets, target_offsets), 1e-6)


def offsets_center(offsets: jax.Array, target_offsets: jax.Array) -> jax.Array:
    """Squared distance of the centres as a share of the union: [..., 2] → [...].

    `1 - IoU + center` is the DIoU loss (Zheng et al. 2020): both segments contain the point, so their union is
    also the smallest segment around both. For the same reason GIoU is IoU.
    """
    center = lambda x: 0.5 * (x[..., 1] - x[..., 0])
    distance = center(offsets) - center(target_offsets)
    return jnp.square(distance / jnp.maximum(_union(offsets, target_offsets), 1e-6))


def _union(offsets: jax.Array, target_offsets: jax.Array) -> jax.Array:
    return jnp.maximum(offsets, target_offsets).sum(-1)


_BOUNDARY_TERMS = {
    "iou": lambda offsets, targets: 1.0 - offsets_iou(offsets, targets),
    "l1": offsets_l1,
    "center": offsets_center,
}
_LARGEST_FACTOR = 3.4e38  # of a float32


def parse_boundary_loss(expression: str) -> list[tuple[float, str]]:
    """ "0.5*l1+1.0*iou" → [(0.5, "l1"), (1.0, "iou")].

    Raises:
      ValueError: a term that is not known, or a factor that is no number, negative or not finite.
    """
    terms = []
    for term in expression.split("+"):
        factor, star, name = term.strip().rpartition("*")
        if name.strip() not in _BOUNDARY_TERMS:
            raise ValueError(f"{name.strip()!r} is none of {', '.join(_BOUNDARY_TERMS)}")
        try:
            value = float(factor) if star else 1.0
        except ValueError:
            raise ValueError(f"{factor!r} is not a factor; write such as 0.5*l1+1.0*iou") from None
        if not 0 <= value < _LARGEST_FACTOR:
            raise ValueError(f"the factor {factor} must be finite and at least 0")
        terms.append((value, name.strip()))
    return terms


def boundary_loss(expression: str, offsets: jax.Array, target_offsets: jax.Array) -> jax.Array:
    """Weighted sum of boundary losses, elementwise: distances ≥ 0 [..., 2] → [...]."""
    terms = [
        factor * _BOUNDARY_TERMS[name](offsets, target_offsets)
        for factor, name in parse_boundary_loss(expression)
    ]
    return sum(terms[1:], terms[0])


def masked_mean(values: jax.Array, weights: jax.Array, total: jax.Array | None = None) -> jax.Array:
    """Σ values·weights / Σ weights; 0 where nothing counts. Scalar float32.

    `total` replaces Σ weights: that of a whole batch, of which these are some rows' values.
    """
    return (values * weights).sum() / ((weights.sum() if total is None else total) + 1e-8)


def contrastive_loss(
    video: jax.Array, text: jax.Array, mask: jax.Array, same_text: jax.Array, temperature: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Symmetric video–text cross entropy within the global batch (CLIP) of embeddings; see `matching_loss`.

    Args:
      video: float32 [M, D], one L2-normalised embedding per segment.
      text: float32 [M, D], the embedding of the segment's text.
      mask: bool [M], True = real pair.
      same_text: bool [M, M], True where two pairs have the same text: such pairs are no negatives.
      temperature: scalar that multiplies the cosine.

    Returns:
      (loss, accuracy of video → text), scalars.
    """
    return matching_loss(temperature * video @ text.T, mask, same_text)


def matching_loss(logits: jax.Array, mask: jax.Array, same_text: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Symmetric cross entropy of M videos against their M texts, blind to duplicates.

    Args:
      logits: float32 [M, M], row = video, column = text; the diagonal holds the true pairs.
      mask: bool [M], True = real pair.
      same_text: bool [M, M], True where two pairs have the same text: such pairs are no negatives.

    Returns:
      (loss, accuracy of video → text), scalars.
    """
    diagonal = jnp.eye(len(mask), dtype=bool)
    excluded = ~mask[None] | ~mask[:, None] | (same_text & ~diagonal)
    logits = jnp.where(excluded & ~diagonal, -1e9, logits)
    labels = jnp.arange(len(mask))
    both = [optax.softmax_cross_entropy_with_integer_labels(x, labels) for x in (logits, logits.T)]
    accuracy = masked_mean((logits.argmax(-1) == labels).astype(jnp.float32), mask.astype(jnp.float32))
    return masked_mean(0.5 * (both[0] + both[1]), mask.astype(jnp.float32)), accuracy
