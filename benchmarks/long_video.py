"""Measures time and memory around a model on videos of two hours: `python benchmarks/long_video.py`.

Makes features of synthetic films (7,200 rows of 512 numbers, a row per second) and annotations of two kinds: hundreds
of sentences per film, as in MAD, and actions of some classes, as in EPIC-Kitchens. Builds shards, trains a few steps
and evaluates in windows, with the tiny sizes of configs/mad.py and configs/epic_kitchens.py in windows of 256 rows:
what is measured is the program (with late fusion, so that the model takes little of the time). What the full sizes
need is the model's part (`unloc compile`). Each command is a process, whose peak memory is the operating system's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from unloc_jax.paths import ArgumentParser

WIDTH, CLASSES, STEPS = 512, 97, 10
NAMES = {"mad": "clip", "epic_kitchens": "slowfast"}  # config: what it reads


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=2, help="films per split (default 2)")
    parser.add_argument("--rows", type=int, default=7200, help="rows per film (default 7200)")
    parser.add_argument(
        "--texts", type=int, default=600, help="sentences, or actions, per film (default 600)"
    )
    arguments = parser.parse_args()
    print(f"{'':<24}{'seconds':>9}{'of CPU':>9}{'peak GB':>9}", flush=True)
    for config, what in (("mad", "sentences"), ("epic_kitchens", "actions")):
        with tempfile.TemporaryDirectory() as folder:
            _measure(config, what, Path(folder), arguments.videos, arguments.rows, arguments.texts)


def _measure(config: str, title: str, folder: Path, videos: int, rows: int, texts: int) -> None:
    """Prints a line for each of build, training and evaluation."""
    dataset, files = _make(config, folder, videos, rows, texts)
    shards, run = folder / "shards", folder / "run"
    features = f"{NAMES[config]}={folder / 'features'}"
    build = ["data", "build", "--dataset", dataset, "--annotations", *files, "--no-frames", "--workers=1"]
    _line(f"{title}: build", *build, "--features", features, "--out", shards)
    size = "tiny" if config == "mad" else "tiny,features"
    modality = repr({NAMES[config]: {"encoder": "features", "feature_dim": WIDTH}})
    settings = {
        "data.dir": shards,
        "data.num_frames": 256,
        "model.modalities": modality,
        "train.steps": STEPS,
        "evaluation.every_steps": 10 * STEPS,
        "model.fusion.type": "late",
        "model.text_chunk": 32,
    }
    words = [f"--config.{key}={value}" for key, value in settings.items()]
    _line(f"{title}: train", "train", f"--config=configs/{config}.py:{size}", f"--workdir={run}", *words)
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps_per_s = [line["steps_per_s"] for line in last if "steps_per_s" in line]
    if steps_per_s:
        print(f"  a step: {1 / steps_per_s[-1]:.3f} s", flush=True)
    _line(f"{title}: evaluate", "evaluate", f"--checkpoint={run}", "--split=test")


def _make(config: str, folder: Path, videos: int, rows: int, texts: int) -> tuple[str, list[Path]]:
    """Writes features and annotations; returns `--dataset` and the annotation files."""
    rng = np.random.default_rng(0)
    (folder / "features").mkdir()
    splits = {"train": videos, "val": 1, "test": videos}
    films = [(split, f"{split}{i}") for split, count in splits.items() for i in range(count)]
    for _, film in films:
        np.save(folder / "features" / f"{film}.npy", rng.normal(size=(rows, WIDTH)).astype(np.float32))
    starts = {film: np.sort(rng.uniform(0, rows - 5, texts)).round(1).tolist() for _, film in films}
    if config == "mad":
        for split in splits:
            entries = {
                f"{film}_{i}": {
                    "movie": film, "movie_duration": float(rows), "sentence": f"Someone does {film} {i}.",
                    "ext_timestamps": [start, start + 4.0],
                }
                for of, film in films if of == split for i, start in enumerate(starts[film])
            }  # fmt: skip
            (folder / f"MAD_{split}.json").write_text(json.dumps(entries))
        return "mad", [folder / f"MAD_{split}.json" for split in splits]
    subsets = {"train": "training", "val": "validation", "test": "testing"}
    database = {
        film: {
            "subset": subsets[split],
            "duration": float(rows),
            "annotations": [
                {"label": f"action {i % CLASSES}", "segment": [start, start + 4.0]}
                for i, start in enumerate(starts[film])
            ],
        }
        for split, film in films
    }
    (folder / "actions.json").write_text(json.dumps({"database": database}))
    return "activitynet", [folder / "actions.json"]


def _line(title: str, *words: object) -> None:
    start = time.perf_counter()
    cpu_s, memory_gb = _unloc(*words) or (0.0, 0.0)
    seconds = time.perf_counter() - start
    print(f"{title:<24}{seconds:>9.1f}{cpu_s:>9.1f}{memory_gb:>9.2f}", flush=True)


def _unloc(*words: object) -> tuple[float, float] | None:
    """Runs `unloc …`; returns its seconds of CPU time, and its peak memory in GB."""
    command = [sys.executable, "-m", "unloc_jax.cli", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr
        told = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(told.decode()[-2000:])
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


if __name__ == "__main__":
    main()
