"""The tower of sound: what it hears and what it must not, however it is run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import SOUND, random_batch, random_params, random_tree, tiny_config, tiny_task
from unloc_jax.config import AudioTowerConfig
from unloc_jax.config.towers import video_tower
from unloc_jax.errors import UserError
from unloc_jax.model.audio_tower import AudioTower
from unloc_jax.model.log_mel import log_mel
from unloc_jax.model.unloc import UnLoc

BOTH = {"modalities": {"rgb": {}, "audio": {"encoder": "audio", "projection_width": 8, "norm": True}}}
CONFIG = AudioTowerConfig(**SOUND["audio"])


def samples(*leading: int, seed: int = 0) -> np.ndarray:
    shape = (*leading, CONFIG.window_samples)
    return np.random.default_rng(seed).normal(0, 3000, shape).astype(np.int16)


def tower(**changes):
    """A tower with parameters of which none is trivial."""
    made = AudioTower(dataclasses.replace(CONFIG, **changes))
    shapes = jax.eval_shape(made.init, jax.random.key(0), samples(1, 1))["params"]
    return jax.jit(lambda *inputs: made.apply({"params": random_tree(shapes)}, *inputs))


def test_a_place_hears_its_own_samples_alone():
    sound = samples(2, 5)
    tokens = tower()(sound)
    assert tokens.shape == (2, 5, CONFIG.width) and tokens.dtype == jnp.float32
    other = sound.copy()
    other[1, 3] = samples(seed=1)
    changed = np.abs(tower()(other) - tokens).max(-1) > 1e-3
    assert changed.tolist() == [[False] * 5, [False, False, False, True, False]]


def test_spectrograms_are_taken_in_place_of_samples():
    sound = samples(2, 3)
    np.testing.assert_allclose(tower()(log_mel(sound, CONFIG)), tower()(sound), atol=1e-5)


def test_order_within_a_place_and_pitch_change_its_token():
    sound = samples(1, 1)
    half = CONFIG.window_samples // 2
    quiet = sound.copy()
    quiet[..., :half] //= 64
    assert abs(tower()(quiet) - tower()(quiet[..., ::-1])).max() > 1e-2
    time = np.arange(CONFIG.window_samples) / CONFIG.sample_rate
    tone = lambda hz: (8000 * np.sin(2 * np.pi * hz * time)).astype(np.int16)[None, None]
    assert abs(tower()(tone(200)) - tower()(tone(700))).max() > 1e-2


def test_without_the_mean_loudness_does_not_count():
    """The mean is that of the places that are heard, so that nothing of padding passes."""
    sound, mask = samples(1, 4), np.array([[True, True, True, False]])
    found = tower(subtract_mean=True)(sound, mask)[:, :3]
    np.testing.assert_allclose(tower(subtract_mean=True)(sound // 4, mask)[:, :3], found, atol=0.02)
    assert abs(tower()(sound // 4) - tower()(sound)).max() > 0.1
    padded = sound.copy()
    padded[:, 3] = 0
    np.testing.assert_allclose(tower(subtract_mean=True)(padded, mask)[:, :3], found, atol=1e-5)


def test_frames_that_fill_no_patch_are_dropped_at_both_ends():
    """9 frames and patches of 4: the half frame too many goes at the end."""
    longer = dataclasses.replace(CONFIG, window_s=0.055)
    assert (CONFIG.num_frames, longer.num_frames) == (8, 9)
    assert longer.num_patches == CONFIG.num_patches == 4


@pytest.mark.parametrize("model", [SOUND, {**SOUND, **BOTH}], ids=["alone", "beside frames"])
def test_nothing_of_a_missing_sound_passes(model):
    task = tiny_task(model={**model, "video_projection_bias": True})
    params, batch = random_params(task), random_batch(task.config)
    encode = jax.jit(lambda inputs, masks: task.apply(params, UnLoc.encode_video, inputs, None, masks))
    found = encode(batch.inputs, batch.input_masks)
    noise = samples(*batch.features["audio"].shape[:2], seed=3)
    missing = np.where(batch.input_masks["audio"][..., None], batch.features["audio"], noise)
    np.testing.assert_array_equal(encode({**batch.inputs, "audio": missing}, batch.input_masks), found)
    assert abs(encode({**batch.inputs, "audio": missing}, {}) - found)[-1, -2:].max() > 1e-3
    assert np.isfinite(found).all()


def loss_and_gradients(task, batch, params):
    return jax.jit(jax.value_and_grad(lambda params: task.loss(params, batch, jax.random.key(0))[0]))(params)


@pytest.mark.parametrize(("remat", "unroll", "frame_chunk"), [("none", 2, 4), ("dots", 1, 1), ("full", 1, 5)])
def test_execution_changes_no_number(remat, unroll, frame_chunk):
    """Neither scanning, nor rematerialisation, nor chunks."""
    plain = tiny_task(model=SOUND)
    changed = tiny_task(model={**SOUND, "remat": remat, "unroll": unroll, "frame_chunk": frame_chunk})
    params, batch = random_params(plain), jax.tree.map(jnp.asarray, random_batch(plain.config))
    loss, gradients = loss_and_gradients(plain, batch, params)
    same_loss, same_gradients = loss_and_gradients(changed, batch, params)
    np.testing.assert_allclose(same_loss, loss, rtol=1e-5)
    scale = max(float(abs(x).max()) for x in jax.tree.leaves(gradients))
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(same_gradients)
    ):
        np.testing.assert_allclose(other, one, atol=2e-6 * scale, err_msg=jax.tree_util.keystr(path))
    assert all(float(abs(x).max()) > 0 for x in jax.tree.leaves(gradients["towers_audio"]))


@pytest.mark.parametrize(("setting", "learns"), [({"freeze": True}, False), ({"lora_rank": 1}, True)])
def test_a_tower_that_stays_as_it_is(setting, learns):
    task = tiny_task(model={**SOUND, "modalities": {"audio": {"encoder": "audio", **setting}}})
    params, batch = random_params(task), jax.tree.map(jnp.asarray, random_batch(task.config))
    _, gradients = loss_and_gradients(task, batch, params)
    paths = jax.tree_util.tree_leaves_with_path(gradients["towers_audio"])
    learning = {jax.tree_util.keystr(path) for path, x in paths if np.any(x)}
    assert all("lora" in path for path in learning) and bool(learning) == learns


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"modalities": {"sound": {"encoder": "audio"}}}, r"modalities\.sound: .* is called audio"),
        ({"audio": {"num_mels": 60}}, r"num_mels = 60 is not divisible by patch_mels = 16"),
        ({"audio": {"width": 100}}, r"audio\.width = 100 is not divisible by num_heads = 3"),
        ({"audio": {"window_s": 0.1}}, r"0\.1 s of a place make 8 frames .* patch_frames = 16"),
        (
            {"audio": {"highest_hz": 9000.0}},
            r"highest_hz = 9000 do not lie below half of sample_rate = 16000",
        ),
        ({"audio": {"lowest_hz": 8000.0}}, r"lowest_hz = 8000 to highest_hz = 8000"),
        ({"audio": {"sample_rate": 1000, "hop_s": 0.001, "frame_s": 0.001}}, r"shorter than samples"),
        ({"audio": {"window_s": 0.0}}, r"window_s must be at least 0\.001"),
        ({"audio": {"sample_rate": 10}}, r"sample_rate must be at least 1000"),
        ({"audio": {"mel_scale": "mel"}}, r"mel_scale must be one of slaney, htk"),
        ({"text": {"encoder": "audio"}}, r"text\.encoder must be one of clip, videoprism, embeddings"),
    ],
)
def test_settings_that_do_not_go_together(model, message):
    with pytest.raises(UserError, match=message):
        tiny_config(model=model)


def test_layers_above_a_parameter():
    tower = video_tower(tiny_config(model=SOUND).model, "audio", 8, 16)
    assert tower.layers_above("transformer/layers/mlp_in/kernel") == (0, True)
    assert tower.layers_above("norm_out/scale") == (0, False)
    assert tower.layers_above("patch_embedding/kernel") == (1, False)
    assert tower.layers_above("position_embedding") == (1, False)


def test_samples_of_another_length_are_named():
    with pytest.raises(ValueError, match=r"\(1, 1, 99\) are not \(1, 1, 100\)"):
        log_mel(samples(1, 1)[..., 1:], CONFIG)
