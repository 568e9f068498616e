"""Checkpoints: what is refused, what damage looks like to a user, and numbers that survive another mesh."""

import dataclasses
import gc
import json
import shutil
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from tests.tiny import tiny_config, tiny_task
from tests.tiny_runs import child_environment
from unloc_jax.config import MeshConfig
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.errors import UserError
from unloc_jax.training.checkpoints.metadata import with_checksum
from unloc_jax.training.checkpoints.reading import find_checkpoint, load_checkpoint, load_params
from unloc_jax.training.checkpoints.writing import Checkpoints
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import make_mesh
from unloc_jax.training.state import TrainState, abstract_state

METADATA = DatasetMetadata("videos", 10.0, 16, [], ["a", "circle", "moves"], "0123456789abcdef")
BY_TASK = {"moment_retrieval": METADATA.to_dict()}


def _state(step: int, width: int = 16) -> TrainState:
    """Numbers that tell their step; shaped like a small training state."""
    params = {
        "dense": {"kernel": np.full((4, width), step, np.float32), "bias": np.arange(width, dtype=np.float32)}
    }
    zeros = jax.tree.map(np.zeros_like, params)
    return jax.tree.map(jax.numpy.asarray, TrainState(np.int32(step), params, {"mu": zeros, "nu": zeros}))


def _abstract(state: TrainState) -> TrainState:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def _saved(workdir: Path, steps=(3, 6), config=None, by_task=None) -> Path:
    checkpoints = Checkpoints(workdir, config or tiny_config(), BY_TASK if by_task is None else by_task)
    for step in steps:
        checkpoints.save(_state(step), step)
    checkpoints.close()
    return workdir


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    return _saved(tmp_path_factory.mktemp("checkpoints") / "run")


@pytest.fixture
def workdir(template, tmp_path) -> Path:
    """A workdir with checkpoints of steps 3 and 6 that a test may damage."""
    return Path(shutil.copytree(template, tmp_path / "run"))


def test_what_was_saved_comes_back(workdir):
    checkpoints = Checkpoints(workdir, tiny_config(), BY_TASK)
    assert checkpoints.latest_step == 6
    restored = checkpoints.restore(_abstract(_state(0)))
    checkpoints.close()
    chex.assert_trees_all_equal(restored, _state(6))
    assert load_checkpoint(find_checkpoint(workdir)) == (tiny_config(), {"moment_retrieval": METADATA})


def test_only_the_last_ones_are_kept(tmp_path):
    config = tiny_config(checkpoint={"keep": 2})
    _saved(tmp_path, steps=(1, 2, 3, 4), config=config)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["3", "4"]


def test_a_checkpoint_is_named_by_its_workdir_its_folder_or_itself(workdir):
    folder = (workdir / "checkpoints").resolve()
    assert find_checkpoint(workdir) == find_checkpoint(workdir / "checkpoints") == folder / "6"
    assert find_checkpoint(workdir / "checkpoints" / "3") == folder / "3"
    # Steps are numbers: 10 comes after 6, although "10" sorts before it.
    shutil.copytree(folder / "6", folder / "10")
    assert find_checkpoint(workdir) == folder / "10"
    # What a killed process leaves is not a checkpoint.
    shutil.copytree(folder / "6", folder / "12.orbax-checkpoint-tmp")
    assert find_checkpoint(workdir) == folder / "10"
    # One step's directory may be taken elsewhere, under any name.
    shutil.copytree(folder / "6", workdir / "best")
    assert find_checkpoint(workdir / "best") == workdir.resolve() / "best"


def test_what_a_killed_process_has_left_is_removed(workdir):
    shutil.copytree(
        workdir / "checkpoints" / "6" / "state", workdir / "checkpoints" / "12.orbax-checkpoint-tmp" / "state"
    )
    Checkpoints(workdir, tiny_config(), BY_TASK).close()
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["3", "6"]


def test_no_checkpoint(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "checkpoints", tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UserError, match=f"--checkpoint={path} holds no checkpoint"):
            find_checkpoint(path)


