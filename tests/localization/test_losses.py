"""Each loss next to its formula, on segments instead of offsets where there are any."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unloc_jax.localization.losses import (
    boundary_loss,
    masked_mean,
    matching_loss,
    offsets_iou,
    parse_boundary_loss,
    relevance_loss,
    smooth_labels,
)
from unloc_jax.metrics.tiou import segment_iou


@jax.jit
def contrastive(video, text, mask, same_text, scale):
    return matching_loss(scale * video @ text.T, mask, same_text)


def test_focal_loss_is_its_formula():
    logits = np.linspace(-6, 6, 25)[:, None].repeat(2, axis=1)
    targets = np.array([0.0, 1.0])
    alpha, gamma = 0.3, 1.5
    p = 1 / (1 + np.exp(-logits))
    # Lin et al. 2017, equation 5, of the true class' probability.
    expected = np.stack([-(1 - alpha) * p[:, 0] ** gamma * np.log(1 - p[:, 0]),
                         -alpha * (1 - p[:, 1]) ** gamma * np.log(p[:, 1])], axis=1)  # fmt: skip
    found = relevance_loss(jnp.asarray(logits), jnp.asarray(targets), "focal", alpha=alpha, gamma=gamma)
    np.testing.assert_allclose(found, expected, rtol=1e-3)  # 1 - p of a p near 1 has few digits


@pytest.mark.parametrize("kind", ["sigmoid", "focal"])
def test_losses_of_smoothed_labels(kind):
    """The cross entropy with a target between 0 and 1; focal: weighted by how surprising the target is."""
    logits, targets = np.linspace(-5, 5, 21)[:, None], np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    p = 1 / (1 + np.exp(-logits))
    expected = -targets * np.log(p) - (1 - targets) * np.log(1 - p)
    if kind == "focal":
        expected = (0.3 * targets + 0.7 * (1 - targets)) * (1 - np.exp(-expected)) ** 1.5 * expected
    found = relevance_loss(jnp.asarray(logits), jnp.asarray(targets), kind, alpha=0.3, gamma=1.5)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", ["sigmoid", "focal"])
def test_large_logits_are_finite(kind):
    logits, targets = jnp.array([-200.0, -200.0, 200.0, 200.0]), jnp.array([0.0, 1.0, 0.0, 1.0])
    value, gradient = jax.value_and_grad(lambda x: relevance_loss(x, targets, kind).sum())(logits)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert gradient[1] < 0 < gradient[2]


def test_smoothed_labels():
    found = smooth_labels(jnp.array([0.0, 1.0]), 0.2)
    np.testing.assert_allclose(found, [0.1, 0.9], rtol=1e-6)
    np.testing.assert_array_equal(smooth_labels(jnp.array([0.0, 1.0]), 0.0), [0, 1])
    # The usual formula (Szegedy et al. 2016) for a choice of two.
    both = optax.smooth_labels(jnp.eye(2), 0.2)
    np.testing.assert_allclose(found, both[:, 1], rtol=1e-6)


def test_offsets_iou_is_the_iou_of_the_segments():
    rng = np.random.default_rng(0)
    offsets, target = rng.uniform(0, 5, (2, 50, 2))
    point = rng.uniform(0, 100, 50)
    segments = [np.stack([point - x[:, 0], point + x[:, 1]], axis=-1) for x in (offsets, target)]
    expected = [segment_iou(a, b) for a, b in zip(*segments, strict=True)]
    np.testing.assert_allclose(offsets_iou(jnp.asarray(offsets), jnp.asarray(target)), expected, rtol=1e-5)


RNG = np.random.default_rng(3)
OFFSETS, TARGET_OFFSETS = RNG.uniform(0, 5, (2, 50, 2))
POINT = RNG.uniform(0, 100, 50)


def boundary_terms() -> dict[str, np.ndarray]:
    """Of the segments themselves, by their definitions."""
    (start, end), (true_start, true_end) = (
        (POINT - x[:, 0], POINT + x[:, 1]) for x in (OFFSETS, TARGET_OFFSETS)
    )
    overlap = np.minimum(end, true_end) - np.maximum(start, true_start)
    union = (end - start) + (true_end - true_start) - overlap
    hull = np.maximum(end, true_end) - np.minimum(start, true_start)
    center = ((start + end) - (true_start + true_end)) / 2
    return {
        "iou": 1 - overlap / union,
        "l1": (abs(start - true_start) + abs(end - true_end)) / union,
        "center": (center / hull) ** 2,
    }


@pytest.mark.parametrize(
    ("expression", "factors"),
    [
        ("iou", {"iou": 1}),
        ("l1", {"l1": 1}),
        ("center", {"center": 1}),
        ("0.5*l1+2*iou", {"l1": 0.5, "iou": 2}),
        (" 1e-1 * center + l1 ", {"center": 0.1, "l1": 1}),
        ("iou+center", {"iou": 1, "center": 1}),  # DIoU: Zheng et al. 2020, equation 7
    ],
)
def test_boundary_losses_are_those_of_the_segments(expression, factors):
    expected = sum(factor * boundary_terms()[name] for name, factor in factors.items())
    found = boundary_loss(expression, jnp.asarray(OFFSETS), jnp.asarray(TARGET_OFFSETS))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert sorted(parse_boundary_loss(expression)) == sorted((f, name) for name, f in factors.items())


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("giou", "'giou' is not one of iou, l1, center"),
        ("iou+", "'' is not one of"),
        ("2*", "'' is not one of"),
        ("two*iou", r"'two' is not a factor; write such as 0\.5\*l1\+1\.0\*iou"),
        ("*iou", "'' is not a factor"),
    ],
)
def test_boundary_losses_that_are_none(expression, message):
    with pytest.raises(ValueError, match=message):
        parse_boundary_loss(expression)


@pytest.mark.parametrize("name", ["iou", "l1", "center"])
def test_boundary_losses_and_their_gradients_are_finite_where_nothing_is_relevant(name):
    for offsets in (jnp.zeros(2), jnp.array([1.0, 2.0])):
        value, gradient = jax.value_and_grad(lambda x: boundary_loss(name, x, jnp.zeros(2)))(offsets)
        assert np.isfinite(value) and np.isfinite(gradient).all()
    value, gradient = jax.value_and_grad(lambda x: boundary_loss(name, x, x))(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(value, 0, atol=1e-6)


def test_offsets_iou_and_its_gradient_are_finite_where_nothing_is_relevant():
    value, gradient = jax.value_and_grad(lambda x: offsets_iou(x, jnp.zeros(2)))(jnp.zeros(2))
    assert value == 0 and np.isfinite(gradient).all()


def test_masked_mean():
    values, weights = jnp.array([1.0, 2.0, 7.0]), jnp.array([1.0, 1.0, 0.0])
    np.testing.assert_allclose(masked_mean(values, weights), 1.5, rtol=1e-6)
    assert masked_mean(values, jnp.zeros(3)) == 0


def unit(rng, *shape):
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def contrastive_by_hand(video, text, negatives, scale):
    """Symmetric cross entropy of every pair, with only the allowed negatives [M, M] in its denominators."""
    logits = scale * video.astype(np.float64) @ text.T.astype(np.float64)
    log_sum = lambda x, i, allowed: np.log(np.exp(x[allowed | (np.arange(len(x)) == i)]).sum())
    pairs = range(len(video))
    rows = [log_sum(logits[i], i, negatives[i]) - logits[i, i] for i in pairs]
    columns = [log_sum(logits[:, i], i, negatives[:, i]) - logits[i, i] for i in pairs]
    return 0.5 * (np.array(rows) + np.array(columns))


def test_contrastive_loss_knows_duplicates_and_padding():
    rng = np.random.default_rng(0)
    video, text = unit(rng, 6, 8), unit(rng, 6, 8)
    mask = np.array([1, 1, 1, 1, 0, 1], bool)
    same_text = np.eye(6, dtype=bool)
    same_text[0, 3] = same_text[3, 0] = True
    loss, accuracy = contrastive(video, text, mask, same_text, jnp.float32(4.0))
    expected = contrastive_by_hand(video, text, ~same_text & mask & mask[:, None], 4.0)[mask].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)

    plain, _ = contrastive(video, text, mask, np.eye(6, dtype=bool), jnp.float32(4.0))
    assert loss < plain  # fewer negatives
    changed = video.copy(), text.copy()
    changed[0][4], changed[1][4] = unit(rng, 8), unit(rng, 8)
    assert contrastive(*changed, mask, same_text, jnp.float32(4.0)) == (loss, accuracy)


def test_contrastive_accuracy_counts_real_pairs():
    pairs = np.eye(4, dtype=np.float32)
    found = pairs[[0, 2, 1, 3]]  # pairs 1 and 2 are mixed up
    same, scale = np.eye(4, dtype=bool), jnp.float32(10.0)
    accuracy = lambda mask: contrastive(pairs, found, np.array(mask, bool), same, scale)[1]
    np.testing.assert_allclose(accuracy([1, 1, 1, 1]), 0.5)
    np.testing.assert_allclose(accuracy([1, 1, 0, 1]), 2 / 3)


def test_matching_loss_takes_any_logits():
    """Rows are videos, columns texts."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (5, 5)).astype(np.float32)
    mask = np.array([1, 1, 0, 1, 1], bool)
    same_text = np.eye(5, dtype=bool)
    same_text[1, 4] = same_text[4, 1] = True
    loss, accuracy = matching_loss(jnp.asarray(logits), mask, same_text)
    allowed = ~same_text & mask & mask[:, None] | np.eye(5, dtype=bool)
    log_softmax = lambda x: x - np.log(np.where(allowed, np.exp(x), 0).sum(1, keepdims=True))
    rows, columns = (
        np.diag(log_softmax(logits.astype(np.float64))),
        np.diag(log_softmax(logits.T.astype(np.float64))),
    )
    np.testing.assert_allclose(loss, -0.5 * (rows + columns)[mask].mean(), rtol=1e-5)
    right = [np.where(allowed[i], logits[i], -np.inf).argmax() == i for i in np.flatnonzero(mask)]
    np.testing.assert_allclose(accuracy, np.mean(right), rtol=1e-5)
    transposed = matching_loss(jnp.asarray(logits.T), mask, same_text)[0]
    np.testing.assert_allclose(transposed, loss, rtol=1e-6)  # both ways count alike
