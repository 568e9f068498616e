"""What every full-size config costs on TPU slices: `python benchmarks/compile_table.py`.

Compiles each training step at its config's own batch with the TPU compiler (`pip install 'unloc_jax[tpu]'`, no TPU) and
prints a row of a Markdown table: minutes per row, so name what you want with --config and --topology. Settings that a
slice needs are chosen by `fitting` and stand in the row: `unloc compile --config=… --topology=… --config.KEY=VALUE`
with them compiles the same. --config.KEY=VALUE here overrides.
"""

import argparse
import sys

from unloc_jax import config as config_lib
from unloc_jax.aot.classes import known_classes, num_classes
from unloc_jax.aot.report import cost
from unloc_jax.aot.step import compile_step
from unloc_jax.aot.topology import devices_of
from unloc_jax.config import Config
from unloc_jax.errors import UserError
from unloc_jax.training.flops import Chip, chip, train_step_flops

CONFIGS = (
    *(f"configs/{name}.py:{size}" for name in ("charades_sta", "activitynet_captions") for size in "BL"),
    *(
        f"configs/{name}.py:{size}"
        for name in ("qvhighlights", "activitynet_tal", "thumos14")
        for size in "BL"
    ),
    *(f"configs/{name}.py:{size}" for name in ("coin", "kinetics_pretrain", "multitask") for size in "BL"),
)
TOPOLOGIES = ("v5e:4x4", "v5e:16x16", "v5p:2x4x4")
HEADER = (
    "| config | slice | settings | temporaries (GB) | memory (GB) | fits | TFLOPs | recomputed | sent (GB) | step (ms) "
    "| MFU | compiled (s) |"
)
# Of a device's memory, for what the image tower's layers keep of the frames that are worked on at a time: about as
# much again goes to the backward pass of one layer, and the rest is parameters, gradients and fusion.
_KEPT = 1 / 8


def fitting(config: Config, count: int, kind: Chip) -> dict[str, int]:
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
    found = {"mesh.context": context, "accumulate": parts}
    return {key: value for key, value in found.items() if value > 1}


def _kept(config: Config, context: int) -> float:
    """Bytes that one video's frames leave in each of the devices that share it: the input of every layer, bfloat16."""
    image = config.model.image
    tokens = (config.data.crop_size // image.patch_size) ** 2 + 1
    return 2 * config.data.num_frames / context * tokens * image.width * image.num_layers


def rows(path: str, topology: str, overrides: list[str]) -> list[str]:
    """One row per task that has a step of its own."""
    devices = devices_of(topology)
    count, kind = len(devices), chip(devices[0].device_kind)
    assert kind is not None
    chosen = [f"{key}={value}" for key, value in fitting(config_lib.load(path), count, kind).items()]
    settings = {one.partition("=")[0]: one for one in chosen + overrides}.values()
    config = config_lib.load(path, list(settings))
    views = config.task_configs
    classes = {name: num_classes(view, None, known_classes(path)) for name, view in views.items()}
    found = []
    for compiled in compile_step(config, devices, classes):
        flops = sum(train_step_flops(views[name], classes[name]) for name in compiled.tasks)
        result = cost(compiled, flops, count, kind)
        name = path.removeprefix("configs/") + (f" {'+'.join(compiled.tasks)}" if len(views) > 1 else "")
        cells = [name, topology, "<br>".join(f"`{one}`" for one in settings) or "–"]
        if result.memory is None:
            cells += ["–", "–", f"no: {compiled.too_large}", f"{flops / 1e12:.1f}", "–", "–", "–", "–"]
        else:
            memory, seconds, mfu = result.memory, result.step_seconds, result.mfu(kind, count)
            assert seconds is not None and mfu is not None
            cells += [
                f"{memory.temporaries / 1e9:.2f}",
                f"{memory.total / 1e9:.2f}",
                "yes" if memory.total <= kind.memory_bytes else "no",
                f"{flops / 1e12:.1f}",
                f"× {result.executed_flops / flops:.2f}",
                f"{sum(one.sent_bytes for one in result.collectives) / 1e9:.2f}",
                f"{1000 * seconds:.0f}",
                f"{100 * mfu:.0f} %",
            ]
        found.append("| " + " | ".join([*cells, f"{compiled.seconds:.0f}"]) + " |")
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
            try:
                print(
                    "\n".join(rows(path, topology, [one.removeprefix("--config.") for one in rest])),
                    flush=True,
                )
            except UserError as error:
                print(f"{path} on {topology}: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