@pytest.mark.parametrize(
    ("settings", "metadata", "message"),
    [
        ({"seed": 1}, {}, r"\(seed: 0 there, 1 now\)"),
        (
            {"batch_size": 4, "optimizer": {"b2": 0.9}},
            {},
            r"\(batch_size: 2 there, 4 now; optimizer\.b2: 0\.98 there, 0\.9 now\)",
        ),
        ({}, {"classes": ["jump"]}, r"\(dataset classes: \[\] there, \['jump'\] now\)"),
        ({}, {"words": ["word"] * 100}, r"\(dataset words: \['a', 'circle', 'moves'\] there, .{60}… now\)"),
        ({}, {"short_side": 32, "fps": 5.0}, r"\(dataset fps: 10\.0 there, 5\.0 now; dataset short_side: 16"),
    ],
)
def test_another_experiments_workdir_is_refused(template, settings, metadata, message):
    with pytest.raises(UserError, match=r"holds checkpoints of another experiment " + message):
        Checkpoints(
            template,
            tiny_config(**settings),
            {"moment_retrieval": BY_TASK["moment_retrieval"] | metadata},
        )


def test_what_may_differ_when_a_run_goes_on(template):
    changed = tiny_config(
        evaluation={"every_steps": 7, "batch_size": 1},
        checkpoint={"every_steps": 9, "keep": 1},
        mesh={"strategy": "fsdp"},
        log_every_steps=3,
    )
    data = dataclasses.replace(changed.data, dir="moved", num_workers=7)
    Checkpoints(template, dataclasses.replace(changed, data=data), BY_TASK).close()


def test_a_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for workdir in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"--workdir={workdir} cannot be written: .*Choose another one"):
            Checkpoints(workdir, tiny_config(), BY_TASK)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(UserError, match=f"--workdir={loop} cannot be written: Too many levels of symbolic"):
        Checkpoints(loop, tiny_config(), BY_TASK)
    with pytest.raises(UserError, match=f"--checkpoint={loop} holds no checkpoint"):
        find_checkpoint(loop)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").touch()
    with pytest.raises(UserError, match="cannot be written"):
        Checkpoints(tmp_path / "run", tiny_config(), BY_TASK)


