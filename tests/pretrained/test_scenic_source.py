"""Checkpoints are written here with the libraries that Scenic writes them with, then read."""

import gc
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax.training import checkpoints

from tests import compiling
from unloc_jax.errors import UserError
from unloc_jax.pretrained.scenic_source import read_config, read_params

GOLDENS = Path(__file__).parents[1] / "goldens" / "scenic"

EXPECTED = {
    "video_encoder/resblocks.0/kernel": np.arange(8, dtype=np.float32).reshape(4, 2),
    "video_encoder/resblocks.0/ln_1/scale": np.array([0.5, -2.0], np.float32),
    "text_encoder/token_embedding/embedding": np.arange(12, dtype=np.float32).reshape(6, 2) / 8,
    "logit_scale": np.float32(3.0),
}


@flax.struct.dataclass
class TrainState:
    """The fields of scenic.train_lib.train_utils.TrainState."""

    opt_state: Any
    params: Any
    global_step: int
    model_state: Any
    rng: Any
    metadata: Any


def nested(scale: float = 1.0) -> dict[str, Any]:
    """The expected parameters as a model has them, one of them in bfloat16."""
    flat = {name: jnp.asarray(value * scale) for name, value in EXPECTED.items()}
    name = "video_encoder/resblocks.0/ln_1/scale"
    flat[name] = flat[name].astype(jnp.bfloat16)
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def train_state(step: int = 7, scale: float = 1.0) -> TrainState:
    params = nested(scale)
    return TrainState(
        opt_state=optax.sgd(0.1, momentum=0.9).init(params),
        params=flax.core.freeze(params),
        global_step=step,
        model_state=flax.core.freeze({}),
        rng=jax.random.PRNGKey(0),
        metadata={"chrono": {"accum_train_time": 1.5}},
    )


def save(folder: Path, state: Any, step: int = 7, *, orbax: bool = False) -> Path:
    before = flax.config.flax_use_orbax_checkpointing
    flax.config.update("flax_use_orbax_checkpointing", orbax)
    try:
        return Path(checkpoints.save_checkpoint(folder, state, step, keep=9))
    finally:
        flax.config.update("flax_use_orbax_checkpointing", before)


def check(params: dict[str, np.ndarray], scale: float = 1.0) -> None:
    assert set(params) == set(EXPECTED)
    for name, expected in EXPECTED.items():
        assert type(params[name]) is np.ndarray
        assert params[name].dtype == np.float32
        np.testing.assert_array_equal(params[name], expected * scale)


@pytest.mark.parametrize("orbax", [False, True])
def test_train_state_of_flax(tmp_path, orbax):
    """By the checkpoint's own path, and by the folder it is in."""
    path = save(tmp_path / "run", train_state(), orbax=orbax)
    assert path.is_dir() == orbax
    check(read_params(path))
    check(read_params(tmp_path / "run"))


@pytest.mark.parametrize("orbax", [False, True])
@pytest.mark.parametrize(
    "state",
    [
        {"optimizer": {"target": nested(), "state": {"step": jnp.zeros(())}}, "global_step": 3},
        {"optimizer": {"target": {"params": nested()}}, "model_state": {}},
        {"params": {"params": nested(), "batch_stats": {"mean": jnp.zeros(2)}}, "global_step": 3},
        nested(),
    ],
    ids=["before optax", "before optax, inner level", "inner level", "bare parameters"],
)
def test_other_layouts(tmp_path, state, orbax):
    check(read_params(save(tmp_path, state, orbax=orbax)))


def test_the_highest_step_is_taken(tmp_path):
    save(tmp_path, train_state(900), 900)
    save(tmp_path, train_state(1000, scale=2.0), 1000, orbax=True)
    (tmp_path / "checkpoint_tmp").write_bytes(b"unfinished")
    (tmp_path / "checkpoint_2000.orbax-checkpoint-tmp-1").mkdir()
    check(read_params(tmp_path), scale=2.0)


def test_arrays_in_chunks(tmp_path, monkeypatch):
    """Arrays over 1 GB are split by flax; here already those over 16 bytes."""
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 16)
    path = save(tmp_path, train_state())
    assert b"__msgpack_chunked_array__" in path.read_bytes()
    check(read_params(path))


@pytest.mark.parametrize("ocdbt", [True, False])
@pytest.mark.parametrize("make", [train_state, nested], ids=["train state", "bare parameters"])
def test_orbax_pytree(tmp_path, make, ocdbt):
    with ocp.PyTreeCheckpointer(use_ocdbt=ocdbt) as checkpointer:
        checkpointer.save(tmp_path / "saved", make())
    check(read_params(tmp_path / "saved"))


