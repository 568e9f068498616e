"""One tiny dataset and a few tiny trained models per test session, and the command line as a user meets it."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest

from data_pipelines.build import build
from data_pipelines.synthetic.synthesize import synthesize
from tests import compiling
from unloc_jax.cli import main

REPOSITORY = Path(__file__).parents[1]
FPS, SIZE = 5, 16  # of the stored frames
COUNTS = {"train": 6, "validation": 2, "test": 3}

# Every model part and both stages, in 10 steps; 3 test videos do not fill an evaluation batch of 4.
_SETTINGS: dict[str, Any] = {
    "batch_size": 4,
    "log_every_steps": 1,
    "data": {"num_frames": 8, "crop_size": SIZE, "max_segments": 6, "max_queries": 6, "mirror": True},
    "model": {
        "image": {"width": 16, "num_layers": 1, "num_heads": 2, "patch_size": 8},
        "text": {"width": 16, "num_layers": 1, "num_heads": 2, "max_tokens": 16},
        "fusion": {"width": 16, "num_layers": 1, "num_heads": 2, "mlp_dim": 32},
        "pyramid": {"num_levels": 2},
        "head": {"num_conv_layers": 1},
        "dtype": "float32",
    },
    "contrastive": {"steps": 4, "learning_rate": 1e-3, "warmup_steps": 1},
    "train": {"steps": 6, "learning_rate": 1e-3, "warmup_steps": 2},
    "evaluation": {"every_steps": 3, "batch_size": 4, "max_detections": 10},
    "checkpoint": {"every_steps": 5},
}


@dataclasses.dataclass(frozen=True)
class Ran:
    """The outcome of a command: exit status, standard output, standard error."""

    status: int
    out: str
    err: str

    def error(self) -> str:
        """The message of a command that refused: one line, and nothing that looks like a crash."""
        errors = [line for line in self.err.splitlines() if line.startswith("unloc") and ": error: " in line]
        assert (self.status, len(errors)) == (2, 1), self
        assert "Traceback" not in self.out + self.err, self
        return errors[0].partition(": error: ")[2]

    def ok(self) -> "Ran":
        assert self.status == 0, self
        assert "Traceback" not in self.out + self.err, self
        return self


def run_child(*words: object, devices: int = 1, timeout_s: float = 300) -> Ran:
    """A real `unloc …` in a separate process, with fake devices if asked for."""
    done = subprocess.run(
        command_of(*words),
        env=child_environment(devices),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def command_of(*words: object) -> list[str]:
    return [sys.executable, "-m", "unloc_jax.cli", *map(str, words)]


def child_environment(devices: int = 1, *, optimized: bool = False) -> dict[str, str]:
    """The repository on the path, and programs that are shared between processes. Optimized is what users run."""
    return os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "XLA_FLAGS": f"{compiling.devices(devices)} {'' if optimized else compiling.QUICKLY}",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }


def wait_until_heard(process: subprocess.Popen) -> None:
    """Until SIGTERM does not kill it any more."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        (caught,) = [line for line in status.read_text().splitlines() if line.startswith("SigCgt:")]
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)


def metric_lines(workdir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_clock(line: dict[str, Any]) -> dict[str, Any]:
    """A line of metrics.jsonl without what differs from run to run."""
    clock = ("steps_per_s", "videos_per_s", "frames_per_s", "input_fraction", "goodput", "time/", "memory/")
    return {key: value for key, value in line.items() if not key.startswith(clock)}


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory) -> None:
    """Commands compile the same tiny model again and again: only the first one pays for it."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture
def unloc(capfd) -> Callable[..., Ran]:
    """`unloc(*words)` runs the command line in this process."""

    def run(*words: object) -> Ran:
        capfd.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as stopped:  # argparse
            status = int(stopped.code or 0)
        return Ran(status, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def tiny_videos(tmp_path_factory) -> Path:
    """The output of `unloc data synthesize`: 6, 2 and 3 videos of 64 × 64 pixels."""
    out = tmp_path_factory.mktemp("tiny") / "raw"
    train, validation, test = COUNTS.values()
    synthesize(out, num_train=train, num_val=validation, num_test=test, size=64, fps=FPS, workers=1)
    return out


@pytest.fixture(scope="session")
def captions_dataset(tiny_videos) -> Path:
    """Shards of the sentences and their moments."""
    out = tiny_videos.parent / "captions"
    files = [tiny_videos / "annotations" / f"captions_{split}.json" for split in ("train", "val", "test")]
    build("activitynet_captions", files, tiny_videos / "videos", out, fps=FPS, short_side=SIZE, workers=1)
    return out


@pytest.fixture(scope="session")
def activities_dataset(tiny_videos) -> Path:
    """Shards of the same videos with classes."""
    out = tiny_videos.parent / "activities"
    files = [tiny_videos / "annotations" / "activities.json"]
    build("activitynet", files, tiny_videos / "videos", out, fps=FPS, short_side=SIZE, workers=1)
    return out


@pytest.fixture(scope="session")
def config_file(tiny_videos) -> Path:
    """A config file of the tiny model; data.dir is left to the command line."""
    path = tiny_videos.parent / "config.py"
    path.write_text(
        "import ml_collections\n\n\ndef get_config():\n"
        f"    return ml_collections.ConfigDict({json.dumps(_SETTINGS).replace('true', 'True')})\n"
    )
    return path


@pytest.fixture(scope="session")
def trained(config_file, captions_dataset) -> Path:
    """The workdir of a finished moment-retrieval run, whose dataset is gone. Do not write into it: copy it."""
    workdir, dataset = config_file.parent / "trained", config_file.parent / "lost_captions"
    shutil.copytree(captions_dataset, dataset)
    assert (
        main(["train", f"--config={config_file}", f"--workdir={workdir}", f"--config.data.dir={dataset}"])
        == 0
    )
    shutil.rmtree(dataset)
    return workdir


@pytest.fixture(scope="session")
def trained_on_classes(config_file, activities_dataset) -> Path:
    """The workdir of a finished action-localisation run. Do not write into it: copy it."""
    workdir = config_file.parent / "trained_on_classes"
    words = ["train", f"--config={config_file}", f"--workdir={workdir}"]
    words += [f"--config.data.dir={activities_dataset}", "--config.task=temporal_action_localization"]
    words += ["--config.contrastive.steps=0", "--config.contrastive.warmup_steps=0", "--config.train.steps=3"]
    assert main(words) == 0
    return workdir
