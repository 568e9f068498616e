"""Times training steps and their peak memory, ours and the reference's, in the same run and without a dataset.

python benchmarks/train_step.py --reference=../scenic

The default is the size at which the reference was measured on two CPU cores: action localisation, ViT-B/32 at 128
pixels, 16 frames, 20 classes, 2 videos, float32. Every model runs in its own process; they take turns, so that other
load on the machine affects all of them equally. --reference is a checkout of github.com/google-research/scenic (its
step needs TensorFlow for some imports; ours does not). Other variants of ours, and other models, on any device:

python benchmarks/train_step.py --variant=model.remat=full --variant=model.dtype=bfloat16,batch_size=4
python benchmarks/train_step.py --config=configs/charades_sta.py:L --set=batch_size=8
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from unloc_jax.paths import ArgumentParser

CONFIG = "configs/activitynet_tal.py:B"
SMALL = ("model.image.patch_size=32", "data.crop_size=128", "data.num_frames=16", "batch_size=2", "model.text_chunk=0",
         "model.remat=dots", "data.augmentation.color=0", "data.max_segments=8")  # fmt: skip


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help=f"(default: {CONFIG}, smaller)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--variant", action="append", default=[], metavar="KEY=VALUE[,KEY=VALUE]")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--reference", type=Path, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1, help="of each model in a round (default 1)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(**json.loads(arguments.child))
        return
    base = {"config": arguments.config or CONFIG, "classes": arguments.classes}
    settings = [*arguments.set] if arguments.config else [*SMALL, *arguments.set]
    children = {
        variant: _Child({**base, "settings": [*settings, *variant.split(",")] if variant else settings})
        for variant in ("", *arguments.variant)
    }
    if arguments.reference:
        children["reference"] = _Child({**base, "settings": settings, "reference": str(arguments.reference)})
    for child in children.values():
        assert child.summary
    rounds = [
        {name: child.run(arguments.steps) for name, child in children.items()}
        for _ in range(arguments.rounds)
    ]
    _print(children, rounds)


class _Child:
    """A model in another process, compiled and run once."""

    def __init__(self, what: dict[str, Any]):
        self._process = subprocess.Popen(
            [sys.executable, __file__, f"--child={json.dumps(what)}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """Returns what the process reports once it has compiled."""
        return self._answer()

    def run(self, steps: int) -> dict[str, float]:
        """Returns "seconds" and "cpu_seconds" per step, measured over `steps` steps."""
        return {name: value / steps for name, value in self._ask(str(steps)).items()}

    def memory(self) -> dict[str, float]:
        return self._ask("memory")

    def _ask(self, what: str) -> dict[str, Any]:
        assert self._process.stdin
        print(what, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            sys.exit("a model's process ended; the reason is above")
        return json.loads(line)


def _print(children: dict[str, _Child], rounds: list[dict[str, dict[str, float]]]) -> None:
    summary = children[""].summary
    print(f"\n{summary['device']} × {summary['num_devices']}, jax {summary['jax']}, {os.cpu_count()} CPUs, "
          f"{len(rounds)} rounds in turns\n")  # fmt: skip
    columns = (
        "s/step",
        "CPU s/step",
        "videos/s",
        "speed",
        "CPU speed",
        "peak GiB",
        "of steps",
        "device GiB",
        "MFU %",
        "first step s",
    )
    width = max(len(_shown(name)) for name in children)
    print(" " * width + "".join(f"{column:>13}" for column in columns))
    for name, child in children.items():
        memory = child.memory()
        median, cpu = (
            statistics.median(turn[name][key] for turn in rounds) for key in ("seconds", "cpu_seconds")
        )
        base = "reference" if "reference" in children else ""
        speed, cpu_speed = (
            statistics.median(turn[base][key] / turn[name][key] for turn in rounds)
            for key in ("seconds", "cpu_seconds")
        )
        peak, flops = child.summary["peak_flops"], child.summary["flops"]
        cells = [
            f"{median:.3f}",
            f"{cpu:.3f}",
            f"{child.summary['videos'] / median:.2f}",
            f"{speed:.2f}×",
            f"{cpu_speed:.2f}×",
            f"{memory['process'] / 2**30:.2f}",
            f"{memory['steps'] / 2**30:.2f}",
            f"{memory['device'] / 2**30:.2f}" if memory["device"] else "–",
            f"{100 * flops / median / peak:.1f}" if peak and flops else "–",
            f"{child.summary['first_step_s']:.0f}",
        ]
        print(f"{_shown(name):<{width}}" + "".join(f"{cell:>13}" for cell in cells))
    print(
        "\nspeed: against the reference, or else the first line, by the clock; median of the rounds' ratios\n"
        "CPU speed: the same by CPU time (all threads), which other programs on the machine disturb less\n"
        "peak GiB: resident memory of the process, compilation included; of steps: while steps run\n"
        "first step: with compilation, all models at the same time"
    )


def _shown(name: str) -> str:
    return {"": "ours", "reference": "reference"}.get(name, f"ours, {name}")


def _child(config: str, classes: int, settings: list[str], reference: str = "") -> None:
    """Compiles a step, reports it on stdout, and then executes the commands that it reads from stdin."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not mix with the answers
    answer = lambda **what: print(json.dumps(what), file=answers, flush=True)
    import jax

    from unloc_jax import config as config_lib

    checked = config_lib.load(config, settings)
    if reference:
        from reference_step import reference_step

        step, flops = reference_step(Path(reference), checked, classes), 0.0
    else:
        step = OurStep(checked, classes)
        flops = step.flops
    started = time.perf_counter()
    step()
    first_step_s = time.perf_counter() - started
    step()
    device = jax.devices()[0]
    answer(
        first_step_s=first_step_s,
        videos=checked.batch_size,
        flops=flops,
        peak_flops=_peak(),
        device=device.device_kind,
        num_devices=jax.device_count(),
        jax=jax.__version__,
    )
    whole = _peak_memory()
    _forget_peak_memory()
    for line in sys.stdin:
        if line.strip() == "memory":
            of_device = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
            answer(process=max(whole, _peak_memory()), steps=_peak_memory(), device=of_device)
            continue
        started, of_cpu = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            step()
        answer(seconds=time.perf_counter() - started, cpu_seconds=time.process_time() - of_cpu)


