"""What every full-size config needs on TPU slices: `python benchmarks/compile_table.py`.

Has `unloc compile` compile each training step at its config's own batch for the TPU (`pip install 'unloc_jax[tpu]'`, no
TPU) until its arrays have their places in memory, and prints a row of a Markdown table. Machine code, which comes after
that and takes most of the time, is not waited for: what it says of time, `unloc compile` prints. Settings that a slice
needs are chosen by `fitting` and stand in the row; --config.KEY=VALUE changes more.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from unloc_jax import config as config_lib
from unloc_jax.config import Config
from unloc_jax.training.flops import Chip, chip

_NAMES = ("charades_sta", "activitynet_captions", "qvhighlights", "activitynet_tal", "thumos14", "coin")
CONFIGS = tuple(
    f"configs/{name}.py:{size}" for name in (*_NAMES, "kinetics_pretrain", "multitask") for size in "BL"
)
TOPOLOGIES = ("v5e:4x4", "v5e:16x16", "v5p:2x4x4")
HEADER = "| config | slice | settings | temporaries (GB) | memory (GB) | fits |"
_KINDS = {"v5e": "TPU v5e", "v5p": "TPU v5p", "v6e": "TPU v6e", "v4": "TPU v4"}
# Of a device's memory, for what the image tower's layers keep of the frames that are worked on at a time: about as
# much again goes to the backward pass of one layer, and the rest is parameters, gradients and fusion.
_KEPT = 1 / 8


def fitting(config: Config, count: int, kind: Chip) -> list[str]:
    """Settings with which a global batch should fit: devices that share a video's frames and texts
    (`mesh.context`) where there are more devices than videos, or one video is too much for one of them, and then the
    batch in parts (`accumulate`)."""
    videos = min(view.batch_size for view in config.task_configs.values())
    data = min(count, videos)
    while data > 1 and _kept(config, count // data) > _KEPT * kind.memory_bytes:
        data //= 2
    share, context = videos // data, count // data
    parts = 1
    while parts < share and share // parts * _kept(config, context) > _KEPT * kind.memory_bytes:
        parts *= 2
    return [
        f"{key}={value}" for key, value in (("mesh.context", context), ("accumulate", parts)) if value > 1
    ]


def _kept(config: Config, context: int) -> float:
    """Bytes that one video's frames leave in each of the devices that share it: the input of every layer, bfloat16."""
    image = config.model.image
    tokens = (config.data.crop_size // image.patch_size) ** 2 + 1
    return 2 * config.data.num_frames / context * tokens * image.width * image.num_layers


def row(path: str, topology: str, overrides: list[str]) -> str:
    """Of the step that needs most, where tasks take turns."""
    name, _, shape = topology.partition(":")
    kind, count = chip(_KINDS[name]), 1
    assert kind is not None
    for size in shape.split("x"):
        count *= int(size)
    chosen = fitting(config_lib.load(path, overrides), count, kind)
    settings = list({one.partition("=")[0]: one for one in chosen + overrides}.values())
    config = config_lib.load(path, settings)
    steps = len(config.task_configs) if config.task_mixing == "alternate" else 1
    command = ["compile", f"--config={path}", f"--topology={topology}", *[f"--config.{x}" for x in settings]]
    with tempfile.TemporaryDirectory() as folder:
        sizes, said = _assigned(command, Path(folder), steps)
    cells = [path.removeprefix("configs/"), topology, " ".join(f"`{one}`" for one in settings) or "–"]
    if len(sizes) < steps:
        cells += ["–", "–", f"no: {said}"]
    else:
        total, arguments = max(sizes)
        fits = "yes" if total <= kind.memory_bytes else "no"
        cells += [f"{(total - arguments) / 1e9:.2f}", f"{total / 1e9:.2f}", fits]
    return "| " + " | ".join(cells) + " |"


def _assigned(command: list[str], folder: Path, steps: int) -> tuple[list[tuple[int, int]], str]:
    """(bytes in all, bytes of the arguments) of so many steps, and what was said of one that does not fit.

    `unloc compile` has the compiler write down what it does, in a temporary folder; places in memory come before
    machine code, and then it is stopped.
    """
    found: dict[Path, tuple[int, int]] = {}
    with open(folder / "said", "w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "unloc_jax.cli", *command],
            env=os.environ | {"TMPDIR": str(folder)}, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None and len(found) < steps:
                time.sleep(1)
                with contextlib.suppress(FileNotFoundError):  # it clears up after each step
                    found |= _read(folder)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    lines = (folder / "said").read_text().strip().splitlines()
    refused = [line.split("does not fit", 1)[1].strip() for line in lines if "does not fit" in line]
    return list(found.values()), (refused or lines or [""])[-1]


def _read(folder: Path) -> dict[Path, tuple[int, int]]:
    found = {}
    last = "buffer-assignment-values.txt"  # is written after the two that are read
    for file in folder.rglob(f"*jit_step*after_optimizations-{last}"):
        report = Path(str(file).replace(last, "memory-usage-report.txt")).read_text()
        buffers = Path(str(file).replace(last, "buffer-assignment.txt")).read_text()
        total = re.search(r"\(color=0\)\nTotal bytes: (\d+)", report)
        sizes = re.findall(r"^allocation \d+: size (\d+), page 0, parameter", buffers, re.M)
        if total:
            found[file] = int(total[1]), sum(map(int, sizes))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", nargs="+", default=CONFIGS, metavar="FILE.py:SIZE")
    parser.add_argument("--topology", nargs="+", default=TOPOLOGIES, metavar="KIND:SHAPE")
    arguments, rest = parser.parse_known_args()
    print(HEADER)
    print("|---" * HEADER.count(" | ") + "|---|", flush=True)
    for topology in arguments.topology:
        for path in arguments.config:
            print(row(path, topology, [one.removeprefix("--config.") for one in rest]), flush=True)


if __name__ == "__main__":
    main()
