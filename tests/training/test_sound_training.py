"""A model learns to hear: two tones in noise, at random times, found by their names in sounds that it never heard."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.tiny import CLASSES, random_batch, tiny_metadata
from unloc_jax.batch import Batch
from unloc_jax.config import Config, MeshConfig, load
from unloc_jax.model.unloc import UnLoc
from unloc_jax.tasks import Task, make_task
from unloc_jax.tasks.parameters import init_params
from unloc_jax.text import tokenize
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import make_mesh, tree_shardings
from unloc_jax.training.state import TrainState
from unloc_jax.training.step import Loss, make_train_step

PLACES, VIDEOS, STEPS = 16, 8, 60
TONES = {"a low tone": 300.0, "a high tone": 1300.0}
SMALL = [
    "batch_size=8", f"data.num_frames={PLACES}", "data.max_segments=2", "data.max_queries=2",
    "model.audio.sample_rate=4000", "model.audio.window_s=0.1", "model.audio.num_mels=16", "model.audio.patch_mels=8",
    "model.audio.patch_frames=4", "model.audio.width=32", "model.audio.num_layers=1", "model.audio.mlp_dim=64",
    "model.text.width=32", "model.fusion.width=32", "model.fusion.num_layers=1", "model.fusion.mlp_dim=64",
    "model.pyramid.num_levels=2", "model.pyramid.ranges_from_data=False", "model.dtype=float32",
    "data.augmentation.audio.frequency_masks=0", "optimizer.name=muon", f"train.steps={STEPS}",
    "train.learning_rate=5e-3", "train.warmup_steps=5", "optimizer.ema_decay=0.0",
]  # fmt: skip


def heard(config: Config, seed: int) -> Batch:
    """Both tones somewhere in every video, 3 to 6 places long, over noise; places are as far apart as they hear."""
    rng = np.random.default_rng(seed)
    batch = random_batch(config, seed, VIDEOS)
    audio = config.model.audio
    length = PLACES * audio.window_samples
    time = np.arange(length) / audio.sample_rate
    segments = np.zeros((VIDEOS, 2, 2), np.float32)
    sound = rng.normal(0, 1000, (VIDEOS, length))
    for of_video, samples in zip(segments, sound):
        for segment, hz in zip(of_video, TONES.values()):
            start = rng.integers(0, PLACES - 6)
            segment[:] = start, start + rng.integers(2, 6)
            on = (np.arange(length) >= segment[0] * audio.window_samples) & (
                np.arange(length) < (segment[1] + 1) * audio.window_samples
            )
            samples += on * 3000 * np.sin(2 * np.pi * hz * time + rng.uniform(0, 6))
    shape = (VIDEOS, PLACES, audio.window_samples)
    tokens = np.tile(tokenize(list(TONES), config.model.text.max_tokens), (VIDEOS, 1, 1))
    queries = not config.with_vocabulary
    return dataclasses.replace(
        batch,
        features={"audio": np.clip(sound, -32768, 32767).astype(np.int16).reshape(shape)},
        input_masks={"audio": np.ones((VIDEOS, PLACES), bool)},
        segments=segments,
        segment_text=np.tile(np.arange(2, dtype=np.int32), (VIDEOS, 1)),
        text_tokens=tokens if queries else batch.text_tokens,
        text_mask=np.ones((VIDEOS, 2), bool) if queries else batch.text_mask,
    )


def relevance(task: Task, params, batch: Batch) -> np.ndarray:
    """Logits of the finest level, [B, N, T]."""
    texts = batch.text_tokens if batch.text_tokens.size else task.encoding(task.classes)[None, :, 0]
    apply = lambda method, *args: task.apply(params, method, *args)
    video, words = apply(UnLoc.encode_video, *batch.seen), apply(UnLoc.encode_text, texts)
    return np.asarray(apply(UnLoc.localize, video, batch.frame_mask, words).relevance[..., :PLACES])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["moment_retrieval", "temporal_action_localization"])
def test_it_learns_to_hear(kind):
    config = load(f"configs/sound.py:{kind}", SMALL)
    classes = [*TONES, CLASSES[0]]  # one that never sounds
    task = make_task(config, dataclasses.replace(tiny_metadata(), classes=classes))
    mesh = make_mesh(MeshConfig(), VIDEOS, devices=jax.devices()[:1])
    optimizer = make_optimizer(config)
    params = jax.jit(lambda: init_params(task, 0))()
    state = TrainState(jax.numpy.int32(0), params, optimizer.init(params))
    shardings = tree_shardings(state, mesh, "dp")
    step = make_train_step(Loss({"a": task}, {"a": 1.0}, "train"), optimizer, mesh, shardings, 0)
    losses = []
    for number in range(STEPS):
        state, metrics = step(state, {"a": heard(config, number)}, {})
        losses.append(float(metrics["relevance_loss"]))
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:5])
    unheard = heard(config, 1000)
    logits = relevance(task, state.params, unheard)[:, :2]
    at = np.arange(PLACES)
    inside = (at >= unheard.segments[..., :1]) & (at <= unheard.segments[..., 1:])
    assert logits[inside].mean() > logits[~inside].mean() + 1
    right = (logits[inside][:, None] > logits[~inside]).mean()
    assert right > 0.85, right  # of pairs of a place inside and one outside; 0.5 by chance
