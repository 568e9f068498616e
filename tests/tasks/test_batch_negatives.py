"""Moment retrieval with all queries of the global batch as negatives: row 3·b + q is query q of video b."""

import jax
import numpy as np
import pytest

from tests.tiny import random_batch, tiny_task
from unloc_jax.localization.decode import Localization
from unloc_jax.localization.targets import assign_targets
from unloc_jax.model.unloc import UnLoc
from unloc_jax.text import tokenize

TASK = tiny_task(loss={"negatives": "batch"})
OWN = tiny_task()


@pytest.fixture
def batch():
    """Video 2 only fills up the batch; the last two frames of video 1 are padding.

    Video 0 asks for three things, video 1 for two, of which "rain" is one that video 0 asks for as well.
    """
    batch = random_batch(TASK.config, videos=3)
    texts = ["cat", "rain", "dog", "rain", "sun", "", "cat", "fire", "stone"]
    tokens = tokenize(texts, 8)
    tokens[5] = 0
    frame_mask = batch.frame_mask.copy()
    frame_mask[1, 6:] = False
    return batch.replace(
        text_tokens=tokens.reshape(3, 3, 8),
        text_mask=np.array([[True] * 3, [True, True, False], [True] * 3]),
        segment_text=np.array([[0, 1, 2], [0, 1, -1], [0, 1, 2]], np.int32),
        frame_mask=frame_mask,
        example_mask=np.array([True, True, False]),
    )


# Of video 0, "rain" of video 1 is not a negative; of video 1, "rain" of video 0. Nobody's: padding, and video 2's.
WEIGHTS = [
    [1, 1, 1, 0, 1, 0, 0, 0, 0],
    [1, 0, 1, 1, 1, 0, 0, 0, 0],
]


def test_which_pairs_count(batch):
    found = np.asarray(TASK.text_weights(batch))
    np.testing.assert_array_equal(found[:2], WEIGHTS)
    np.testing.assert_array_equal(OWN.text_weights(batch), batch.text_mask)


def test_targets_are_a_videos_own(batch):
    found, own = TASK.targets(batch), OWN.targets(batch)
    assert found.relevance.shape == (3, 9, 14) and found.offsets.shape == (3, 9, 14, 2)
    for video in range(3):
        for other in range(3):
            rows = slice(3 * other, 3 * other + 3)
            for x, of_own in zip(found, own):
                np.testing.assert_array_equal(x[video, rows], of_own[video] if other == video else 0)


def test_the_loss_is_its_formula(batch):
    """Every pair of point and query that counts is one term of the mean; boundaries are those of own queries."""
    rng = np.random.default_rng(0)
    found = Localization(
        rng.normal(size=(3, 9, 14)).astype(np.float32), rng.uniform(0, 4, (3, 9, 14, 2)).astype(np.float32)
    )
    parts = jax.device_get(jax.jit(TASK.localization_loss)(found, batch)[1])
    config, positions = TASK.config.loss, TASK.geometry.positions
    own = jax.device_get(assign_targets(batch.segments, batch.segment_text, 3, TASK.geometry, config.radius))
    terms, boundaries = [], []
    for video in range(2):
        for row in np.flatnonzero(WEIGHTS[video]):
            for point in np.flatnonzero(batch.frame_mask[video, positions.astype(int)]):
                is_own = row // 3 == video
                true = is_own and own.relevance[video, row % 3, point] > 0
                p = 1 / (1 + np.exp(-float(found.relevance[video, row, point])))
                p, alpha = (p, config.focal_alpha) if true else (1 - p, 1 - config.focal_alpha)
                terms.append(-alpha * (1 - p) ** config.focal_gamma * np.log(p))
                if true:
                    a, b = found.offsets[video, row, point], own.offsets[video, row % 3, point]
                    boundaries.append(1 - np.minimum(a, b).sum() / np.maximum(a, b).sum())
    assert len(terms) == 4 * 14 + 4 * (6 + 3 + 2) and len(boundaries) > 5
    np.testing.assert_allclose(parts["relevance_loss"], np.mean(terms), rtol=1e-5)
    np.testing.assert_allclose(parts["boundary_loss"], np.mean(boundaries), rtol=1e-5)
    np.testing.assert_allclose(
        parts["loss"], config.relevance_weight * np.mean(terms) + np.mean(boundaries), rtol=1e-5
    )


def test_through_the_whole_model(batch, moment_retrieval):
    """Every video meets every query: what is its own does not change, and what fills up is not seen."""
    params = moment_retrieval[1]
    rng = jax.random.key(0)

    @jax.jit
    def relevance(batch):
        localize = lambda task: (
            task.apply(
                params,
                UnLoc.localize,
                task.apply(params, UnLoc.encode_video, batch.inputs),
                batch.frame_mask,
                task.text_features(params, batch, rng),
            ).relevance
        )
        return localize(TASK), localize(OWN), TASK.loss(params, batch, rng)[0]

    of_all, own, value = jax.device_get(relevance(batch))
    for video in range(3):
        np.testing.assert_allclose(of_all[video, 3 * video : 3 * video + 3], own[video], rtol=1e-3, atol=1e-4)
    other = random_batch(TASK.config, seed=5, videos=3)
    tokens, frames = batch.text_tokens.copy(), batch.frames.copy()
    tokens[2], tokens[1, 2], frames[2] = other.text_tokens[2], other.text_tokens[1, 2], other.frames[2]
    assert relevance(batch.replace(text_tokens=tokens, frames=frames))[2] == value
    tokens[1, 1] = other.text_tokens[1, 1]
    assert abs(relevance(batch.replace(text_tokens=tokens))[2] - value) > 1e-5