@pytest.mark.parametrize("item", ["default", "state", "params", "model"])
def test_checkpoint_manager(tmp_path, item):
    """By the item's folder, the step's and the manager's."""
    tree = nested() if item == "params" else train_state()
    with ocp.CheckpointManager(tmp_path, item_names=(item, "dataset")) as manager:
        for step in (9, 10):
            args = {item: ocp.args.PyTreeSave(tree), "dataset": ocp.args.JsonSave({"position": step})}
            manager.save(step, args=ocp.args.Composite(**args))
    for path in (tmp_path / "10" / item, tmp_path / "10", tmp_path):
        check(read_params(path))


def test_relative_path(tmp_path, monkeypatch):
    save(tmp_path, train_state(), orbax=True)
    monkeypatch.chdir(tmp_path)
    check(read_params(Path("checkpoint_7")))


PROGRAM = """
import sys
import jax, jax.numpy as jnp, numpy as np, orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
mesh = Mesh(np.array(jax.devices()), ("data",))
assert mesh.size == 4
kernel = jax.device_put(jnp.arange(8.0).reshape(4, 2), NamedSharding(mesh, PartitionSpec("data")))
with ocp.PyTreeCheckpointer() as checkpointer:
    checkpointer.save(sys.argv[1], {"params": {"kernel": kernel}})
"""


@pytest.mark.slow
def test_orbax_of_more_devices_than_are_here(tmp_path):
    environment = {
        **os.environ,
        "XLA_FLAGS": compiling.devices(4),
        "JAX_PLATFORMS": "cpu",
    }
    subprocess.run([sys.executable, "-c", PROGRAM, tmp_path / "saved"], env=environment, check=True)
    assert jax.device_count() < 4
    params = read_params(tmp_path / "saved")
    np.testing.assert_array_equal(params["kernel"], np.arange(8).reshape(4, 2))


def test_npz_with_prefix_ignores_the_rest(tmp_path):
    path = tmp_path / "golden.npz"
    np.savez(
        path, **{f"params/{name}": value for name, value in EXPECTED.items()}, **{"inputs/x": np.ones(3)}
    )
    check(read_params(path))


def test_npz_of_bare_names(tmp_path):
    """An .npz stores bfloat16 as two bytes without a name."""
    path = tmp_path / "params.npz"
    np.savez(path, **flax.traverse_util.flatten_dict(nested(), sep="/"))
    with np.load(path) as stored:
        assert stored["video_encoder/resblocks.0/ln_1/scale"].dtype.kind == "V"
    check(read_params(path))


def test_other_dtypes_stay(tmp_path):
    path = tmp_path / "params.npz"
    np.savez(path, half=np.ones(2, np.float16), count=np.ones(2, np.int32))
    assert {name: value.dtype.name for name, value in read_params(path).items()} == {
        "half": "float16",
        "count": "int32",
    }


def test_golden():
    params = read_params(GOLDENS / "tal_passvideo_fpn_subsample_nopos.npz")
    with np.load(GOLDENS / "tal_passvideo_fpn_subsample_nopos.npz") as file:
        expected = {key[len("params/") :]: file[key] for key in file.files if key.startswith("params/")}
    assert params.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(params[name], value)


def bad_source(folder: Path, kind: str) -> Path:
    """A path that cannot be read as parameters, one per way to go wrong."""
    if kind == "empty folder":
        return folder
    path = folder / ("damaged.npz" if kind == "damaged npz" else "checkpoint_3")
    if kind == "damaged npz":
        path.write_bytes(b"PK\x03\x04 and no more")
    elif kind == "no msgpack":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif kind == "cut off":
        path = save(folder, train_state())
        path.write_bytes(path.read_bytes()[:-20])
    elif kind == "no tree":
        path.write_bytes(b"\x07")
    elif kind == "no parameters":
        path = save(folder, {"opt_state": {"count": jnp.zeros(2)}, "global_step": 3, "params": {}})
    elif kind == "no parameters in orbax":
        path = save(folder, {"opt_state": (jnp.zeros(2), None), "global_step": 3, "params": {}}, orbax=True)
    elif kind == "empty":
        path = save(folder, {"params": {}})
    elif kind == "arrays elsewhere":
        path = save(folder, {"params": {"kernel": "//GDAPlaceholder:params/kernel"}})
    elif kind == "damaged orbax":
        path = save(folder, train_state(), orbax=True)
        for file in path.rglob("d/*"):
            file.write_bytes(b"")
    elif kind == "no metadata":
        path = save(folder, train_state(), orbax=True)
        (path / "_METADATA").write_text("{}")
    elif kind == "several items":
        for item in ("model", "ema"):
            with ocp.PyTreeCheckpointer() as checkpointer:
                checkpointer.save(path / item, nested())
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "does not exist. Give a Scenic checkpoint"),
        ("empty folder", "holds no checkpoint. Give a Scenic checkpoint"),
        ("damaged npz", "is damaged or no checkpoint (File is not a zip file). Give"),
        ("no msgpack", "is damaged or no checkpoint (unpack(b) received extra data). Give"),
        ("cut off", "is damaged or no checkpoint (Unpack failed: incomplete input). Give"),
        ("no tree", "is damaged or no checkpoint ("),
        (
            "no parameters",
            "holds global_step, opt_state but no parameters. Give a checkpoint that has `params`",
        ),
        ("no parameters in orbax", "holds global_step, opt_state but no parameters. Give a checkpoint that"),
        ("empty", "holds no parameters. Give a checkpoint that has `params`"),
        ("arrays elsewhere", "kernel is not an array but '//GDAPlaceholder:params/kernel'. Save"),
        ("damaged orbax", "is damaged or no checkpoint ("),
        ("no metadata", "is damaged or no checkpoint (it lacks 'tree_metadata'). Give"),
        ("several items", "holds several items: give the path of one of ema, model in it"),
    ],
)
def test_bad_sources_give_one_line(tmp_path, kind, message):
    path = bad_source(tmp_path, kind)
    with pytest.raises(UserError) as caught:
        read_params(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_only_one_array_of_a_damaged_checkpoint_is_reported(tmp_path, caplog):
    path = bad_source(tmp_path, "damaged orbax")
    with pytest.raises(UserError) as caught:
        read_params(path)
    del caught
    gc.collect()  # asyncio logs a failure that nobody retrieved when the last reference to it is gone
    assert caplog.text == ""


CONFIG = {"model_name": "unloc_moment_retrieval", "ranges": [[0, 4], [4, math.inf]], "model": {"size": 512}}


@pytest.mark.parametrize("wrapped", [False, True])
def test_json_config(tmp_path, wrapped):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"config": CONFIG, "loss": 1.0} if wrapped else CONFIG))
    assert read_config(path) == CONFIG