def _halve(folder: Path) -> None:
    for file in folder.rglob("d/*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _edit(**changes):
    def edit(folder: Path) -> None:
        file = folder / "metadata" / "metadata"
        metadata = json.loads(file.read_text()) | changes
        del metadata["checksum"]
        file.write_text(json.dumps(with_checksum(metadata)))

    return edit


STATE_DAMAGES = {
    "no state": lambda step: shutil.rmtree(step / "state"),
    "no array data": lambda step: [shutil.rmtree(folder) for folder in step.rglob("state/**/d")],
    "array data cut": _halve,
    "no manifest": lambda step: [file.unlink() for file in step.rglob("manifest.ocdbt")],
    "tree not JSON": lambda step: (step / "state" / "_METADATA").write_text("{"),
}
METADATA_DAMAGES = {
    "no metadata": lambda step: shutil.rmtree(step / "metadata"),
    "no metadata file": lambda step: (step / "metadata" / "metadata").unlink(),
    "metadata not JSON": lambda step: (step / "metadata" / "metadata").write_text('{"config": '),
    "metadata of another kind": lambda step: (step / "metadata" / "metadata").write_text("[]"),
    "no dataset_metadata": _edit(dataset_metadata={}),
    "no config": _edit(config=None),
}
OLDER = r"An older one is whole: .*/checkpoints/3; delete the damaged one to continue from there\.$"


@pytest.mark.parametrize("damage", METADATA_DAMAGES)
def test_damaged_metadata(workdir, damage):
    step = workdir / "checkpoints" / "6"
    METADATA_DAMAGES[damage](step)
    for use in (lambda: load_checkpoint(step), lambda: Checkpoints(workdir, tiny_config(), BY_TASK)):
        with pytest.raises(
            UserError, match=rf"{step}/metadata cannot be read .* is damaged\. {OLDER}"
        ) as caught:
            use()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


@pytest.fixture
def unfinished_reads():
    """What orbax has left half-done when a read failed is disposed of in the test that is to blame."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.mark.usefixtures("unfinished_reads")
@pytest.mark.parametrize("damage", STATE_DAMAGES)
def test_damaged_state(workdir, damage, capfd):
    step = workdir / "checkpoints" / "6"
    STATE_DAMAGES[damage](step)
    abstract = _abstract(_state(0))
    with pytest.raises(UserError, match=rf"{step} does not match .*or is damaged: .* {OLDER}") as caught:
        load_params(step, abstract.params)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 900
    checkpoints = Checkpoints(workdir, tiny_config(), BY_TASK)
    if checkpoints.latest_step == 6:  # else orbax has seen it, and continues from the older one
        with pytest.raises(UserError, match=OLDER):
            checkpoints.restore(abstract)
    assert "Traceback" not in capfd.readouterr().err


def test_parameters_of_another_model(workdir):
    step = workdir / "checkpoints" / "6"
    with pytest.raises(
        UserError, match=r"dense\.bias has the shape \(16,\) there and \(32,\) in the model\."
    ):
        load_params(step, _abstract(_state(0, width=32)).params)
    more = _abstract(_state(0)).params
    more["head"] = {"bias": more["dense"]["bias"]}
    with pytest.raises(UserError, match=r"is damaged: it lacks head\.bias"):
        load_params(step, more)


@pytest.mark.usefixtures("unfinished_reads")
def test_the_only_checkpoint_is_damaged(tmp_path):
    _saved(tmp_path, steps=(3,))
    _halve(tmp_path / "checkpoints" / "3" / "state")
    with pytest.raises(UserError, match=r"There is no older one to go back to\.$"):
        load_params(tmp_path / "checkpoints" / "3", _abstract(_state(0)).params)


def test_a_config_of_another_version(workdir):
    step = workdir / "checkpoints" / "6"
    _edit(config={"batchsize": 3})(step)
    with pytest.raises(
        UserError, match=rf"{step} was written by another version: config\.batchsize is not a"
    ):
        load_checkpoint(step)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mesh", [{"data": 8, "strategy": "dp"}, {"data": 4, "context": 2, "strategy": "fsdp"}]
)
def test_numbers_survive_another_mesh(tmp_path, mesh):
    """Saved by eight devices in another process, restored on this one's, bit for bit."""
    script = f"""
        import jax, numpy as np
        from pathlib import Path
        from tests.tiny import tiny_task
        from tests.training.checkpoints.test_checkpoints import BY_TASK
        from unloc_jax.training.checkpoints.writing import Checkpoints
        from unloc_jax.training.optimizer import make_optimizer
        from unloc_jax.training.sharding import make_mesh
        from unloc_jax.training.state import abstract_state

        task = tiny_task(mesh={mesh!r})
        leaves, tree = jax.tree.flatten(
            abstract_state({{"task": task}}, make_optimizer(task.config), make_mesh(task.config.mesh, 8))
        )
        for i, x in enumerate(leaves):
            numbers = np.random.default_rng(i).normal(10, 3, x.shape).astype(x.dtype)
            leaves[i] = jax.device_put(numbers, x.sharding)
        split = any(not x.sharding.is_fully_replicated for x in leaves)
        assert split == ({mesh!r}["strategy"] == "fsdp")
        state = jax.tree.unflatten(tree, leaves)
        checkpoints = Checkpoints(Path("run"), task.config, BY_TASK)
        checkpoints.save(state, 7)
        checkpoints.close()
    """
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=child_environment(devices=8),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    task = tiny_task()
    abstract = abstract_state(
        {"task": task}, make_optimizer(task.config), make_mesh(MeshConfig(), jax.device_count())
    )
    checkpoints = Checkpoints(tmp_path / "run", task.config, BY_TASK)
    restored = checkpoints.restore(abstract)
    checkpoints.close()
    for i, (x, wanted) in enumerate(zip(jax.tree.leaves(restored), jax.tree.leaves(abstract), strict=True)):
        assert x.sharding == wanted.sharding
        expected = np.random.default_rng(i).normal(10, 3, wanted.shape).astype(wanted.dtype)
        np.testing.assert_array_equal(np.asarray(x), expected)
    params = load_params(find_checkpoint(tmp_path / "run"), abstract.params)
    chex.assert_trees_all_equal(params, restored.params)
