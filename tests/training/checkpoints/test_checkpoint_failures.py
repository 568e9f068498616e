"""Checkpoints when things go wrong: damaged bytes, a full disk, a lost directory; and which ones stay."""

import gc
import json
import shutil
import socket
import subprocess
import sys
import textwrap
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.full_disk import full_disk
from tests.tiny import tiny_config
from tests.tiny_runs import child_environment
from unloc_jax.errors import UserError
from unloc_jax.training.checkpoints.fingerprint import fingerprints
from unloc_jax.training.checkpoints.metadata import with_checksum
from unloc_jax.training.checkpoints.reading import find_checkpoint, load_params
from unloc_jax.training.checkpoints.writing import Checkpoints
from unloc_jax.training.state import TrainState

METADATA = {
    "moment_retrieval": dict(name="videos", fps=10.0, short_side=16, classes=[], words=[], fingerprint="1")
}


def _state(seed: int = 0) -> TrainState:
    """Arrays large enough that tensorstore does not put them beside their checksummed index: 100 KB each."""
    rng = np.random.default_rng(seed)
    params = {"dense": {"kernel": rng.normal(size=(160, 160)).astype(np.float32)}}
    moments = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    return jax.tree.map(jnp.asarray, TrainState(np.int32(seed), params, {"mu": moments, "nu": params}))


def _abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def _open(workdir, said=None, **settings):
    config = tiny_config(checkpoint=settings)
    return Checkpoints(workdir, config, METADATA, (said if said is not None else []).append)


