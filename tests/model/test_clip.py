import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest

from unloc_jax.config import ImageTowerConfig, TextTowerConfig
from unloc_jax.model.clip import PIXEL_MEAN, PIXEL_STD, ConvStem, ImageTower, TextFeatures, TextTower
from unloc_jax.text import tokenize

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 5, 16, 24, 3), np.uint8)


def random_like(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(leaf.dtype), shapes)


def image_tower(temporal_kernel: int = 1, **change):
    sizes = {"width": 16, "num_layers": 1, "num_heads": 2, "patch_size": 8}
    tower = ImageTower(ImageTowerConfig(**sizes, temporal_kernel=temporal_kernel, **change))
    params = random_like(jax.eval_shape(tower.init, jax.random.key(0), FRAMES))
    return tower, params, jax.jit(tower.apply)


@pytest.fixture(scope="module")
def one_frame():
    return image_tower(1)


@pytest.fixture(scope="module")
def three_frames():
    return image_tower(3)


def test_patches_equal_a_strided_convolution(one_frame):
    """The layout of CLIP's first layer: a convolution of normalised pixels."""
    tower, params, _ = one_frame
    _, state = tower.apply(
        params, FRAMES, capture_intermediates=lambda module, _: module.name == "patch_embedding"
    )
    found = state["intermediates"]["patch_embedding"]["__call__"][0]

    # Mean and deviation as OpenAI published them.
    pixels = (FRAMES / 255 - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    kernel = params["params"]["patch_embedding"]["kernel"].reshape(8, 8, 3, 16)
    convolution = nn.Conv(16, (8, 8), (8, 8), use_bias=False)
    expected = convolution.apply({"params": {"kernel": kernel}}, pixels.astype(np.float32))
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-4, atol=1e-4)


def changed_tokens(tower, frame: int) -> list[int]:
    """The frames whose token changes with one frame's pixels."""
    _, params, apply = tower
    changed = FRAMES.copy()
    changed[:, frame] = 255 - changed[:, frame]
    difference = abs(np.asarray(apply(params, FRAMES)) - np.asarray(apply(params, changed))).max(-1)
    differs = difference > 1e-4
    np.testing.assert_array_equal(differs[0], differs[1])
    return np.flatnonzero(differs[0]).tolist()


def test_every_frame_alone(one_frame):
    assert changed_tokens(one_frame, 2) == [2]
    assert one_frame[2](one_frame[1], FRAMES).shape == (2, 5, 16)


def test_three_frames_see_their_neighbours(three_frames):
    assert [changed_tokens(three_frames, frame) for frame in (0, 2, 4)] == [[0, 1], [1, 2, 3], [3, 4]]


