import jax
import jax.numpy as jnp
import numpy as np

from unloc_jax.localization.losses import contrastive_loss, focal_loss, masked_mean, offsets_iou
from unloc_jax.metrics.tiou import segment_iou

contrastive = jax.jit(contrastive_loss)


def test_focal_loss_is_its_formula():
    logits = np.linspace(-6, 6, 25)[:, None].repeat(2, axis=1)
    targets = np.array([0.0, 1.0])
    alpha, gamma = 0.3, 1.5
    p = 1 / (1 + np.exp(-logits))
    # Lin et al. 2017, equation 5, of the true class' probability.
    expected = np.stack([-(1 - alpha) * p[:, 0] ** gamma * np.log(1 - p[:, 0]),
                         -alpha * (1 - p[:, 1]) ** gamma * np.log(p[:, 1])], axis=1)  # fmt: skip
    np.testing.assert_allclose(
        focal_loss(jnp.asarray(logits), jnp.asarray(targets), alpha, gamma), expected, rtol=1e-4
    )


def test_offsets_iou_is_the_iou_of_the_segments():
    rng = np.random.default_rng(0)
    offsets, target = rng.uniform(0, 5, (2, 50, 2))
    point = rng.uniform(0, 100, 50)
    segments = [np.stack([point - x[:, 0], point + x[:, 1]], axis=-1) for x in (offsets, target)]
    expected = [segment_iou(a, b) for a, b in zip(*segments, strict=True)]
    np.testing.assert_allclose(offsets_iou(jnp.asarray(offsets), jnp.asarray(target)), expected, rtol=1e-5)


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


def contrastive_by_hand(video, text, negatives, temperature):
    """Symmetric cross entropy of every pair, with only the allowed negatives [M, M] in its denominators."""
    logits = temperature * video.astype(np.float64) @ text.T.astype(np.float64)
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
    same, temperature = np.eye(4, dtype=bool), jnp.float32(10.0)
    accuracy = lambda mask: contrastive(pairs, found, np.array(mask, bool), same, temperature)[1]
    np.testing.assert_allclose(accuracy([1, 1, 1, 1]), 0.5)
    np.testing.assert_allclose(accuracy([1, 1, 0, 1]), 2 / 3)
