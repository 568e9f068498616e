"""The quickstart's numbers over several seeds: `python benchmarks/quickstart_seeds.py` after `make quickstart`.

Trains and evaluates with the public commands, once per seed, and prints a table: recall of the model and of the
controls, how often the right event is hit, and the minutes that training + evaluation took.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, default=Path("quickstart"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()

    runs = {seed: arguments.workdir / "seeds" / str(seed) for seed in arguments.seeds}
    if existing := [str(run) for run in runs.values() if run.exists()]:
        # A finished or interrupted run would be continued, and its minutes would say nothing.
        sys.exit(f"{', '.join(existing)}: there already; delete it or choose other --seeds.")

    columns: list[dict[str, float]] = []
    for seed, run in runs.items():
        started = time.monotonic()
        _unloc(
            "train",
            "--config=configs/quickstart.py",
            f"--workdir={run}",
            f"--config.data.dir={arguments.workdir / 'activitynet_captions'}",
            f"--config.seed={seed}",
        )
        _unloc("evaluate", f"--checkpoint={run}", "--split=test")
        minutes = (time.monotonic() - started) / 60
        metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
        columns.append(_rows(metrics) | {"minutes (training + evaluation)": minutes})

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