def test_golden_config():
    config = read_config(GOLDENS / "tal_fpn_ws1_opc1_alltext_focal_iou_ls.json")
    assert config["model_name"] == "unloc_temporal_localization"


# As Scenic's: sizes from a module of the checkout, tuples, infinity, references, nested ConfigDicts.
SCENIC_CONFIG = """
import ml_collections
from scenic.projects.unloc import sizes

def get_config({argument}):
  config = ml_collections.ConfigDict()
  config.model_name = 'unloc_moment_retrieval'
  config.ranges = [(0, 4), (4, float('inf'))]
  config.model = {{'size': sizes.SIZE}}
  config.width = config.model.get_ref('size')
  config.towers = [ml_collections.ConfigDict({{'freeze': True}})]
  return config
"""


@pytest.mark.parametrize("argument", ["", "runlocal", "runlocal=''"])
def test_python_config_in_a_checkout(tmp_path, argument):
    project = tmp_path / "scenic" / "projects" / "unloc"
    (project / "configs").mkdir(parents=True)
    (project / "sizes.py").write_text("SIZE = 512\n")
    path = project / "configs" / "charades.py"
    path.write_text(SCENIC_CONFIG.format(argument=argument))
    before = list(sys.path)
    config = read_config(path)
    assert config == {**CONFIG, "width": 512, "towers": [{"freeze": True}]}
    assert {type(config), type(config["model"]), type(config["towers"][0])} == {dict}
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.py",
            "def get_config():\n  x = 1\n    y = 2\n",
            ", line 3: unexpected indent. Fix it, or give the resolved",
        ),
        (
            "a.py",
            "import scenic_of_elsewhere\n",
            ": No module named 'scenic_of_elsewhere'. Give the file inside its",
        ),
        ("a.py", "def get_config():\n  return [][0]\n", ": get_config() failed with IndexError: list index"),
        (
            "a.py",
            "config = {}\n",
            "failed with AttributeError: module 'scenic_config_a' has no attribute 'get_config'",
        ),
        ("a.py", "def get_config():\n  pass\n", " holds a NoneType instead of a config; give"),
        ("a.json", '{"model": }', " is not JSON (Expecting value: line 1 column 11"),
        ("a.json", "[1, 2]", " holds a list instead of a config; give"),
        ("a.yaml", "model: {}", " is not JSON (Expecting value: line 1 column 1"),
    ],
)
def test_bad_configs_give_one_line(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_config(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_config(tmp_path):
    with pytest.raises(UserError, match="is not a file"):
        read_config(tmp_path / "config.json")


@pytest.mark.slow
def test_reading_imports_neither_tensorflow_nor_torch(tmp_path):
    sources = [save(tmp_path / f"{orbax}", train_state(), orbax=orbax) for orbax in (False, True)]
    np.savez(tmp_path / "params.npz", **EXPECTED)
    program = (
        "import pathlib, sys\n"
        "from unloc_jax.pretrained.scenic_source import read_params\n"
        "for source in sys.argv[1:]: assert len(read_params(pathlib.Path(source))) == 4\n"
        "heavy = {'tensorflow', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program, *sources, tmp_path / "params.npz"], check=True)
