"""Folders of the user's that are called as ours are: `configs`, `data_pipelines`, `launch` in the working directory."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_runs import Ran, child_environment

NAMES = ("configs", "data_pipelines", "launch")
SIZES = ("--num-train=4", "--num-val=1", "--num-test=1", "--workers=2")
# Two steps of a tiny model.
TRAIN = (
    "--config=configs/charades_sta.py:tiny", "--config.data.dir=data", "--workdir=run", "--config.batch_size=2",
    "--config.train.steps=2", "--config.train.warmup_steps=1", "--config.evaluation.every_steps=2",
    "--config.model.text.max_tokens=16", "--config.data.crop_size=16", "--config.data.num_frames=8",
)  # fmt: skip


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder whose packages must not even be imported."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        for module in ("__init__", "common", "build", "local"):
            (tmp_path / name / f"{module}.py").write_text("raise RuntimeError('the user has this')\n")
    return tmp_path


@pytest.fixture
def friendly(tmp_path: Path) -> Path:
    """A folder whose packages the user imports; some of their modules are called as some of ours are."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("OWNER = 'user'\n")
        for module in ("common", "build", "own"):
            (tmp_path / name / f"{module}.py").write_text(f"OWNER = 'user'\nSEED = {len(module)}\n")
    return tmp_path


def python(folder: Path, *words: str) -> Ran:
    """Python started in a folder, as where the project is found by PYTHONPATH."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_commands_and_their_children_find_ours(hostile):
    unloc = ("-m", "unloc_jax.cli")
    python(hostile, *unloc, "data", "synthesize", "--out=raw", *SIZES).ok()  # in worker processes
    annotations = [f"raw/annotations/captions_{split}.json" for split in ("train", "val", "test")]
    captions = ("--dataset=activitynet_captions", "--annotations", *annotations, "--videos=raw/videos")
    python(hostile, *unloc, "data", "check", *captions).ok()
    built = ("--out=data", "--fps=5", "--short-side=16", "--workers=2")
    python(hostile, *unloc, "data", "build", *captions, *built).ok()
    # -P: Python itself would find the folder's own `launch`. What it starts has no -P.
    local = ("-P", "-m", "launch.local", "--processes=1", "--", "unloc")
    python(hostile, *local, "train", *TRAIN).ok()
    assert "mIoU" in python(hostile, *local, "evaluate", "--checkpoint=run", "--split=test").ok().out


def test_a_notebook_finds_ours(hostile):
    """`-c` has the working directory first, as a notebook has."""
    program = """
import sys
assert sys.path[0] == ""
import unloc_jax
assert callable(unloc_jax.load)
from unloc_jax.config import load
assert load("configs/charades_sta.py:tiny").batch_size == 4
assert load("configs/multitask.py:tiny").tasks
assert "configs" not in sys.modules  # it stays the user's name
from unloc_jax.cli import main
assert main(["data", "check", "--dataset=jsonl", "--annotations", "a.jsonl"]) == 0
assert "data_pipelines" not in sys.modules
"""
    (hostile / "a.jsonl").write_text(
        '{"video": "v.mp4", "start": 1, "end": 2, "text": "a dog runs", "split": "train", "duration": 9}\n'
    )
    python(hostile, "-c", program).ok()


def test_what_the_user_imports_stays_theirs(friendly):
    program = """
import configs.common, data_pipelines.build, launch.own
theirs = [configs, configs.common, data_pipelines, data_pipelines.build, launch, launch.own]
from unloc_jax.config import load
from unloc_jax.cli import main
for _ in range(2):
    assert load("configs/charades_sta.py:tiny").batch_size == 4
    assert main(["data", "check", "--dataset=jsonl", "--annotations", "nowhere.jsonl"]) == 2
    import configs.common, data_pipelines.build, configs.own
    assert [configs, configs.common, data_pipelines, data_pipelines.build, launch, launch.own] == theirs
    assert {module.OWNER for module in theirs} == {"user"}
    assert not {"configs.charades_sta", "data_pipelines.annotations"} & set(__import__("sys").modules)
"""
    python(friendly, "-c", program).ok()


@pytest.mark.parametrize(
    ("place", "line", "seed"),
    [
        ("configs/mine.py", "from configs.common import SEED", 6),  # the file beside it
        ("configs/mine.py", "from configs.own import SEED", 3),
        ("configs/mine.py", "from configs.quickstart import get_config as of; SEED = len(of().task)", 16),
        ("mine.py", "from configs.common import SIZES; SEED = SIZES['L']['image']['num_heads']", 16),
        ("mine.py", "from configs.own import SEED", 3),
    ],
)
def test_what_a_users_own_config_file_imports(friendly, place, line, seed):
    (friendly / place).write_text(f"{line}\n\ndef get_config():\n    return {{'seed': SEED}}\n")
    program = f"from unloc_jax.config import load; print(load({place!r}).seed)"
    assert python(friendly, "-c", program).ok().out.split() == [str(seed)]


def test_a_config_that_fails_leaves_the_users_packages(friendly):
    (friendly / "mine.py").write_text("import configs.common\n1 / 0\n")
    program = """
import configs.common
from unloc_jax.config import load
from unloc_jax.errors import UserError
try:
    load("mine.py")
except UserError as error:
    print(error)
assert configs is __import__("configs") and configs.common.OWNER == "user"
"""
    assert "ZeroDivisionError" in python(friendly, "-c", program).ok().out
