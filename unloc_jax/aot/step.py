"""The training step of a config as a program for given devices, from shapes alone: no videos, no parameters."""

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
from unloc_jax.aot.memory import Memory, of_notes, of_program
from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.dataset import DatasetFacts
from unloc_jax.tasks import Task, make_task
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import batch_sharding, lay_out, make_mesh, replicated
from unloc_jax.training.state import abstract_state
from unloc_jax.training.step import Loss, make_train_step
from unloc_jax.training.task_mixing import loss_weights


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled step.

    Attributes:
      tasks: whose batches it sees.
      mesh: sizes of the mesh's axes.
      memory: of one device; None where the compiler refused because it is too large.
      text: of the compiled program, as `hlo.Program` reads it.
      too_large: what the compiler said then.
      executed_flops: products of matrices in the program over all devices, with those that remat repeats.
      seconds: how long it took to trace and to compile.
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
        """A mesh has all of them."""
        return math.prod(self.mesh.values())


def task_groups(config: Config) -> list[tuple[str, ...]]:
    """The tasks that share a step: with several that alternate, every task has a step of its own."""
    views = config.task_configs
    return [(name,) for name in views] if config.task_mixing == "alternate" else [tuple(views)]


def mesh_of(config: Config, group: tuple[str, ...], devices: Sequence[jax.Device]) -> Mesh:
    """In which the step of these tasks runs.

    Raises:
      UserError: the config does not fit the devices.
    """
    videos = min(config.task_configs[name].batch_size for name in group)
    return make_mesh(config.mesh, videos, devices=devices)


def with_batch_size(config: Config, videos: int) -> Config:
    """Every task's batch has `videos` videos."""
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
      config: of the run.
      group: one of its `task_groups`.
      devices: as `devices_of` finds them.
      classes: by task, the number of its classes; None without a vocabulary.
      folder: an empty one where the TPU compiler's notes stay, for one who reads them meanwhile.

    Raises:
      UserError: a config that does not fit the devices.
    """
    started = time.monotonic()
    if config.model.dtype == "auto" and devices[0].platform == "tpu":
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype="bfloat16"))
    views, mesh = config.task_configs, mesh_of(config, group, devices)
    tasks = {
        name: lay_out(make_task(view, _facts(classes[name] or 0), config), mesh)
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
    """(what the compiled program needs, its text).

    A TPU's text is what its compiler writes down: of what newer ones make, such as asynchronous concatenations, some is
    not understood by the XLA in jaxlib, which `as_text()` asks.
    """
    if platform != "tpu":
        program = lowered.compile()
        # The peak of a CPU leaves temporaries out.
        return dataclasses.replace(of_program(program), peak=0), program.as_text()
    with tempfile.TemporaryDirectory() as forgotten:
        notes = folder or Path(forgotten)
        program = lowered.compile({"xla_dump_to": str(notes), "xla_dump_hlo_as_text": True})
        (text,) = notes.glob("*.after_codegen.txt")
        by_jax = of_program(program)
        memory = of_notes(notes) or by_jax
        return dataclasses.replace(memory, code=by_jax.code, peak=by_jax.peak), text.read_text()


def _abstract_vocabularies(tasks: Mapping[str, Task], params: Any, mesh: Mesh) -> dict[str, Any]:
    """Shapes of what `constant_vocabularies` makes before the first step."""
    found = {}
    for name, task in tasks.items():
        if task.has_constant_vocabulary:
            texts = jnp.asarray(task.encoding(task.classes))[None]
            shapes = jax.eval_shape(task.encode_vocabulary, params, texts)
            found[name] = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)), shapes
            )
    return found


def abstract_batch(config: Config) -> Batch:
    """Shapes and dtypes of one task's global batch, as `Batch` describes them."""
    data, model, videos = config.data, config.model, config.batch_size
    queries = 0 if config.with_vocabulary else data.max_queries
    of: Any = jax.ShapeDtypeStruct
    frames, features = None, {}
    for name, modality in model.modalities.items():
        if modality.encoder == "clip":
            frames = of((videos, data.num_frames, data.crop_size, data.crop_size, 3), jnp.uint8)
        else:
            features[name] = of((videos, data.num_frames, modality.feature_dim), jnp.float32)
    return Batch(
        frames=frames,
        frame_mask=of((videos, data.num_frames), jnp.bool_),
        text_tokens=of((videos, queries, model.text.max_tokens), jnp.int32),
        text_mask=of((videos, queries), jnp.bool_),
        segments=of((videos, data.max_segments, 2), jnp.float32),
        segment_text=of((videos, data.max_segments), jnp.int32),
        span_s=of((videos, 2), jnp.float32),
        example_mask=of((videos,), jnp.bool_),
        features=features,
    )


def _facts(num_classes: int) -> DatasetFacts:
    """Of a dataset that is not here."""
    return DatasetFacts("", 1.0, 1, [f"class {i}" for i in range(num_classes)], [], "")
