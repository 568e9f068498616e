"""Losses on relevance logits and boundary offsets (paper section 3.4), for inputs of any leading shape."""

import chex
import jax
import jax.numpy as jnp
import optax


def relevance_loss(
    logits: jax.Array, targets: jax.Array, kind: str, *, alpha: float = 0.25, gamma: float = 2.0
) -> jax.Array:
    """Computes an elementwise loss of relevance logits against targets in [0, 1].

    For smoothed targets the focal loss uses exp(-cross entropy) as p_t, as the reference does. optax's focal loss uses
    the probability of hitting the target by chance, which is the same only for targets 0 and 1.

    Args:
      logits, targets: float32 [...], of shapes that broadcast.
      kind: "focal" (Lin et al. 2017) or "sigmoid" (cross entropy).
      alpha: Focal loss: weight of positives; negatives have weight 1 - alpha.
      gamma: Focal loss: exponent of the modulating factor.

    Returns:
      float32 [...].
    """
    cross_entropy = optax.sigmoid_binary_cross_entropy(logits, targets)
    if kind == "sigmoid":
        return cross_entropy
    weights = alpha * targets + (1.0 - alpha) * (1.0 - targets)
    return weights * (1.0 - jnp.exp(-cross_entropy)) ** gamma * cross_entropy


def smooth_labels(targets: jax.Array, amount: float) -> jax.Array:
    """Moves targets float32 [...] from 0 and 1 towards ½ by amount/2, as for two classes (yes and no) per text.

    The reference divides by the number of classes instead: with a single class its negatives become `amount` while
    its positives stay 1.
    """
    return targets * (1.0 - amount) + 0.5 * amount


def offsets_iou(offsets: jax.Array, target_offsets: jax.Array) -> jax.Array:
    """Computes the IoU of segments that are given as distances from a common point.

    Args:
      offsets, target_offsets: float32 [..., 2] ≥ 0, distances to start and end.

    Returns:
      float32 [...] in [0, 1].
    """
    intersection = jnp.minimum(offsets, target_offsets).sum(-1)
    return intersection / jnp.maximum(_union(offsets, target_offsets), 1e-6)


def offsets_l1(offsets: jax.Array, target_offsets: jax.Array) -> jax.Array:
    """Computes |start error| + |end error| as a fraction of the union, so that long segments do not weigh more.

    float32 [..., 2], [..., 2] → [...], as `offsets_iou`; for offsets ≥ 0 the result is 1 - IoU.
    """
    distance = jnp.abs(offsets - target_offsets).sum(-1)
    return distance / jnp.maximum(_union(offsets, target_offsets), 1e-6)


def offsets_center(offsets: jax.Array, target_offsets: jax.Array) -> jax.Array:
    """Computes the squared distance of the centres as a fraction of the squared union.

    float32 [..., 2], [..., 2] → [...], as `offsets_iou`. `1 - IoU + center` is the DIoU loss (Zheng et al. 2020): both
    segments contain the point, so their union is also the smallest segment that encloses both. For the same reason
    GIoU is IoU.
    """
    center = lambda x: 0.5 * (x[..., 1] - x[..., 0])
    distance = center(offsets) - center(target_offsets)
    return jnp.square(distance / jnp.maximum(_union(offsets, target_offsets), 1e-6))


def _union(offsets: jax.Array, target_offsets: jax.Array) -> jax.Array:
    """Returns the lengths of the unions: [..., 2], [..., 2] → [...]."""
    return jnp.maximum(offsets, target_offsets).sum(-1)


_BOUNDARY_TERMS = {
    "iou": lambda offsets, targets: 1.0 - offsets_iou(offsets, targets),
    "l1": offsets_l1,
    "center": offsets_center,
}
_LARGEST_FACTOR = 3.4e38  # about the largest float32


def parse_boundary_loss(expression: str) -> list[tuple[float, str]]:
    """Parses a weighted sum: "0.5*l1+1.0*iou" → [(0.5, "l1"), (1.0, "iou")].

    Raises:
      ValueError: A term is unknown, or a factor is not a finite number ≥ 0.
    """
    terms = []
    for term in expression.split("+"):
        factor, star, name = term.strip().rpartition("*")
        if name.strip() not in _BOUNDARY_TERMS:
            raise ValueError(f"{name.strip()!r} is not one of {', '.join(_BOUNDARY_TERMS)}")
        try:
            value = float(factor) if star else 1.0
        except ValueError:
            raise ValueError(f"{factor!r} is not a factor; write such as 0.5*l1+1.0*iou") from None
        if not 0 <= value < _LARGEST_FACTOR:
            raise ValueError(f"the factor {factor} must be finite and at least 0")
        terms.append((value, name.strip()))
    return terms


def boundary_loss(expression: str, offsets: jax.Array, target_offsets: jax.Array) -> jax.Array:
    """Computes a weighted sum of boundary losses, elementwise.

    Args:
      expression: See `parse_boundary_loss`.
      offsets, target_offsets: float32 [..., 2] ≥ 0, distances to start and end in the same unit.

    Returns:
      float32 [...].
    """
    chex.assert_axis_dimension(offsets, -1, 2)
    chex.assert_axis_dimension(target_offsets, -1, 2)
    terms = [
        factor * _BOUNDARY_TERMS[name](offsets, target_offsets)
        for factor, name in parse_boundary_loss(expression)
    ]
    return sum(terms[1:], terms[0])


def masked_mean(values: jax.Array, weights: jax.Array, normalizer: jax.Array | None = None) -> jax.Array:
    """Returns Σ values·weights / normalizer, float32 scalar; 0 where all weights are 0.

    Args:
      values, weights: float32 [...], of shapes that broadcast.
      normalizer: float32 scalar; None = Σ weights, which gives the weighted mean. If the values are only some rows of a
        batch, it is Σ weights of the whole batch: results for all rows then add up to the batch's mean.
    """
    return (values * weights).sum() / ((weights.sum() if normalizer is None else normalizer) + 1e-8)


def matching_loss(logits: jax.Array, mask: jax.Array, same_text: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes CLIP's symmetric cross entropy of M videos against their M texts, ignoring duplicates.

    Args:
      logits: float32 [M, M], row = video, column = text; the diagonal holds the true pairs.
      mask: bool [M], True = real pair.
      same_text: bool [M, M], True where two pairs have the same text: such pairs are not negatives.

    Returns:
      (loss, accuracy of video → text), float32 scalars.
    """
    chex.assert_type([mask, same_text], bool)
    chex.assert_shape([logits, same_text], (len(mask), len(mask)))
    diagonal = jnp.eye(len(mask), dtype=bool)
    excluded = ~mask[None] | ~mask[:, None] | (same_text & ~diagonal)
    logits = jnp.where(excluded & ~diagonal, -1e9, logits)
    labels = jnp.arange(len(mask))
    both = [optax.softmax_cross_entropy_with_integer_labels(x, labels) for x in (logits, logits.T)]
    accuracy = masked_mean((logits.argmax(-1) == labels).astype(jnp.float32), mask.astype(jnp.float32))
    return masked_mean(0.5 * (both[0] + both[1]), mask.astype(jnp.float32)), accuracy
