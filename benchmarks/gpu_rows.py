"""Runs one measurement of `gpu.py`: imports, waits for the row on stdin, appends results to the row's file."""

import dataclasses
import functools
import gc
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from train_step import OurStep

from unloc_jax import config as config_lib
from unloc_jax.aot.num_classes import known_classes, num_classes
from unloc_jax.localization.nms import suppress
from unloc_jax.model.transformer import ComputeOptions, Transformer, _cudnn_attention, attention_weights
from unloc_jax.training.flops import peak_flops

WARM_UP, MIN_STEPS, MAX_STEPS, STEPS_S, TRACED = 2, 3, 8, 12.0, 2


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
      kind: a key of KINDS.
      config: "configs/NAME.py:SIZE", for a training step.
      settings: KEY=VALUE overrides of the config.
      trace: also break down where the step's time goes.
      tiny: use sizes for a CPU.
    """

    kind: str
    config: str = ""
    settings: tuple[str, ...] = ()
    trace: bool = False
    tiny: bool = False

    @property
    def name(self) -> str:
        return " ".join([self.config.removeprefix("configs/") or self.kind, *self.settings])


def machine(row: Row) -> dict[str, Any]:
    """Measures the device: versions, and the rates of a plain matrix product and of a plain copy."""
    device = jax.devices()[0]
    side = 256 if row.tiny else 8192
    a, b = (jax.random.normal(jax.random.key(i), (side, side), jnp.bfloat16) for i in range(2))
    product_s = _seconds(jax.jit(jnp.matmul), a, b)
    much = jnp.ones((1 if row.tiny else 1024, 2**20), jnp.float32)
    copy_s = _seconds(jax.jit(lambda x: x + 1), much)
    installed = {name: version for name in ("jax", "jaxlib", "flax", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12")
                 if (version := _version(name))}  # fmt: skip
    return {
        "device": device.device_kind,
        "versions": installed,
        "date": str(date.today()),
        "peak_flops": peak_flops(device.device_kind),
        "product_flops": 2 * side**3 / product_s,
        "copy_bytes_per_s": 2 * much.nbytes / copy_s,
    }


def _seconds(function: Any, *inputs: jax.Array, calls: int = 20, rounds: int = 5) -> float:
    jax.block_until_ready(function(*inputs))
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(calls):
            result = function(*inputs)
        jax.block_until_ready(result)
        times.append((time.perf_counter() - started) / calls)
    return statistics.median(times)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def check(row: Row) -> dict[str, Any]:
    """Returns ‖x − float32‖ / ‖float32‖ of two layers' output and gradients, for CLIP's odd lengths and an even one.

    The float32 reference is XLA with exact products. A CPU has no cuDNN.
    """
    lengths = (17, 16) if row.tiny else (197, 257, 256)
    forms = {"float32": (jnp.float32, False), "bfloat16 xla": (jnp.bfloat16, False)}
    if jax.default_backend() == "gpu":
        forms["bfloat16 cudnn"] = (jnp.bfloat16, True)

    def run(length: int, form: str, precision: str | None) -> list[np.ndarray]:
        dtype, cudnn = forms[form]
        module = Transformer(2, 2, 256, compute=ComputeOptions(remat="full", dtype=dtype, cudnn=cudnn))
        x, seen = jax.random.normal(jax.random.key(length), (2, 8, length, 128))
        params = jax.jit(module.init)(jax.random.key(0), x)

        def loss(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            out = module.apply(params, x).astype(jnp.float32)
            return (out * seen).sum(), out

        with jax.default_matmul_precision(precision):
            (_, out), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, x)
        return [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves((out, gradients))]

    def errors(length: int) -> dict[str, list[float]]:
        exact = run(length, "float32", "highest")
        found = {}
        for form in forms:
            leaves = run(length, form, None)
            each = [np.linalg.norm(x - y) / np.linalg.norm(y) for x, y in zip(leaves, exact)]
            found[form] = [float(each[0]), float(max(each[1:]))]
        return found

    with ThreadPoolExecutor(len(lengths)) as pool:  # most of the time is compilation
        return {"errors": dict(zip(map(str, lengths), pool.map(errors, lengths)))}


def attention(row: Row) -> dict[str, Any]:
    """Times one layer's attention in milliseconds, forward and backward, without the products with weights."""
    shapes = {
        "B/16": (1024, 197, 12, 64),
        "L/14": (512, 257, 16, 64),
        "L/14 without class token": (512, 256, 16, 64),
    }

    def xla(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        logits = jnp.einsum("mqhd,mkhd->mhqk", query * query.shape[-1] ** -0.5, key).astype(jnp.float32)
        return jnp.einsum("mhqk,mkhd->mqhd", attention_weights(logits, query.dtype), value)

    forms = {"xla": xla}
    if jax.default_backend() == "gpu":
        forms["cudnn"] = _cudnn_attention
        forms["cudnn, odd as it is"] = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
    found: dict[str, Any] = {}
    for name, shape in shapes.items():
        images, tokens, heads, width = (2, *shape[1:]) if row.tiny else shape
        inputs = jax.random.normal(jax.random.key(0), (4, images, tokens, heads, width), jnp.bfloat16)
        for form, function in forms.items():

            def both(*of: jax.Array, function: Any = function) -> Any:
                out, back = jax.vjp(function, *of[:3])
                return out, back(of[3])

            try:
                seconds: float | None = _seconds(jax.jit(both), *inputs, calls=2 if row.tiny else 10)
            except Exception as error:
                print(f"{name}, {form}: {error}", file=sys.stderr)
                seconds = None
            found.setdefault(name, {})[form] = seconds and 1000 * seconds
    return {"attention_ms": found}


def step(row: Row, log: Any, out: Path) -> dict[str, Any]:
    """Measures a training step; writes its trace as a separate result, so that a failure there loses nothing."""
    config = config_lib.load(row.config, row.settings)
    classes = num_classes(config, 5 if row.tiny else None, known_classes(row.config)) or 0
    started = time.perf_counter()
    run = OurStep(config, classes)
    ready_s, started = time.perf_counter() - started, time.perf_counter()
    needs = run.compiled.memory_analysis()
    compile_s = time.perf_counter() - started
    first = run()
    for _ in range(WARM_UP - 1):
        run()
    times: list[float] = []
    while len(times) < MIN_STEPS or (len(times) < MAX_STEPS and sum(times) < STEPS_S):
        started = time.perf_counter()
        with jax.transfer_guard("disallow"):  # as in training
            run()
        times.append(time.perf_counter() - started)
    log(
        videos=config.batch_size,
        frames=config.data.num_frames,
        pixels=config.data.crop_size,
        remat=config.model.remat,
        attention=config.model.attention,
        classes=classes,
        seconds=statistics.median(times),
        times=times,
        flops=run.flops,
        peak_bytes=(jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
        temporary_bytes=needs.temp_size_in_bytes,
        ready_s=ready_s,
        compile_s=compile_s,
        loss=float(first["loss"]),
        gradient_norm=float(first["gradient_norm"]),
    )
    if not row.trace:
        return {}
    from gpu_trace import summary

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    options.host_tracer_level = 1
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(TRACED):
                run()
        (written,) = Path(folder).glob("**/*.xplane.pb")
        file = shutil.copy(written, out / f"{re.sub('[^A-Za-z0-9]+', '_', row.name)}.xplane.pb")
    return {"trace": summary(Path(file), TRACED, run.compiled.as_text())}


def nms(row: Row) -> dict[str, Any]:
    """Times our suppression on the problem of `nms.py`, and compares the detections with the CPU's."""
    from nms import BATCH, SETTINGS, SHAPES, ours_ms, problem

    segments, scores = problem(0, BATCH)
    found: dict[str, Any] = {}
    for name, (groups, points) in SHAPES.items():
        s, p = segments.reshape(BATCH, groups, points, 2), scores.reshape(BATCH, groups, points)
        on_cpu, on_device = _both(lambda s, p: suppress(s, p, SETTINGS)[2], s[:1], p[:1])
        same = float(np.mean(on_cpu == on_device))
        found[name] = {"ms_per_video": ours_ms(s, p, 8 if row.tiny else 1000), "same_as_cpu": same}
    return {"nms": found}


def augmentation(row: Row) -> dict[str, Any]:
    """Times our augmentation on the cases of `augmentation.py`, and compares the bytes with the CPU's."""
    from augmentation import CASES, SHAPE, on_device, random_frames

    from unloc_jax.augmentation import augment

    frames, found = random_frames(), {}
    if row.tiny:
        frames = frames[:, :1, :64, :64]
    keys = jax.random.split(jax.random.key(0), SHAPE[0])
    for name, config in CASES.items():
        on_cpu, of_device = _both(functools.partial(augment, config=config), frames[:, :1], keys)
        apart = np.abs(on_cpu.astype(int) - of_device)
        found[name] = {
            "ms_per_frame": on_device(frames, config),
            "levels_from_cpu": int(apart.max()),
            "bytes_that_differ": float(np.mean(apart > 0)),
        }
    return {"augmentation": found}


def _both(function: Any, *inputs: Any) -> list[np.ndarray]:
    """Returns the results of the CPU and of the default device."""
    of = (jax.devices("cpu")[0], jax.devices()[0])
    return [np.asarray(jax.jit(function)(*jax.device_put(inputs, device))) for device in of]


KINDS: dict[str, Any] = {
    "machine": machine,
    "check": check,
    "attention": attention,
    "step": step,
    "nms": nms,
    "augmentation": augmentation,
}


def main() -> None:
    """Reads {"row": …, "results": FILE} from stdin and measures the row; writes traces to FILE's folder."""
    asked = json.loads(sys.stdin.read() or "null")
    if asked is None:
        return  # the parent had no row left
    row = Row(**asked["row"])

    def log(**what: Any) -> None:
        line = json.dumps({"row": row.name, "kind": row.kind, **what})
        with open(asked["results"], "a") as results:
            results.write(line + "\n")
        print(line[:300], flush=True)

    try:
        function = KINDS[row.kind]
        answer = function(row, log, Path(asked["results"]).parent) if row.kind == "step" else function(row)
        if answer:
            log(**answer)
    except Exception as error:
        gc.collect()
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        log(error=reason[:300])
        raise


if __name__ == "__main__":
    main()
