"""Tabulates the settings and memory of every full-size config on TPU slices: `python benchmarks/compile_table.py`.

Compiles each training step at its config's own batch for the TPU (`pip install 'unloc_jax[tpu]'`, no TPU needed), as
`unloc compile --memory-only` does, and prints a row of a Markdown table for each. `fitting` chooses the settings that a
slice needs, which are shown in the row; --config.KEY=VALUE changes more.
"""

from unloc_jax import config as config_lib
from unloc_jax.aot.memory_assignment import most_assigned
from unloc_jax.aot.num_classes import known_classes, num_classes
from unloc_jax.aot.topology import devices_of
from unloc_jax.config import Config
from unloc_jax.paths import ArgumentParser
from unloc_jax.training.flops import Chip, chip

_NAMES = ("charades_sta", "activitynet_captions", "qvhighlights", "activitynet_tal", "thumos14", "coin")
CONFIGS = tuple(
    f"configs/{name}.py:{size}" for name in (*_NAMES, "kinetics_pretrain", "multitask") for size in "BL"
)
TOPOLOGIES = ("v5e:4x4", "v5e:16x16", "v5p:2x4x4")
HEADER = "| config | slice | settings | temporaries (GB) | memory (GB) | fits |"
# Share of a device's memory for the activations that the image tower's layers keep: about as much again is needed for
# the backward pass of one layer, and the rest for parameters, gradients and fusion.
_KEPT = 1 / 8


def fitting(config: Config, count: int, kind: Chip) -> list[str]:
    """Returns settings with which a global batch should fit.

    Devices share a video's frames and texts (`mesh.context`) where there are more devices than videos, or where one
    video is too large for one of them; then the batch is split into parts (`accumulate`)."""
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
    """Returns the bytes of one video's kept layer inputs (bfloat16) on each of the `context` devices that share it."""
    image = config.model.image
    tokens = (config.data.crop_size // image.patch_size) ** 2 + 1
    return 2 * config.data.num_frames / context * tokens * image.width * image.num_layers


def row(path: str, topology: str, overrides: list[str]) -> str:
    """Returns the table row of a config; with alternating tasks, that of the step that needs the most memory."""
    devices = devices_of(topology)
    kind = chip(devices[0].device_kind)
    assert kind is not None
    chosen = fitting(config_lib.load(path, overrides), len(devices), kind)
    settings = list({one.partition("=")[0]: one for one in chosen + overrides}.values())
    config, known = config_lib.load(path, settings), known_classes(path)
    classes = {name: num_classes(view, None, known) for name, view in config.task_configs.items()}
    found = most_assigned(config, topology, classes)
    cells = [path.removeprefix("configs/"), topology, " ".join(f"`{one}`" for one in settings) or "–"]
    if isinstance(found, str):
        cells += ["–", "–", f"no: {found}"]
    else:
        fits = "yes" if found.total <= kind.memory_bytes else "no"
        cells += [f"{found.temporaries / 1e9:.2f}", f"{found.total / 1e9:.2f}", fits]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = ArgumentParser(description=__doc__)
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
