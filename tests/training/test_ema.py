"""The moving average of the parameters: computed again from the parameters of every step."""

import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from unloc_jax.inference.loaded_model import load_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Sharding info not provided")]

STEPS, DECAY = 9, 0.4  # the decay is reached after the sixth step


def _stored(workdir, step: int) -> dict:
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(workdir / "checkpoints" / str(step) / "state")


def test_the_average_is_kept_evaluated_and_continued(unloc, config_file, captions_dataset, tmp_path):
    workdir = tmp_path / "run"
    command = (
        "train", f"--config={config_file}", f"--workdir={workdir}", f"--config.data.dir={captions_dataset}",
        "--config.contrastive.steps=0", "--config.contrastive.warmup_steps=0", f"--config.train.steps={STEPS}",
        f"--config.optimizer.ema_decay={DECAY}", "--config.optimizer.momentum_dtype=bfloat16",
        "--config.model.text.freeze=True", "--config.checkpoint.every_steps=1", "--config.checkpoint.keep=99",
    )  # fmt: skip
    unloc(*command).ok()
    states = {step: _stored(workdir, step) for step in range(1, STEPS + 1)}
    assert "text_tower" not in states[1]["ema_params"] and "towers_rgb" in states[1]["ema_params"]
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(states[1]["opt_state"]) if leaf.ndim}
    assert dtypes == {np.dtype(np.float32), jnp.dtype(jnp.bfloat16)}  # Adam's second and first moment

    average = states[1]["ema_params"]
    for step in range(1, STEPS):
        decay = min(DECAY, (1 + step) / (10 + step))
        new = {name: states[step + 1]["params"][name] for name in average}
        average = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, average, new)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        average,
        states[STEPS]["ema_params"],
    )

    loaded = load_model(workdir).params
    last = states[STEPS]
    chex.assert_trees_all_equal(loaded, {**last["params"], **last["ema_params"]})
    kernel = "video_projection", "kernel"
    assert not np.array_equal(loaded[kernel[0]][kernel[1]], last["params"][kernel[0]][kernel[1]])

    for step in range(5, STEPS + 1):
        shutil.rmtree(workdir / "checkpoints" / str(step))
    assert "continuing from step 4" in unloc(*command).ok().err
    chex.assert_trees_all_equal(_stored(workdir, STEPS), last)
