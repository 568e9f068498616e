"""Benchmarks at a tiny size: in this process, with few runs, tiny inputs, and `unloc …` by way of `tiny_size`."""

import importlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pages.inputs import write_scored
from tests.pages.tiny_size import Inputs, parse, run_tiny

# Module → constants that change, and arguments that are added.
TINY: dict[str, tuple[dict[str, Any], list[str]]] = {
    "benchmarks.augmentation": ({"RUNS": 1, "SHAPE": (1, 2, 224, 224, 3)}, []),
    "benchmarks.blocks": ({"RUNS": 1}, []),
    "benchmarks.build": ({"RUNS": 1, "FEW": 1, "MANY": 2}, []),
    "benchmarks.checkpoint_verification": ({"_TIMES": 1}, ["13"]),
    "benchmarks.input_pipeline": (
        {"STORED": 16, "CHOSEN": 8, "EPOCHS": 1, "ROUNDS": 1},
        ["--videos=4"],
    ),
    "benchmarks.nms": (
        {"ROUNDS": 1, "CLASSES": 3, "BATCH": 4, "SHAPES": {"together": (1, 3 * 195), "per class": (3, 195)}},
        ["--videos=4"],
    ),
    "benchmarks.gpu": ({}, ["--tiny", "--only=machine"]),  # tests/test_gpu_benchmark.py runs a step
    "benchmarks.pretraining": ({}, []),
    "benchmarks.quickstart_seeds": ({}, ["--seeds=0"]),  # its run is there
    "benchmarks.quickstart_understanding": ({}, []),
    "benchmarks.bfloat16": ({}, []),
    "benchmarks.long_video": ({"CLASSES": 3, "WIDTH": 20}, ["--videos=1", "--rows=64", "--texts=16"]),
    "benchmarks.localizer": ({}, ["--repeat=1"]),
    "benchmarks.evaluation": ({"RUNS": 1, "VIDEOS": 20, "CLASSES": 5, "QUERIES": 10}, []),
    "benchmarks.train_step": ({"CONFIG": "configs/activitynet_tal.py:tiny"}, ["--rounds=1", "--steps=1"]),
}


def run(
    module: str, words: list[str], inputs: Inputs, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs `main` of a module with the arguments of a page."""
    assert module in TINY, f"{module} is neither in tests/pages/benchmarks.py nor in tests/pages/not_run.py"
    constants, more = TINY[module]
    program = importlib.import_module(module)
    for name, value in constants.items():
        monkeypatch.setattr(program, name, value)
    if hasattr(program, "_unloc"):
        monkeypatch.setattr(program, "_unloc", lambda *each: run_tiny(each, inputs, scratch))
    if module in _AFTER_QUICKSTART:
        _quickstart(inputs)
    if module == "benchmarks.localizer" and not any(re.match("--config(=|$)", word) for word in words):
        words = [*words, "--config=configs/charades_sta.py:tiny"]
    monkeypatch.setattr(sys, "argv", [module, *_tiny(words, inputs, scratch), *more])
    program.main()
    for results in Path().glob("*/gpu.jsonl"):  # gpu.py notes what fails, and goes on
        assert '"error"' not in results.read_text()


_AFTER_QUICKSTART = {
    f"benchmarks.{name}"
    for name in ("pretraining", "quickstart_seeds", "quickstart_understanding", "bfloat16")
}


def _quickstart(inputs: Inputs) -> None:
    """The files that `make quickstart` leaves, anew: what a page made before belongs to other data."""
    folder = Path("quickstart")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "raw").symlink_to(inputs.raw)
    shutil.copytree(inputs.trained, folder / "run_moment_retrieval")


def _tiny(words: list[str], inputs: Inputs, scratch: Path) -> list[str]:
    """With files that exist, and configs of the size tiny."""
    video = inputs.raw / "videos" / "test_00000.mp4"
    files = {"FILE": video, "VIDEO…": video}
    for protocol, name in (
        ("activitynet", "activity_net.v1-3.min.json"),
        ("qvhighlights", "highlight_val_release.jsonl"),
    ):
        if name in words:
            options = ["--protocol", protocol, "--ground-truth", name, "--predictions", "found"]
            (files[name],), _ = write_scored(
                parse(["metrics", *options]), inputs.raw, inputs.activities, scratch
            )
    return [re.sub(r"(\.py:)[BL]\b", r"\1tiny", str(files.get(word, word))) for word in words]
