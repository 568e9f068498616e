"""Repeats the quickstart over several seeds: `python benchmarks/quickstart_seeds.py` after `make quickstart`.

Seed 0 is the quickstart's own run; the others are trained and evaluated here with the same public commands. Prints the
recall of the model and of the controls, and how often the right event is hit. Finished runs are reused.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from unloc_jax.paths import ArgumentParser


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("quickstart"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()

    columns: list[dict[str, float]] = []
    for seed in arguments.seeds:
        run = arguments.workdir / (f"seed_{seed}" if seed else "run_moment_retrieval")
        _unloc(
            "train",
            "--config=configs/quickstart.py",
            f"--workdir={run}",
            f"--config.data.dir={arguments.workdir / 'activitynet_captions'}",
            f"--config.seed={seed}",
        )
        _unloc("evaluate", f"--checkpoint={run}", "--split=test")
        metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
        columns.append(_rows(metrics))

    print(
        f"\n{'':<52}"
        + "".join(f"{f'seed {seed}':>9}" for seed in arguments.seeds)
        + f"{'mean':>9}{'spread':>9}"
    )
    for name in columns[0]:
        values = [column[name] for column in columns]
        spread = max(values) - min(values)
        print(f"{name:<52}" + "".join(f"{v:>9.1f}" for v in [*values, statistics.mean(values), spread]))


def _rows(metrics: dict) -> dict[str, float]:
    rows = {f"{key}, model": value for key, value in metrics["recall"]["model"].items()}
    rows |= {
        f"R1@0.5, {name}": values["R1@0.5"] for name, values in metrics["recall"].items() if name != "model"
    }
    right = metrics["right_event"]
    for name, value in {"any": right["right_event"], **right["differs_only_in"]}.items():
        rows |= {
            f"right event, rivals differ in {name}": value["rate"],
            f"  by chance ({name})": value["chance"],
        }
    return rows


def _unloc(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "unloc_jax.cli", *arguments], check=True)


if __name__ == "__main__":
    main()
