"""Compiles a config's training step for given devices from shapes alone, without videos or parameters."""

import dataclasses
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from unloc_jax.aot.executed_flops import product_flops
from unloc_jax.aot.memory import Memory, memory_of_dump, memory_of_program
from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.tasks import Task, make_task
from unloc_jax.tasks.parameters import input_shapes
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import batch_sharding, lay_out, make_mesh, replicated
from unloc_jax.training.state import abstract_state
from unloc_jax.training.step import Loss, make_train_step
from unloc_jax.training.task_mixing import loss_weights


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled step.

    Attributes:
      tasks: The tasks whose batches it sees.
      mesh: Sizes of the mesh's axes.
      memory: Of one device; None if the compiler refused because it is too large.
      text: The compiled program, for `hlo.Program`.
      too_large: The compiler's message in that case.
      executed_flops: FLOPs of matrix products in the program over all devices, including those that remat repeats.
      seconds: Time to trace and compile.
    """

    tasks: tuple[str, ...]
    mesh: Mapping[str, int]
    memory: Memory | None
    text: str
    too_large: str
    executed_flops: float
    seconds: float

    @property
    def num_devices(self) -> int:
        """Number of devices, all of which are in the mesh."""
        return math.prod(self.mesh.values())


def task_groups(config: Config) -> list[tuple[str, ...]]:
    """Returns the tasks that share a step: all of them, or each its own if several alternate."""
    views = config.task_configs
    return [(name,) for name in views] if config.task_mixing == "alternate" else [tuple(views)]


def mesh_of(config: Config, group: tuple[str, ...], devices: Sequence[jax.Device]) -> Mesh:
    """Returns the mesh of the step of these tasks.

    Raises:
      UserError: The config does not fit the devices.
    """
    videos = min(config.task_configs[name].batch_size for name in group)
    return make_mesh(config.mesh, videos, devices=devices)


def with_batch_size(config: Config, videos: int) -> Config:
    """Returns the config with `videos` videos in every task's batch."""
    tasks = {name: dataclasses.replace(task, batch_size=videos) for name, task in config.tasks.items()}
    return dataclasses.replace(config, batch_size=videos, tasks=tasks)


def compile_step(
    config: Config,
    group: tuple[str, ...],
    devices: Sequence[jax.Device],
    classes: Mapping[str, int | None],
    folder: Path | None = None,
) -> Compiled:
    """Compiles the step that `unloc train` would run on these devices.

    Args:
      config: Of the run.
      group: One of its `task_groups`.
      devices: As returned by `devices_of`.
      classes: By task, the number of its classes; None without a vocabulary.
      folder: An empty folder that keeps the TPU compiler's dump, for a process that reads it meanwhile.

    Raises:
      UserError: The config does not fit the devices.
    """
    started = time.monotonic()
    if config.model.dtype == "auto" and devices[0].platform == "tpu":
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype="bfloat16"))
    views, mesh = config.task_configs, mesh_of(config, group, devices)
    tasks = {
        name: lay_out(make_task(view, _placeholder_metadata(classes[name] or 0), config), mesh)
        for name, view in views.items()
    }
    optimizer = make_optimizer(config)
    state = abstract_state(tasks, optimizer, mesh)
    shardings = jax.tree.map(lambda x: x.sharding, state)
    loss = Loss(tasks, loss_weights(config), "train")
    step: Any = make_train_step(
        loss, optimizer, mesh, shardings, config.seed, config.optimizer.ema_decay, config.accumulate
    )
    batches = {
        name: jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding(mesh)),
            abstract_batch(views[name]),
        )
        for name in group
    }
    traced = step.trace(state, batches, _abstract_vocabularies(tasks, state.params, mesh))
    memory, text, too_large = None, "", ""
    try:
        memory, text = _program(traced.lower(), devices[0].platform, folder)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        too_large = str(error).partition("RESOURCE_EXHAUSTED:")[2].strip().splitlines()[0]
    flops = product_flops(traced.jaxpr.jaxpr)
    return Compiled(group, dict(mesh.shape), memory, text, too_large, flops, time.monotonic() - started)


def _program(lowered: Any, platform: str, folder: Path | None) -> tuple[Memory, str]:
    """Compiles the program and returns (its memory, its text).

    A TPU's text is read from its compiler's dump: jaxlib's XLA, which `as_text()` uses, does not understand
    everything that newer TPU compilers produce, such as asynchronous concatenations.
    """
    if platform != "tpu":
        program = lowered.compile()
        # The peak reported for a CPU excludes temporaries.
        return dataclasses.replace(memory_of_program(program), peak=0), program.as_text()
    with tempfile.TemporaryDirectory() as temporary:
        dump = folder or Path(temporary)
        program = lowered.compile({"xla_dump_to": str(dump), "xla_dump_hlo_as_text": True})
        (text,) = dump.glob("*.after_codegen.txt")
        by_jax = memory_of_program(program)
        memory = memory_of_dump(dump) or by_jax
        return dataclasses.replace(memory, code=by_jax.code, peak=by_jax.peak), text.read_text()


def _abstract_vocabularies(tasks: Mapping[str, Task], params: Any, mesh: Mesh) -> dict[str, Any]:
    """Returns the shapes of the result of `constant_vocabularies`."""
    found = {}
    for name, task in tasks.items():
        if task.has_constant_vocabulary:
            row = task.encoding.padding()
            texts = jax.ShapeDtypeStruct((1, len(task.classes), *row.shape), row.dtype)
            shapes = jax.eval_shape(task.encode_vocabulary, params, texts)
            found[name] = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)), shapes
            )
    return found


def abstract_batch(config: Config) -> Batch:
    """Returns shapes and dtypes of one task's global batch, as documented in `Batch`."""
    data, model, videos = config.data, config.model, config.batch_size
    queries = 0 if config.with_vocabulary else data.max_queries
    array: Any = jax.ShapeDtypeStruct
    places = (videos, data.num_frames)
    inputs = {
        name: array((*places, *shape), dtype)
        for name, (shape, dtype) in input_shapes(model, data.crop_size).items()
    }
    frames = {name for name, modality in model.modalities.items() if modality.reads_frames}
    return Batch(
        frames=next((inputs[name] for name in frames), None),
        frame_mask=array(places, jnp.bool_),
        text_tokens=array((videos, queries, model.text.max_tokens), jnp.int32),
        text_mask=array((videos, queries), jnp.bool_),
        segments=array((videos, data.max_segments, 2), jnp.float32),
        segment_text=array((videos, data.max_segments), jnp.int32),
        span_s=array((videos, 2), jnp.float32),
        example_mask=array((videos,), jnp.bool_),
        features={name: x for name, x in inputs.items() if name not in frames},
        input_masks={"audio": array(places, jnp.bool_)} if model.reads_sound else {},
    )


def _placeholder_metadata(num_classes: int) -> DatasetMetadata:
    """Returns the metadata of a dataset that is not available."""
    return DatasetMetadata("", 1.0, 1, [f"class {i}" for i in range(num_classes)], [], "")