def _peak() -> float | None:
    """Returns the peak FLOP/s of all devices together; None if unknown."""
    import jax

    from unloc_jax.training.flops import peak_flops

    of_one = peak_flops(jax.devices()[0].device_kind)
    return of_one and of_one * jax.device_count()


def _peak_memory() -> int:
    """Returns the peak resident bytes since the process began or `_forget_peak_memory` was called."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    return 0


def _forget_peak_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class OurStep:
    """One training step on a fixed random batch; compiled on first use.

    Attributes:
      flops: of one step, over all devices.
      compiled: the compiled program.
    """

    def __init__(self, config: Any, classes: int):
        import jax

        from unloc_jax.dataset import DatasetMetadata
        from unloc_jax.tasks import make_task
        from unloc_jax.training.flops import train_step_flops
        from unloc_jax.training.frozen_vocabulary import constant_vocabularies
        from unloc_jax.training.optimizer import make_optimizer
        from unloc_jax.training.sharding import batch_sharding, lay_out, make_mesh
        from unloc_jax.training.state import abstract_state, init_state
        from unloc_jax.training.step import Loss, make_train_step

        names = [f"kind of action number {i}" for i in range(classes)]
        mesh = make_mesh(config.mesh, config.batch_size, "batch_size")
        metadata = DatasetMetadata("random", 5.0, 0, names, [], "")
        tasks = {"task": lay_out(make_task(config, metadata, config), mesh)}
        optimizer = make_optimizer(config)
        shardings = jax.tree.map(lambda x: x.sharding, abstract_state(tasks, optimizer, mesh))
        loss = Loss(tasks, {"task": 1.0}, "train")
        self._step: Any = make_train_step(loss, optimizer, mesh, shardings, 0)
        self._state = init_state(tasks, optimizer, mesh)
        batch = jax.device_put({"task": _random_batch(config, classes)}, batch_sharding(mesh))
        self._inputs = batch, constant_vocabularies(tasks, self._state.params, mesh)
        self.flops = train_step_flops(config, classes)

    @functools.cached_property
    def compiled(self) -> Any:
        return self._step.lower(self._state, *self._inputs).compile()

    def __call__(self) -> dict[str, Any]:
        """Runs the step and returns its metrics."""
        import jax

        self._state, metrics = self.compiled(self._state, *self._inputs)
        metrics = jax.device_get(metrics)
        assert metrics["loss"] > 0, f"the loss is {metrics['loss']}"
        return metrics


def _random_batch(config: Any, classes: int) -> Any:
    import numpy as np

    from unloc_jax.batch import Batch
    from unloc_jax.text import tokenize

    rng, data, videos = np.random.default_rng(0), config.data, config.batch_size
    queries = 0 if config.with_vocabulary else data.max_queries
    texts = [f"somebody does thing number {i}" for i in range(videos * queries)]
    shape, max_tokens = (videos, data.max_segments), config.model.text.max_tokens
    return Batch(
        frames=rng.integers(0, 256, (videos, data.num_frames, data.crop_size, data.crop_size, 3), np.uint8),
        frame_mask=np.ones((videos, data.num_frames), bool),
        text_tokens=tokenize(texts, max_tokens).reshape(videos, queries, max_tokens),
        text_mask=np.ones((videos, queries), bool),
        segments=np.sort(rng.uniform(0, data.num_frames - 1, (*shape, 2)), axis=-1).astype(np.float32),
        segment_text=rng.integers(0, classes if config.with_vocabulary else queries, shape).astype(np.int32),
        span_s=np.tile(np.array([0.0, data.num_frames - 1], np.float32), (videos, 1)),
        example_mask=np.ones(videos, bool),
    )


if __name__ == "__main__":
    main()