def _steps(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


@pytest.fixture(autouse=True)
def unfinished_work():
    """What orbax has left half-done is disposed of in the test that is to blame."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def test_a_flipped_bit_is_noticed(tmp_path):
    """Anywhere in the files of the arrays; without the fingerprints most of these restore wrong numbers in silence."""
    state = _state()
    with _open(tmp_path) as checkpoints:
        checkpoints.save(state, 1)
    step_dir = find_checkpoint(tmp_path)
    large = [p for p in (step_dir / "state").rglob("*") if p.is_file() and p.stat().st_size > 50_000]
    (file,) = large
    data = file.read_bytes()
    noticed = 0
    for place in np.linspace(200, len(data) - 5000, 8).astype(int):
        file.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(UserError, match=r"is damaged: .*There is no older one") as caught:
            _open(tmp_path).restore(_abstract(state))
        noticed += "other numbers than were saved in" in str(caught.value)
    assert noticed >= 4  # the rest is noticed by the decompression
    file.write_bytes(data)
    restored = _open(tmp_path).restore(_abstract(state))
    chex.assert_trees_all_equal(restored, state)


def test_a_damaged_array_is_no_prediction(tmp_path):
    """`unloc evaluate` and `predict` read the parameters only: the same holds for them."""
    state = _state()
    with _open(tmp_path) as checkpoints:
        checkpoints.save(state, 1)
    step_dir = find_checkpoint(tmp_path)
    load_params(step_dir, _abstract(state).params)
    file = step_dir / "metadata" / "metadata"
    metadata = json.loads(file.read_text())
    del metadata["checksum"]
    metadata["fingerprints"]["params/dense/kernel"] ^= 1
    file.write_text(json.dumps(with_checksum(metadata)))
    with pytest.raises(UserError, match=r"other numbers than were saved in params/dense/kernel\. "):
        load_params(step_dir, _abstract(state).params)


def test_every_element_and_its_place_count():
    x = np.random.default_rng(0).normal(size=(7, 11)).astype(np.float32)
    of = lambda array: fingerprints({"x": jnp.asarray(array)})["x"]
    swapped, negated = x.copy(), x.copy()
    swapped[[0, 3]] = swapped[[3, 0]]
    negated[1, 2], negated[4, 5] = -negated[1, 2], -negated[4, 5]
    low = x.copy()
    low.view(np.uint32)[6, 10] ^= 1
    assert len({of(x), of(swapped), of(negated), of(low), of(x.T), of(x.astype(jnp.bfloat16))}) == 6


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
    state = _state()
    with _open(tmp_path) as checkpoints:
        checkpoints.save(state, 1)
        bad = {"dense": {"kernel": state.params["dense"]["kernel"].at[3, 3].set(jnp.inf)}}
        with pytest.raises(UserError, match=r"step 2: the parameters are not finite.* \(dense/kernel, "):
            checkpoints.save(TrainState(state.step, bad, state.opt_state), 2)
    assert _steps(tmp_path) == [1]


def test_a_full_disk_stops_the_run(tmp_path):
    checkpoints = _open(tmp_path)
    checkpoints.save(_state(1), 1)
    checkpoints.wait()
    with (
        full_disk(),
        pytest.raises(UserError, match=r"of step 2 cannot be written .* The last one is of step 1\."),
    ):
        checkpoints.save(_state(2), 2)
        checkpoints.wait()
    assert _steps(tmp_path) == [1]
    chex.assert_trees_all_equal(_open(tmp_path).restore(_abstract(_state())), _state(1))


@pytest.mark.parametrize("trouble", ["full disk", "lost directory"])
def test_or_training_goes_on(tmp_path, trouble):
    said: list[str] = []
    with _open(tmp_path, said, on_error="continue") as checkpoints:
        checkpoints.save(_state(1), 1)
        checkpoints.wait()
        if trouble == "full disk":
            with full_disk():
                checkpoints.save(_state(2), 2)
                checkpoints.wait()
            assert (
                len(said) == 1 and "step 2 cannot be written" in said[0] and "Training continues" in said[0]
            )
        else:
            shutil.rmtree(tmp_path / "checkpoints")
        checkpoints.save(_state(3), 3)
    assert _steps(tmp_path) == ([1, 3] if trouble == "full disk" else [3])
    chex.assert_trees_all_equal(_open(tmp_path).restore(_abstract(_state())), _state(3))


def test_the_best_stay(tmp_path):
    """keep=1, keep_best=2: of the scores 5, 9, 7, 8, 1 those of steps 2 and 4 stay, and the last step."""
    settings = {"keep": 1, "keep_best": 2, "best_metric": "mIoU"}
    log = (tmp_path / "metrics.jsonl").open("w")
    checkpoints = _open(tmp_path, **settings)
    for step, score in enumerate([5.0, 9.0, 7.0, 8.0, 1.0], 1):
        print(json.dumps({"step": step, "validation/mIoU": score}), file=log, flush=True)
        assert checkpoints.is_best(step, {"R1": 0.0, "mIoU": score}) == (step < 5)
        checkpoints.save(_state(step), step)
        if step == 3:  # a run that continues knows what was best
            checkpoints.close()
            assert _steps(tmp_path) == [2, 3]
            checkpoints = _open(tmp_path, **settings)
    checkpoints.close()
    assert _steps(tmp_path) == [2, 4, 5]
    assert find_checkpoint(tmp_path / "checkpoints" / "best").name == "2"
    assert find_checkpoint(tmp_path).name == "5"


def test_a_best_metric_that_is_none_costs_no_step(tmp_path):
    checkpoints = _open(tmp_path, keep_best=1, best_metric="mAP")
    assert checkpoints.is_best(4, {"mIoU": 1.0})
    with pytest.raises(UserError, match=r"'mAP' is not a metric .* there are: mIoU\."):
        checkpoints.save(_state(4), 4)
    checkpoints.close()
    assert _steps(tmp_path) == [4]
    with pytest.raises(UserError, match="has a validation score to compare"):
        find_checkpoint(tmp_path / "checkpoints" / "best")


_CHILD = """
    import sys
    import chex, jax, numpy as np
    from pathlib import Path
    from jax.sharding import NamedSharding, PartitionSpec
    from tests.training.checkpoints.test_checkpoint_failures import _open, _state
    from unloc_jax.config import MeshConfig
    from unloc_jax.training.sharding import make_mesh

    what, port, process, workdir = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    if what == "save":
        jax.distributed.initialize(f"localhost:{port}", 2, process)
    assert jax.device_count() == 8
    mesh = make_mesh(MeshConfig(data=4, context=2, strategy="fsdp"), 8)
    numbers = jax.tree.map(np.asarray, _state(7))
    spec = lambda x: PartitionSpec(("data", "context")) if x.ndim == 2 else PartitionSpec()
    shardings = jax.tree.map(lambda x: NamedSharding(mesh, spec(x)), numbers)
    place = lambda x, s: jax.make_array_from_callback(x.shape, s, lambda index: x[index])
    state = jax.tree.map(place, numbers, shardings)
    assert not state.params["dense"]["kernel"].is_fully_replicated
    if what == "save":
        with _open(workdir) as checkpoints:
            checkpoints.save(state, 7, {"productive_s": 1.5})
    else:
        abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), numbers, shardings)
        checkpoints = _open(workdir)
        restored = checkpoints.restore(abstract)
        chex.assert_trees_all_equal(restored, numbers)
        assert checkpoints.history == {"productive_s": 1.5}
    print("done")
"""


@pytest.mark.slow
def test_what_two_processes_saved_one_and_eight_devices_restore(tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]

    def start(what: str, process: int, devices: int) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_CHILD), what, str(port), str(process), str(tmp_path)],
            env=child_environment(devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    for children in ([("save", 0, 4), ("save", 1, 4)], [("restore", 0, 8)]):
        for child in [start(*child) for child in children]:
            out, err = child.communicate(timeout=300)
            assert child.returncode == 0 and out.endswith("done\n"), err
    state = _state(7)
    chex.assert_trees_all_equal(_open(tmp_path).restore(_abstract(state)), state)
