"""VideoPrism as a model's towers: the same numbers as its features, however it is run; windows and word pieces."""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.pretrained.videoprism_tools import SIZES, TEXT_SIZES, tensors, vocabulary, write
from tests.tiny import VIDEOPRISM, random_batch, random_params, random_tree, tiny_config, tiny_task
from unloc_jax.config import ModalityConfig, TextTowerConfig
from unloc_jax.config.towers import ENCODERS, text_tower, video_tower
from unloc_jax.errors import UserError
from unloc_jax.features.embed_videos import embed_frames
from unloc_jax.features.videoprism_encoder import VideoPrismEncoder
from unloc_jax.model.towers import TOWERS
from unloc_jax.model.transformer import ComputeOptions
from unloc_jax.model.videoprism import VideoPrism
from unloc_jax.model.videoprism_tower import VideoPrismTextTower, VideoPrismTower
from unloc_jax.piece_text import PieceTokens
from unloc_jax.pretrained.videoprism import read_videoprism


def frames_of(config, batch: int, time: int, seed: int = 0) -> np.ndarray:
    side = config.patch_size * config.grid[0]
    return np.random.default_rng(seed).integers(0, 256, (batch, time, side, side, 3), np.uint8)


def without_text(config, params):
    return dataclasses.replace(config, text=None), {k: v for k, v in params.items() if k != "text"}


@pytest.mark.parametrize("sizes", [SIZES, TEXT_SIZES], ids=["video", "video and text"])
@pytest.mark.parametrize("time", [5, 13, 30])
def test_frames_get_the_rows_of_unloc_features(sizes, time, tmp_path):
    weights = read_videoprism(str(write(tmp_path / "w.npz", tensors(sizes))))
    video = frames_of(weights.config, 1, time)[0]
    rows = embed_frames(VideoPrismEncoder(weights), video, 1.0, 1.0).features
    config, params = without_text(weights.config, weights.params)
    tower = VideoPrismTower(config, window=config.num_frames, overlap=config.num_frames // 2)
    np.testing.assert_allclose(tower.apply({"params": params}, video[None])[0], rows, atol=2e-6)


def encoded(sizes, frames, mask=None, *, compute=ComputeOptions(), **windows):  # noqa: B008
    params = random_tree(
        jax.eval_shape(VideoPrismTower(sizes).init, jax.random.key(0), frames[:, :1])["params"]
    )
    return VideoPrismTower(sizes, compute, **windows).apply({"params": params}, frames, mask), params


def test_windows_do_not_see_each_other_and_the_last_one_ends_with_the_video():
    sizes, _ = without_text(TEXT_SIZES, {})
    frames = frames_of(sizes, 2, 8)
    found, params = encoded(sizes, frames, window=3)
    alone = lambda part: VideoPrism(sizes).apply({"params": params}, part, method="encode_videos").frames
    np.testing.assert_allclose(found[:, :3], alone(frames[:, :3]), atol=2e-6)
    np.testing.assert_allclose(found[:, 3:6], alone(frames[:, 3:6]), atol=2e-6)
    # Frames 5 … 7 are the last window; its middle one is farther from the border than in the one before.
    np.testing.assert_allclose(found[:, 6:], alone(frames[:, 5:])[:, 1:], atol=2e-6)
    # Fewer frames than a window are one, with interpolated times.
    np.testing.assert_allclose(encoded(sizes, frames, window=9)[0], alone(frames), atol=2e-6)


def test_padding_shows_the_last_real_frame():
    sizes, _ = without_text(TEXT_SIZES, {})
    frames, mask = frames_of(sizes, 2, 6), np.array([[True] * 4 + [False] * 2, [True] * 6])
    found, _ = encoded(sizes, frames, mask, window=3)
    repeated = frames.copy()
    repeated[0, 4:] = frames[0, 3]
    np.testing.assert_allclose(found, encoded(sizes, repeated, window=3)[0], atol=2e-6)


@pytest.mark.parametrize(("remat", "unroll", "frame_chunk"), [("none", 2, 4), ("dots", 1, 1), ("full", 1, 5)])
def test_execution_changes_no_number(remat, unroll, frame_chunk):
    """Neither scanning, nor rematerialisation, nor chunks."""
    base = {"data": {"num_frames": 16, "crop_size": 16, "max_segments": 3, "max_queries": 3}}
    plain = tiny_task(**base, model=VIDEOPRISM)
    changed = tiny_task(
        **base, model={**VIDEOPRISM, "remat": remat, "unroll": unroll, "frame_chunk": frame_chunk}
    )
    params = random_params(plain)
    batch = jax.tree.map(jnp.asarray, random_batch(plain.config, 3))
    run = lambda task: jax.jit(
        jax.value_and_grad(lambda params: task.loss(params, batch, jax.random.key(0))[0])
    )(params)
    (loss, gradients), (same_loss, same_gradients) = run(plain), run(changed)
    np.testing.assert_allclose(same_loss, loss, rtol=1e-5)
    scale = max(float(abs(x).max()) for x in jax.tree.leaves(gradients))
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(same_gradients)
    ):
        np.testing.assert_allclose(other, one, atol=2e-6 * scale, err_msg=jax.tree_util.keystr(path))
    assert all(float(abs(x).max()) > 0 for x in jax.tree.leaves(gradients["towers_rgb"]))


