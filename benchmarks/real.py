"""Trains and evaluates on real recordings: `python benchmarks/real.py DIR`, next to simple baselines.

DIR has folders in the layout of ActivityNet: `signs/` with activitynet.json, videos/ID.mp4, moments_SPLIT.jsonl (as
QVHighlights), and clips of one sign each with clips.csv (file, class, split, frames, fps); `actions/` with
activitynet.json and features/ID.npy; `sounds/` as signs, without clips. What is not there is left out. Makes shards in
real/, pretrains on the clips, runs the sweeps of configs/sweeps/real (several hours; it continues when it was stopped),
and prints a table for each. `--only=NAME` chooses sweeps, `--seeds=0` one seed.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import real_baselines

from unloc_jax.console import show
from unloc_jax.paths import ArgumentParser

OUT = Path("real")
SWEEPS = Path("configs/sweeps/real")


def _frames(folder: Path) -> list[object]:
    return ["--videos", folder / "videos", "--fps", 6.9, "--short-side", 72]


def _sound(folder: Path) -> list[object]:
    return ["--videos", folder / "videos", "--fps", 8.8, "--no-frames", "--audio"]


def _clips(folder: Path) -> list[object]:
    return ["--videos", folder / "clips", "--fps", 6.9, "--short-side", 72]


def _features(folder: Path) -> list[object]:
    return ["--no-frames", "--features", f"pose={folder / 'features'}"]


_MOMENTS = [f"moments_{split}.jsonl" for split in ("train", "val", "validation", "test")]
# Shards → annotation format, annotation files, and what else `unloc data build` is told of a folder.
SHARDS = {
    "signs": ("activitynet", ["activitynet.json"], _frames),
    "signs_moments": ("qvhighlights", _MOMENTS, _frames),
    "signs_clips": ("kinetics", [(OUT / "clips.csv").absolute()], _clips),
    "actions": ("activitynet", ["activitynet.json"], _features),
    "sounds": ("activitynet", ["activitynet.json"], _sound),
    "sounds_moments": ("qvhighlights", _MOMENTS, _sound),
}
PRETRAINED = OUT / "runs" / "signs_pretraining"  # as configs/sweeps/real/signs_pretraining.toml says
# Sweep → the recordings, the shards, and the baselines of its task, with the metrics that are shown.
ROWS = {
    "signs_localization": ("signs", ["signs"], real_baselines.localization),
    "signs_pretraining": ("signs", ["signs"], None),
    "signs_retrieval": ("signs", ["signs_moments"], None),  # `unloc evaluate` computes its controls
    "signs_highlights": ("signs", ["signs_moments"], None),
    "signs_segmentation": ("signs", ["signs"], real_baselines.segmentation),
    "signs_four_tasks": ("signs", ["signs", "signs_moments"], None),
    "actions_localization": ("actions", ["actions"], real_baselines.localization),
    "actions_segmentation": ("actions", ["actions"], real_baselines.segmentation),
    "sounds_localization": ("sounds", ["sounds"], None),
    "sounds_retrieval": ("sounds", ["sounds_moments"], None),
}


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    for name in arguments.only:
        recordings, shards, baselines = ROWS[name]
        folder = arguments.dir / recordings
        if not folder.is_dir():
            show(f"{name}: left out, there is no {folder}")
            continue
        _build(folder, *shards)
        if name == "signs_pretraining":
            _pretrain(folder)
        seeds = map(str, arguments.seeds)
        _unloc("sweep", SWEEPS / f"{name}.toml", f"--out={OUT / name}", "--seeds", *seeds)
        if baselines:
            _print_baselines(baselines, folder)


def _build(folder: Path, *shards: str) -> None:
    """Makes shards, except for those that are there."""
    for name in shards:
        dataset, files, options = SHARDS[name]
        if not (OUT / "shards" / name / "build.json").exists():
            annotations = [folder / file for file in files if (folder / file).exists()]
            words = ["--dataset", dataset, "--annotations", *annotations, *options(folder)]
            _unloc("data", "build", *words, "--out", OUT / "shards" / name)


def _pretrain(folder: Path) -> None:
    """Trains on the clips of clips.csv, as the layout of Kinetics has them."""
    OUT.mkdir(exist_ok=True)
    with (folder / "clips.csv").open() as source, (OUT / "clips.csv").open("w") as out:
        out.write("label,youtube_id,time_start,time_end,split\n")
        for row in csv.DictReader(source):
            length_s = int(row["frames"]) / float(row["fps"])
            name, split = Path(row["file"]).stem, row["split"]
            out.write(f"{row['class']},{name},0,{length_s},{split}\n")
    _build(folder, "signs_clips")
    _unloc("train", "--config=configs/real/signs.py:pretraining", f"--workdir={PRETRAINED}")


def _print_baselines(baselines: real_baselines.Baselines, folder: Path) -> None:
    videos, classes = real_baselines.read(folder)
    for name, metrics in baselines(videos, len(classes)).items():
        show(f"baseline, {name}: " + "  ".join(f"{key} {value:.1f}" for key, value in metrics.items()))


def _unloc(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "unloc_jax.cli", *map(str, words)], check=True)


if __name__ == "__main__":
    main()
