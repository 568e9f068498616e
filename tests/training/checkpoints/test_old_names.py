"""Checkpoints that an older version wrote, with other names, are read as if written today."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.tiny import tiny_config, tiny_metadata, tiny_task
from tests.tiny_runs import metric_lines, without_clock
from unloc_jax.config import Config
from unloc_jax.old_names import METADATA, PARAMETERS, SETTINGS, as_stored
from unloc_jax.training.checkpoints.reading import load_checkpoint, load_params, stored_shapes
from unloc_jax.training.checkpoints.writing import Checkpoints
from unloc_jax.training.init_from import initialize
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import make_mesh
from unloc_jax.training.state import TrainState, abstract_state

CHANGES = {
    "contrastive": {
        "steps": 1,
        "learning_rates": {"logit_scale": 0.5, "contrastive_projection/kernel": 0.25},
    },
    "optimizer": {"ema_decay": 0.9},
}


def _new_to_old(names: dict[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}


def _rewrite(step_dir: Path) -> None:
    """Gives a checkpoint the names of before: its arrays, and the JSON beside them."""
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore(step_dir / "state")
        old = as_stored(tree, PARAMETERS)
        assert str(jax.tree.structure(old)) != str(jax.tree.structure(tree))
        shutil.rmtree(step_dir / "state")
        checkpointer.save(step_dir / "state", old)
    file = step_dir / "metadata" / "metadata"
    metadata = json.loads(file.read_text())
    del metadata["checksum"]  # came later than the new names
    metadata["config"] = _old_config(metadata["config"])
    metadata["fingerprints"] = {
        "/".join(_new_to_old(PARAMETERS).get(key, key) for key in name.split("/")): value
        for name, value in metadata["fingerprints"].items()
    }
    file.write_text(json.dumps({_new_to_old(METADATA).get(key, key): x for key, x in metadata.items()}))


def _old_config(config: dict) -> dict:
    text = json.dumps({_new_to_old(SETTINGS).get(key, key): value for key, value in config.items()})
    for new, old in _new_to_old(PARAMETERS).items():
        text = text.replace(new, old)
    return json.loads(text)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, Config, TrainState]:
    """(step directory with old names, config, the state that it holds)."""
    workdir, config = tmp_path_factory.mktemp("old") / "run", tiny_config(**CHANGES)
    shapes = _abstract(config)
    state = jax.tree.map(jax.numpy.asarray, _random(shapes))
    with Checkpoints(workdir, config, {"moment_retrieval": tiny_metadata().to_dict()}) as checkpoints:
        checkpoints.save(state, 3)
    step_dir = workdir / "checkpoints" / "3"
    _rewrite(step_dir)
    return step_dir, config, state


def _random(shapes: TrainState) -> TrainState:
    return jax.tree.map(lambda x: np.random.default_rng(x.size).normal(size=x.shape).astype(x.dtype), shapes)


def _abstract(config: Config) -> TrainState:
    mesh = make_mesh(config.mesh, config.batch_size)
    return abstract_state({"moment_retrieval": tiny_task(**CHANGES)}, make_optimizer(config), mesh)


def test_resumed(run):
    """Parameters, optimizer state and average; the config is that of today, and not another experiment's."""
    step_dir, config, state = run
    dataset_metadata = {"moment_retrieval": tiny_metadata().to_dict()}
    with Checkpoints(step_dir.parents[1], config, dataset_metadata) as checkpoints:
        restored = checkpoints.restore(_abstract(config))
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert set(PARAMETERS.values()) <= restored.params.keys() and restored.ema_params.keys() >= {
        "logit_scale"
    }


def test_read(run):
    step_dir, config, state = run
    assert load_checkpoint(step_dir) == (config, {"moment_retrieval": tiny_metadata()})
    params = load_params(step_dir, _abstract(config).params)
    jax.tree.map(np.testing.assert_array_equal, params, state.best_params)
    assert stored_shapes(step_dir)["logit_scale"] == () and not stored_shapes(step_dir).keys() & PARAMETERS


def test_started_from(run):
    step_dir, config, state = run
    ours, lines = dataclasses.replace(config, init_from=str(step_dir)), list[str]()
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), _abstract(config))
    started = initialize(ours, jax.tree.map(jax.numpy.asarray, zeros), lines.append)
    jax.tree.map(np.testing.assert_array_equal, started.params, state.best_params)


@pytest.mark.slow
def test_a_run_that_an_older_version_began(trained, config_file, captions_dataset, tmp_path, unloc):
    """It continues and is evaluated as one of today, number by number."""
    found = []
    for name in ("today", "before"):
        workdir = shutil.copytree(trained, tmp_path / name)
        shutil.rmtree(workdir / "checkpoints" / "10")
        if name == "before":
            _rewrite(workdir / "checkpoints" / "5")
        words = (f"--workdir={workdir}", f"--config.data.dir={captions_dataset}")
        assert "continuing from step 5 of 10" in unloc("train", f"--config={config_file}", *words).ok().err
        data = f"--data-dir={captions_dataset}"
        unloc(
            "evaluate", f"--checkpoint={workdir / 'checkpoints' / '5'}", data, f"--out={tmp_path / 'out'}"
        ).ok()
        predictions = (tmp_path / "out" / "predictions.jsonl").read_text()
        found.append(([without_clock(line) for line in metric_lines(workdir)], predictions))
    assert found[0] == found[1]


def test_damage_is_noticed(run, tmp_path):
    step_dir = shutil.copytree(run[0], tmp_path / "3")
    file = step_dir / "metadata" / "metadata"
    metadata = json.loads(file.read_text())
    (name,) = [name for name in metadata["fingerprints"] if name == "ema_params/temperature"]
    metadata["fingerprints"][name] += 1
    file.write_text(json.dumps(metadata))
    with pytest.raises(Exception, match="other numbers than were saved in ema_params/logit_scale"):
        load_params(step_dir, _abstract(run[1]).params)
