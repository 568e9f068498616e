"""Non-maximum suppression of temporal segments, written for the device: batched, whatever the leading axes."""

import dataclasses

import jax
import jax.numpy as jnp

_PROMISING = 1024  # candidates that are looked at first; see `suppress`

Found = tuple[jax.Array, jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True)
class NMS:
    """How overlapping candidates are treated.

    Attributes:
      max_detections: K ≥ 1.
      kind: what an overlapping candidate's score is multiplied by: "gaussian" (Bodla et al. 2017),
        exp(-IoU² / (2·sigma)) as TensorFlow and the reference have it (OpenTAD and ActionFormer lack the 2: their sigma
        is twice this one); "linear", 1 - IoU from iou_threshold on; "hard", 0 from iou_threshold on.
      sigma: > 0, of "gaussian".
      iou_threshold: of the others.
      score_threshold: a candidate whose (lowered) score is at or below this is never taken.
      voting_threshold: see `vote`; 0 = no voting.
      voting_by_overlap: see `vote`.
    """

    max_detections: int
    kind: str = "gaussian"
    sigma: float = 0.3
    iou_threshold: float = 0.5
    score_threshold: float = 0.001
    voting_threshold: float = 0.0
    voting_by_overlap: bool = False


def suppress(segments: jax.Array, scores: jax.Array, settings: NMS) -> Found:
    """Repeatedly takes the best candidate and lowers the scores of those that overlap it.

    All leading axes are independent problems that run together: one step per detection, whatever the batch. Of many
    candidates the best 1024 are looked at first: scores only fall, so if the last one taken still beats all that were
    left out, the result is that of all candidates; if it does not (for any problem), all are looked at.

    Args:
      segments: float32 [..., P, 2], start and end in any unit.
      scores: float32 [..., P].
      settings: static.

    Returns:
      (segments [..., K, 2], scores [..., K], index [..., K] into P), best first. Rows that fill up have
      score 0, segment (0, 0) and index 0.
    """
    found = _suppress(segments, scores, settings)
    if not settings.voting_threshold:
        return found
    moved = vote(found[0], segments, scores, settings.voting_threshold, settings.voting_by_overlap)
    return jnp.where(found[1][..., None] > 0, moved, 0.0), *found[1:]


def _suppress(segments: jax.Array, scores: jax.Array, settings: NMS) -> Found:
    of_all = lambda: _take(segments, scores, settings)
    count = max(_PROMISING, 4 * settings.max_detections)
    if scores.shape[-1] <= count:
        return of_all()
    best, place = jax.lax.top_k(scores, count)
    promising = jnp.take_along_axis(segments, place[..., None], axis=-2)
    first, score, index = _take(promising, best, settings)
    index = jnp.where(score > 0, jnp.take_along_axis(place, index, axis=-1), 0)
    left_out = best[..., -1]  # no candidate that was left out is better
    last = jnp.where(score[..., -1] > 0, score[..., -1], settings.score_threshold)
    exact = jnp.all((left_out < last) | (left_out <= settings.score_threshold))
    return jax.lax.cond(exact, lambda: (first, score, index), of_all)


def _take(segments: jax.Array, scores: jax.Array, settings: NMS) -> Found:
    start, end = segments[..., 0], segments[..., 1]
    length = end - start

    def take_best(remaining, _):
        best = _first_of_highest(remaining)
        pick = lambda x: jnp.take_along_axis(x, best, -1)
        score, first, last = pick(remaining), pick(start), pick(end)
        overlap = jnp.maximum(jnp.minimum(end, last) - jnp.maximum(start, first), 0.0)
        union = length + (last - first) - overlap
        iou = jnp.where(union > 0, overlap / jnp.where(union > 0, union, 1.0), 0.0)
        if settings.kind == "gaussian":
            factor = jnp.exp(-0.5 * iou**2 / settings.sigma)
        else:
            overlapping = 0.0 if settings.kind == "hard" else 1.0 - iou
            factor = jnp.where(iou >= settings.iou_threshold, overlapping, 1.0)
        valid = score > settings.score_threshold
        taken = jnp.arange(remaining.shape[-1]) == best
        lowered = jnp.where(taken, -1.0, remaining * factor)
        found = [jnp.where(valid, x, 0)[..., 0] for x in (first, last, score, best)]
        return lowered, tuple(found)

    _, (first, last, score, index) = jax.lax.scan(take_best, scores, None, length=settings.max_detections)
    first, last, score, index = (jnp.moveaxis(x, 0, -1) for x in (first, last, score, index))
    return jnp.stack([first, last], axis=-1), score, index.astype(jnp.int32)


def _first_of_highest(x: jax.Array) -> jax.Array:
    """`argmax` along the last axis, kept, in two maxima: many times faster on a CPU, whose argmax is not vectorised."""
    places = jnp.arange(x.shape[-1], dtype=jnp.float32)  # exact below 2^24
    highest = x == x.max(-1, keepdims=True)
    return -jnp.where(highest, -places, -jnp.inf).max(-1, keepdims=True).astype(jnp.int32)


def vote(
    found: jax.Array, segments: jax.Array, scores: jax.Array, iou_threshold: float, by_overlap: bool
) -> jax.Array:
    """Moves found segments to the weighted mean of the candidates around them ("segment voting").

    Args:
      found: float32 [..., K, 2], after suppression.
      segments, scores: float32 [..., P, 2] and [..., P], the candidates as they were before it.
      iou_threshold: candidates with at least this IoU have a vote, > 0.
      by_overlap: weights are score · IoU (ActionFormer), instead of the score alone (OpenTAD).

    Returns:
      float32 [..., K, 2]; a segment without votes stays where it is.
    """

    def one(segment: jax.Array) -> jax.Array:  # [..., 2], one of the K at a time: K·P overlaps need not fit
        first, last = segment[..., 0:1], segment[..., 1:2]
        start, end = segments[..., 0], segments[..., 1]
        overlap = jnp.maximum(jnp.minimum(end, last) - jnp.maximum(start, first), 0.0)
        union = (end - start) + (last - first) - overlap
        iou = jnp.where(union > 0, overlap / jnp.where(union > 0, union, 1.0), 0.0)
        weight = jnp.where(iou >= iou_threshold, scores * iou if by_overlap else scores, 0.0)
        total = weight.sum(-1, keepdims=True)
        mean = (weight[..., None] * segments).sum(-2) / jnp.where(total > 0, total, 1.0)
        return jnp.where(total > 0, mean, segment)

    return jnp.moveaxis(jax.lax.map(one, jnp.moveaxis(found, -2, 0)), 0, -2)
