import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.fusion import Fusion, sinusoid_positions

B, N, T, L, D = 2, 3, 6, 4, 8


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def features(seed: int = 0) -> TextFeatures:
    mask = np.ones((B, N, L), bool)
    mask[:, 1, 2:] = False
    return TextFeatures(normal(seed, B, N, L, D), mask, normal(seed + 1, B, N, D))


@pytest.fixture(scope="module", params=[False, True], ids=["sentence", "all_text_tokens"])
def fusion(request):
    """(video, frame_mask, text) → [B, N, T, D]."""
    module = Fusion(num_layers=2, num_heads=2, mlp_dim=16, all_text_tokens=request.param)
    video, mask = normal(9, B, T, D), np.ones((B, T), bool)
    params = jax.jit(module.init)(jax.random.key(0), video, mask, features())
    apply = jax.jit(module.apply)
    run = lambda *arguments: np.asarray(apply(params, *arguments))
    return request.param, run, video, mask


def test_frames_and_texts_are_seen(fusion):
    all_tokens, run, video, mask = fusion
    before = run(video, mask, features())
    assert before.shape == (B, N, T, D)
    changed_frames = lambda after: (abs(after - before).max(-1) > 1e-4).any(-1)  # [B, N]
    text = features()
    tokens, sentence = text.tokens.copy(), text.sentence.copy()
    (tokens if all_tokens else sentence)[0, 2] *= -1
    after = run(video, mask, text.replace(tokens=tokens, sentence=sentence))
    np.testing.assert_array_equal(changed_frames(after), [[False, False, True], [False, False, False]])

    # One frame is seen by the others.
    video = video.copy()
    video[1, 0] *= -1
    after = run(video, mask, text)
    np.testing.assert_array_equal((abs(after - before).max(-1) > 1e-4).all((1, 2)), [False, True])


def test_padded_frames_are_not_seen(fusion):
    _, run, video, mask = fusion
    mask = mask.copy()
    mask[0, 4:] = False
    changed = video.copy()
    changed[0, 4:] = 100
    before, after = run(video, mask, features()), run(changed, mask, features())
    np.testing.assert_array_equal(before[0, :, :4], after[0, :, :4])
    np.testing.assert_array_equal(before[1], after[1])


def test_padded_words_are_not_seen(fusion):
    _, run, video, mask = fusion
    text = features()
    changed = text.replace(tokens=np.where(text.mask[..., None], text.tokens, 100).astype(np.float32))
    np.testing.assert_array_equal(run(video, mask, text), run(video, mask, changed))


def test_shared_texts_equal_texts_per_video(fusion):
    _, run, video, mask = fusion
    shared = jax.tree.map(lambda leaf: leaf[:1], features())
    per_video = jax.tree.map(lambda leaf: leaf.repeat(B, axis=0), shared)
    np.testing.assert_allclose(run(video, mask, shared), run(video, mask, per_video), rtol=1e-5, atol=1e-5)


def test_positions():
    table = sinusoid_positions(5, 8)
    np.testing.assert_array_equal(table[0], [0, 0, 0, 0, 1, 1, 1, 1])
    # Frequencies from 1 down to 1 / 10,000.
    np.testing.assert_allclose(
        table[3, [0, 3, 4, 7]], [np.sin(3), np.sin(3e-4), np.cos(3), np.cos(3e-4)], rtol=1e-5
    )
    assert jnp.asarray(table).dtype == jnp.float32
