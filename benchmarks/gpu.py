"""Measures what matters on a GPU in 8 minutes, without data, TensorFlow or network.

python benchmarks/gpu.py --out DIR          # measures; appends to DIR/gpu.jsonl row by row
python benchmarks/gpu.py --table DIR        # prints the tables of docs/performance.md from it
python benchmarks/gpu.py --out DIR --tiny   # the same rows at sizes for a CPU, to try the script

Rows run in the order of their importance, each in its own process; the next process imports meanwhile. A row that fails
or takes too long is recorded and the others follow; no row starts that the total limit would cut short.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from unloc_jax.paths import ArgumentParser

RESULTS = "gpu.jsonl"
_LEAST_S = 15  # a row with less time than this is not started

L, B = "configs/charades_sta.py:L", "configs/charades_sta.py:B"
TAL, COIN = "configs/activitynet_tal.py:B", "configs/coin.py:L"
# (config, videos, remat, attention, further settings, traced)
STEPS = (
    (L, 8, "full", "xla", (), True),
    (L, 4, "dots", "cudnn", (), True),
    (B, 32, "full", "xla", (), False),
    (B, 16, "dots", "cudnn", (), True),
    (TAL, 32, "full", "xla", (), False),
    (TAL, 16, "dots", "cudnn", (), False),
    (COIN, 2, "full", "xla", (), False),
    (COIN, 2, "full", "cudnn", (), False),
    (L, 8, "full", "cudnn", (), False),
    (B, 32, "full", "cudnn", (), False),
    (B, 8, "none", "cudnn", (), False),
    (TAL, 32, "full", "cudnn", (), False),
    (COIN, 2, "full", "cudnn", ("model.frame_chunk=512",), False),
    (L, 4, "dots", "xla", (), False),
    (L, 32, "full", "cudnn", (), False),
    (B, 16, "dots", "xla", (), False),
)
_OTHERS_AFTER = 7  # steps, which cover each model once


def rows(tiny: bool) -> list[dict]:
    """Returns the measurements in order, each with the fields of `gpu_rows.Row`."""
    steps = []
    for config, videos, remat, attention, further, trace in STEPS:
        if tiny:
            config, videos = config.rpartition(":")[0] + ":tiny", 2
        settings = [f"batch_size={videos}", f"model.remat={remat}", f"model.attention={attention}", *further]
        steps.append({"kind": "step", "config": config, "settings": settings, "trace": trace})
    first, others = ("machine", "check", "attention"), ("nms", "augmentation")
    kinds = lambda names: [{"kind": name} for name in names]
    found = [*kinds(first), *steps[:_OTHERS_AFTER], *kinds(others), *steps[_OTHERS_AFTER:]]
    return [{**row, "tiny": tiny} for row in found]


def name_of(row: dict) -> str:
    """Returns the name of a row, equal to `gpu_rows.Row.name`."""
    return " ".join([row.get("config", row["kind"]).removeprefix("configs/"), *row.get("settings", ())])


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--table", type=Path, metavar="DIR")
    parser.add_argument("--limit-s", type=float, default=120, help="of a row (default 120)")
    parser.add_argument("--total-s", type=float, default=470, help="of all rows (default 470)")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT", help="rows whose names have it, in this order"
    )
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        from gpu_table import tables

        print(tables((arguments.table / RESULTS).read_text().splitlines()))
        return
    if not arguments.out:
        parser.error("--out DIR or --table DIR")
    chosen = [row for text in arguments.only for row in rows(arguments.tiny) if text in name_of(row)]
    measure(chosen, arguments.out, arguments.limit_s, time.monotonic() + arguments.total_s)


def measure(chosen: list[dict], out: Path, limit_s: float, until: float) -> None:
    """Runs rows until time.monotonic() reaches `until`; writes the logs of those that fail to out/gpu.log."""
    out.mkdir(parents=True, exist_ok=True)
    results = (out / RESULTS).absolute()
    with tempfile.TemporaryDirectory() as cache:
        waiting = _Child(cache) if chosen else None
        for number, row in enumerate(chosen):
            if until - time.monotonic() < _LEAST_S:
                print(f"no time for the last {len(chosen) - number} rows", flush=True)
                break
            child, waiting = waiting, _Child(cache) if number + 1 < len(chosen) else None
            assert child
            child.measure(row, results, min(limit_s, until - time.monotonic()), out / "gpu.log")
        if waiting:
            waiting.end()


@dataclasses.dataclass
class _Child:
    """A process that has imported everything and waits for its row; processes share a compilation cache."""

    cache: str

    def __post_init__(self) -> None:
        environment = {
            "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92",
            "JAX_COMPILATION_CACHE_DIR": self.cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
            **os.environ,
        }
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("gpu_rows.py"))],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )

    def measure(self, row: dict, results: Path, limit_s: float, log: Path) -> None:
        started = time.monotonic()
        problem, asked = "", json.dumps({"row": row, "results": str(results)})
        try:
            _, errors = self._process.communicate(asked.encode(), limit_s)
            if self._process.returncode < 0:  # the process itself writes exceptions to its results
                problem = f"ended by signal {-self._process.returncode}"
        except subprocess.TimeoutExpired:
            problem = f"not done after {limit_s:.0f} s"
            self._process.kill()
            _, errors = self._process.communicate()
        text = errors.decode(errors="replace")
        if self._process.returncode > 0 and not _ends_with(results, '"error"'):
            problem = (text.strip().splitlines() or ["no reason"])[-1][:300]
        name = name_of(row)
        if problem:
            line = json.dumps({"row": name, "kind": row["kind"], "error": problem})
            with results.open("a") as file:
                file.write(line + "\n")
            print(line, flush=True)
        if self._process.returncode:
            with log.open("a") as file:
                file.write(f"== {name}\n{text[-20_000:]}\n")
        print(f"  {time.monotonic() - started:.0f} s: {name}", flush=True)

    def end(self) -> None:
        self._process.communicate(b"")


def _ends_with(results: Path, what: str) -> bool:
    return results.exists() and what in results.read_text().splitlines()[-1]


if __name__ == "__main__":
    main()