def test_what_stands_still_vanishes():
    """With subtract_mean the tower sees pixels minus their mean over the real frames; padding changes nothing."""
    tower, params, apply = image_tower(3, subtract_mean=True)
    normal = (FRAMES / 255 - np.array(PIXEL_MEAN)) / np.array(PIXEL_STD)
    moving = (normal - normal.mean(1, keepdims=True)).astype(np.float32)
    plain = ImageTower(dataclasses.replace(tower.config, subtract_mean=False))
    found = np.asarray(apply(params, FRAMES))
    np.testing.assert_allclose(found, plain.apply(params, moving), rtol=1e-4, atol=1e-4)
    picture = np.random.default_rng(1).normal(size=normal.shape[2:])
    np.testing.assert_allclose(
        apply(params, (normal + picture).astype(np.float32)), found, rtol=1e-3, atol=1e-3
    )

    padded = np.concatenate([FRAMES, np.full_like(FRAMES[:, :3], 200)], 1)
    mask = np.arange(8) < np.array([[5], [5]])
    np.testing.assert_allclose(apply(params, padded, mask)[:, :5], found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_the_stem_sees_the_same_everywhere(num_layers):
    stride, width = 2**num_layers, 16
    stem = ConvStem(num_layers, width, np.float32)
    pixels = np.random.default_rng(0).normal(size=(2, 3, 48, 64, 9)).astype(np.float32)
    params = random_like(jax.eval_shape(stem.init, jax.random.key(0), pixels))
    maps = np.asarray(stem.apply(params, pixels))
    assert maps.shape == (2, 3, 48 // stride, 64 // stride, width)
    moved = stem.apply(params, np.roll(pixels, stride, axis=3))
    inside = slice(3, -3)  # away from the borders
    np.testing.assert_allclose(moved[..., inside, 4:-2, :], maps[..., inside, 3:-3, :], rtol=1e-3, atol=1e-4)


def test_a_tower_with_a_stem():
    """As many tokens as without, and a frame sees its neighbours through the stem."""
    tower = image_tower(3, conv_stem=2)
    assert tower[1]["params"]["patch_embedding"]["kernel"].shape == (2 * 2 * 8, 16)
    assert changed_tokens(tower, 2) == [1, 2, 3]


def test_three_frames_with_zero_weights_for_the_outer_ones_is_clip(one_frame, three_frames):
    _, params, apply = one_frame
    kernel = params["params"]["patch_embedding"]["kernel"]
    wide = np.concatenate([0 * kernel, kernel, 0 * kernel])
    wide_params = {"params": params["params"] | {"patch_embedding": {"kernel": wide}}}
    np.testing.assert_allclose(
        three_frames[2](wide_params, FRAMES), apply(params, FRAMES), rtol=1e-4, atol=1e-4
    )


def test_a_still_video_has_equal_frames_up_to_its_ends(three_frames):
    _, params, apply = three_frames
    tokens = np.asarray(apply(params, FRAMES[:, :1].repeat(5, axis=1)))
    np.testing.assert_allclose(tokens, tokens[:, :1].repeat(5, axis=1), rtol=1e-4, atol=1e-5)


def test_normalised_frames_are_taken_as_they_are(one_frame):
    _, params, apply = one_frame
    normalised = ((FRAMES / 255 - PIXEL_MEAN) / PIXEL_STD).astype(np.float32)
    np.testing.assert_allclose(apply(params, normalised), apply(params, FRAMES), rtol=1e-4, atol=1e-4)
    assert abs(np.asarray(apply(params, FRAMES.astype(np.float32)) - apply(params, FRAMES))).max() > 0.1


def test_a_frame_is_its_class_token_or_the_mean_of_its_patches(one_frame):
    """6 patches, after the last LayerNorm."""
    for tower, params, _ in (one_frame, image_tower(pooling="mean")):
        is_mean = tower.config.pooling == "mean"
        assert ("class_embedding" in params["params"]) == (not is_mean)
        assert params["params"]["position_embedding"].shape == (6 if is_mean else 7, 16)
        wanted = lambda module, _: module.name in ("transformer", "norm_out")
        found, state = tower.apply(params, FRAMES, capture_intermediates=wanted)
        tokens, normed = (state["intermediates"][name]["__call__"][0] for name in ("transformer", "norm_out"))
        assert tokens.shape == (10, 6 if is_mean else 7, 16)
        scale, bias = (params["params"]["norm_out"][name] for name in ("scale", "bias"))
        x = np.asarray(tokens, np.float64)
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale + bias
        expected = x.mean(1) if is_mean else x[:, 0]
        np.testing.assert_allclose(found.reshape(10, 16), expected, rtol=1e-3, atol=1e-4)
        assert normed.shape == ((10, 6, 16) if is_mean else (10, 16))


def test_a_class_token_per_frame(one_frame):
    _, params, apply = one_frame
    _, per_frame_params, per_frame = image_tower(class_token_per_frame=True)
    one = params["params"]["class_embedding"]
    assert (one.shape, per_frame_params["params"]["class_embedding"].shape) == ((16,), (5, 16))
    with_rows = lambda rows: {"params": params["params"] | {"class_embedding": rows}}
    expected = np.asarray(apply(params, FRAMES))
    np.testing.assert_allclose(
        per_frame(with_rows(np.tile(one, (5, 1))), FRAMES), expected, rtol=1e-4, atol=1e-4
    )
    rows = np.tile(one, (5, 1))
    rows[3] *= -1
    changed = abs(np.asarray(per_frame(with_rows(rows), FRAMES)) - expected).max((0, 2)) > 1e-3
    np.testing.assert_array_equal(changed, [False, False, False, True, False])


@pytest.fixture(scope="module")
def text_tower():
    tower = TextTower(TextTowerConfig(width=16, num_layers=2, num_heads=2, max_tokens=12))
    params = random_like(jax.eval_shape(tower.init, jax.random.key(0), np.zeros((1, 12), np.int32)))
    return params, jax.jit(tower.apply)


TEXTS = ["a cat", "a dog runs after a ball"]


def test_text_features(text_tower):
    params, apply = text_tower
    with jax.disable_jit():  # compiled, the sentence's own LayerNorm may be rounded in another way
        features = apply(params, tokenize(TEXTS, 12).reshape(2, 1, 12))
    assert features.tokens.shape == (2, 1, 12, 16) and features.sentence.shape == (2, 1, 16)
    np.testing.assert_array_equal(features.mask.sum(-1), [[4], [8]])  # words, start and end
    for row, end in enumerate((3, 7)):
        np.testing.assert_array_equal(features.sentence[row, 0], features.tokens[row, 0, end])


def test_padding_of_a_text_does_not_matter(text_tower):
    params, apply = text_tower
    short, long = apply(params, tokenize(TEXTS, 8)), apply(params, tokenize(TEXTS, 12))
    np.testing.assert_allclose(short.sentence, long.sentence, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(short.tokens, long.tokens[:, :8], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(short.mask, long.mask[:, :8])
    assert not long.mask[:, 8:].any()


def test_a_word_is_seen_by_those_after_it(text_tower):
    params, apply = text_tower
    first, second = np.asarray(apply(params, tokenize(["a black cat jumps", "a white cat jumps"], 12)).tokens)
    differs = abs(first - second).max(-1) > 1e-4
    np.testing.assert_array_equal(differs[:6], [False, False, True, True, True, True])


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_what_stands_for_a_text(text_tower, pooling):
    """The end token: see test_text_features."""
    params, apply = text_tower
    tokens = tokenize(TEXTS, 12)
    other = TextTower(
        TextTowerConfig(width=16, num_layers=2, num_heads=2, max_tokens=12, pooling=pooling)
    ).apply(params, tokens)
    expected = apply(params, tokens)
    np.testing.assert_allclose(other.tokens, expected.tokens, rtol=1e-4, atol=1e-5)
    words = np.asarray(expected.tokens, np.float64)
    wanted = [
        words[row, 0] if pooling == "first" else words[row, :count].mean(0) for row, count in ((0, 4), (1, 8))
    ]
    np.testing.assert_allclose(other.sentence, wanted, rtol=1e-4, atol=1e-5)


def test_given_embeddings_are_texts_of_one_token():
    embeddings = np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32)
    features = TextFeatures.from_embeddings(embeddings)
    np.testing.assert_array_equal(features.tokens, embeddings[:, :, None])
    np.testing.assert_array_equal(features.sentence, embeddings)
    assert features.mask.shape == (2, 3, 1) and features.mask.all()