def test_a_frozen_tower_has_no_gradient():
    frozen = {**VIDEOPRISM, "modalities": {"rgb": {"encoder": "videoprism", "freeze": True}}}
    task = tiny_task(model={**frozen, "text": {**VIDEOPRISM["text"], "freeze": True}})
    params, batch = random_params(task), jax.tree.map(jnp.asarray, random_batch(task.config))
    gradients = jax.grad(lambda params: task.loss(params, batch, jax.random.key(0))[0])(params)
    assert not any(np.any(x) for x in jax.tree.leaves([gradients["towers_rgb"], gradients["text_tower"]]))
    assert any(np.any(x) for x in jax.tree.leaves(gradients["fusion"]))


def test_texts_are_the_originals(tmp_path):
    pytest.importorskip("sentencepiece", reason="sentencepiece is not here")
    weights = read_videoprism(str(write(tmp_path / "w.npz", tensors(TEXT_SIZES))))
    make = PieceTokens(str(vocabulary(tmp_path)), weights.config.text.vocabulary_size)
    texts = ["a red circle moves", "green square", "A BLUE circle, grows!"]
    features = {}
    for length in (24, 30):
        tokens = make(texts, length)
        assert tokens.shape == (3, length) and not tokens[:, -1].any()
        features[length] = VideoPrismTextTower(weights.config).apply(
            {"params": weights.params["text"]}, tokens[None]
        )
        found = features[length]
        assert found.tokens.shape == (1, 3, length, weights.config.width)
        assert found.mask.sum(-1).tolist() == [[make.count(text) for text in texts]]
        # The last real token represents the text.
        last = np.take_along_axis(found.tokens, (found.mask.sum(-1) - 1)[..., None, None], axis=2)[:, :, 0]
        np.testing.assert_array_equal(last, found.sentence)
    np.testing.assert_allclose(features[24].sentence, features[30].sentence, atol=2e-6)
    pieces, mask = make._pieces.tokenize(texts, 30)
    original = VideoPrism(weights.config).apply(
        {"params": weights.params}, pieces, mask, method="encode_texts"
    )
    np.testing.assert_allclose(features[30].sentence[0], original, atol=2e-6)


def test_every_encoder_is_in_every_table():
    assert ENCODERS.keys() == TOWERS.keys()
    choices = lambda schema: set(typing.get_args(typing.get_type_hints(schema)["encoder"]))
    assert choices(ModalityConfig) == {*ENCODERS, "features"}
    of_texts = {name for name, encoder in ENCODERS.items() if encoder.text}
    assert of_texts == {name for name, towers in TOWERS.items() if towers.text}
    assert choices(TextTowerConfig) == {*of_texts, "embeddings"}


def test_layers_above_a_parameter():
    model = tiny_config(model=VIDEOPRISM).model
    video, text = video_tower(model, "videoprism", 8, 16), text_tower(model)
    assert video.layers_above("encoder/patch_embedding/kernel") == (4, False)
    assert video.layers_above("encoder/spatial_position") == (4, False)
    assert video.layers_above("encoder/spatial/layers/mlp_in/kernel") == (2, True)
    assert video.layers_above("encoder/spatial_norm/scale") == (2, False)
    assert video.layers_above("encoder/temporal_position") == (2, False)
    assert video.layers_above("encoder/temporal/layers/attention/qkv/bias") == (1, True)
    assert video.layers_above("auxiliary/layers/mlp_in/kernel") == (0, True)
    assert video.layers_above("pooler/out/kernel") == (0, False)
    assert text.layers_above("token_embedding/embedding") == (1, False)
    assert text.layers_above("norm_out/scale") == (0, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"videoprism": {"num_heads": 5}}, r"num_heads = 5 must divide width = 768"),
        ({"videoprism": {"overlap": 16}}, r"overlap = 16 must be below the window of 16 frames"),
        ({"videoprism": {"size": "huge"}}, r"size must be one of base, large"),
        (
            {"videoprism": {}, "modalities": {"rgb": {"encoder": "videoprism"}}},
            r"crop_size = 16 .* config\.model\.videoprism\.patch_size = 18\. Use 18 or 36",
        ),
        ({"text": {"encoder": "videoprism", "pooling": "mean"}}, r"token of their own"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        tiny_config(model=changes)
