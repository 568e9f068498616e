"""Measures what pretraining on trimmed clips adds: `python benchmarks/pretraining.py` after `make quickstart`.

Synthesizes trimmed clips (with another seed than the quickstart's videos), pretrains on them with
configs/quickstart_pretrain.py, and fine-tunes configs/quickstart.py twice for the same number of steps: from random
parameters and from the pretrained ones. The quickstart's contrastive stage is off in both. Uses only public
commands; finished runs are reused.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from unloc_jax.paths import ArgumentParser

ARMS = ("from scratch", "pretrained")


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("quickstart"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of fine-tuning (default 0)")
    parser.add_argument("--steps", type=int, default=300, help="of fine-tuning (default 300)")
    parser.add_argument("--form", default="contrastive", choices=("contrastive", "cls"))
    arguments = parser.parse_args()
    workdir = arguments.workdir

    clips = _make_clips(workdir, arguments.form)
    pretrained = workdir / f"pretrained_{arguments.form}"
    _unloc(
        "train", f"--config=configs/quickstart_pretrain.py:{arguments.form}", f"--workdir={pretrained}",
        f"--config.data.dir={clips}",
    )  # fmt: skip
    results: dict[tuple[str, int], dict[str, float]] = {}
    for seed in arguments.seeds:
        for arm in ARMS:
            start = [f"--config.init_from={pretrained}"] if arm == "pretrained" else []
            name = f"{arguments.form}_" if start else ""
            run = workdir / f"{arm.replace(' ', '_')}_{name}{arguments.steps}_steps_{seed}"
            _unloc(
                "train", "--config=configs/quickstart.py", f"--workdir={run}", f"--config.seed={seed}",
                f"--config.data.dir={workdir / 'activitynet_captions'}", "--config.contrastive.steps=0",
                "--config.contrastive.warmup_steps=0", f"--config.train.steps={arguments.steps}", *start,
            )  # fmt: skip
            _unloc("evaluate", f"--checkpoint={run}", "--split=test")
            results[arm, seed] = _numbers(run)
    _print(results, arguments.seeds, arguments.steps)


def _make_clips(workdir: Path, form: str) -> Path:
    raw = workdir / "raw_trimmed"
    _unloc("data", "synthesize", "--out", raw, "--trimmed", "--seed=1", "--num-train=3000")
    dataset, files, out = {
        "contrastive": ("activitynet_captions", "captions_*.json", workdir / "trimmed_captions"),
        "cls": ("activitynet", "activities.json", workdir / "trimmed_classes"),
    }[form]
    annotations = sorted((raw / "annotations").glob(files))
    _unloc(
        "data", "build", "--dataset", dataset, "--annotations", *annotations, "--videos", raw / "videos",
        "--out", out, "--short-side=32", "--fps=10",
    )  # fmt: skip
    return out


def _numbers(run: Path) -> dict[str, float]:
    """Reads the metrics of the test split, in percent."""
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    rows = {f"{name}, model": value for name, value in metrics["recall"]["model"].items()}
    controls = {name: values for name, values in metrics["recall"].items() if name != "model"}
    rows |= {f"R1@0.5, {name}": values["R1@0.5"] for name, values in controls.items()}
    for name, value in metrics["right_event"]["differs_only_in"].items():
        rows[f"right event, rivals differ in {name}"] = value["rate"]
    return rows


def _print(results: dict[tuple[str, int], dict[str, float]], seeds: list[int], steps: int) -> None:
    columns = [f"{arm}, seed {seed}" for arm in ARMS for seed in seeds]
    print(f"\ntest split after {steps} steps of fine-tuning, in percent\n")
    print(f"{'':<44}" + "".join(f"{column:>22}" for column in columns) + f"{'mean difference':>17}")
    for name in results[ARMS[0], seeds[0]]:
        values = {arm: [results[arm, seed][name] for seed in seeds] for arm in ARMS}
        difference = statistics.mean(values[ARMS[1]]) - statistics.mean(values[ARMS[0]])
        cells = "".join(f"{value:>22.1f}" for arm in ARMS for value in values[arm])
        print(f"{name:<44}{cells}{difference:>+17.1f}")


def _unloc(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "unloc_jax.cli", *map(str, words)], check=True)


if __name__ == "__main__":
    main()
