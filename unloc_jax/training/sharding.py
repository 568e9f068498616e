"""Sharding: the mesh, and one table per strategy that maps arrays to its axes.

Mesh axes: `data` splits videos, `context` frames and texts, `model` the wide matrices. `jax.jit` with shardings
is what used to be called pjit. docs/sharding.md explains which mesh suits which case.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from unloc_jax.config import Config, MeshConfig
from unloc_jax.config.towers import Tower, text_tower, video_tower
from unloc_jax.errors import UserError
from unloc_jax.model.layout import Layout
from unloc_jax.tasks import Task

MESH_AXES = ("data", "context", "model")

# Suffix of a parameter's name → names of its last axes. The axes before them (scanned layers) and those without a name
# are never split. The first match wins; a parameter without a match is an error.
PARAMETER_AXES: list[tuple[str, tuple[str | None, ...]]] = [
    (r"attention/qkv/kernel", ("embed", None, "heads", None)),
    (r"attention/qkv/bias", ("heads", None)),
    (r"attention/out/kernel", ("heads", None, "embed")),
    (r"pooler/(query_projection|key|value)/kernel", ("embed", "heads", None)),
    (r"pooler/(query_projection|key|value)/bias", ("heads", None)),
    (r"pooler/out/kernel", ("heads", None, "embed")),
    (r"mlp_in/kernel", ("embed", "mlp")),
    (r"mlp_in/bias", ("mlp",)),
    (r"mlp_out/kernel", ("mlp", "embed")),
    (r"token_embedding/embedding", ("vocabulary", "embed")),
    (r"patch_embedding/kernel", (None, "embed")),
    (r"(video|text|contrastive)_projection/kernel", (None, "embed")),
    (r"projections_[^/]+/kernel", (None, "embed")),
    (r"(relevance|offsets)(_of_\d+)?/conv_\d+/kernel", (None, "embed", "channels")),
    (r"downsample_\d+/conv/kernel", (None, None, "embed")),
    # Small: a few thousand numbers each, at most 400 thousand (a class embedding for every frame).
    (r"pyramid/conv_\d+/kernel", ()),
    (r"(output|linear)/kernel", ()),
    (r"(class|position)_embedding", ()),
    (r"(spatial|temporal)_position", ()),
    (r"pooler/(query|scale|norm/scale|norm/bias)", ()),
    (r"([^/]+_norm|norm_[^/]+|norms_[^/]+)/(scale|bias)", ()),
    (
        r"(out|patch_embedding|mlp_out|conv(_\d+)?|output|linear|(video|text|contrastive)_projection|projections_[^/]+)/bias",
        (),
    ),
    (r"head/(scale|shift)_\d+", ()),
    (r"logit_scale", ()),
    (r"(qkv|out|mlp_in|mlp_out)_lora/[ab]", ()),
    (r"ns_coeffs", ()),  # three numbers of Muon's state
]

_BATCH = ("data", "context")


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Maps names of axes to the mesh axes that split them.

    Attributes:
      parameters: For each name in PARAMETER_AXES; the optimizer's moments are sharded like their parameters.
      activations: For each of `unloc_jax.model.layout.NAMES`.
    """

    parameters: dict[str, tuple[str, ...]]
    activations: dict[str, tuple[str, ...]]


_SPLIT_BATCH = {
    "videos": ("data",), "frames": ("context",), "windows": _BATCH, "texts": ("context",), "all_texts": _BATCH
}  # fmt: skip
_UNSPLIT_LAYERS = {"heads": (), "mlp": ()}
_SPLIT_LAYERS = {"heads": ("model",), "mlp": ("model",)}

STRATEGY_RULES: dict[str, Strategy] = {
    # Data parallel: every device has all parameters.
    "dp": Strategy(
        {"embed": (), "heads": (), "mlp": (), "channels": (), "vocabulary": ()},
        {**_SPLIT_BATCH, **_UNSPLIT_LAYERS},
    ),
    # Fully sharded data parallel: devices that share the batch also share the storage of parameters, and gather each
    # layer's when they need them.
    "fsdp": Strategy(
        {"embed": _BATCH, "heads": (), "mlp": (), "channels": (), "vocabulary": ()},
        {**_SPLIT_BATCH, **_UNSPLIT_LAYERS},
    ),
    # Tensor parallel: each device along `model` holds some of the attention heads and of the hidden units.
    "tp": Strategy(
        {
            "embed": (),
            "heads": ("model",),
            "mlp": ("model",),
            "channels": ("model",),
            "vocabulary": ("model",),
        },
        {**_SPLIT_BATCH, **_SPLIT_LAYERS},
    ),
    "fsdp_tp": Strategy(
        {
            "embed": _BATCH,
            "heads": ("model",),
            "mlp": ("model",),
            "channels": ("model",),
            "vocabulary": ("model",),
        },
        {**_SPLIT_BATCH, **_SPLIT_LAYERS},
    ),
}

# From this number of elements on (4 MiB in float32), an array that a rule splits must be divisible.
_LARGE = 2**20


def make_mesh(
    config: MeshConfig,
    batch_size: int,
    setting: str = "batch_size",
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """Builds the mesh of a config, for batches of `batch_size` videos.

    Args:
      config: Sizes of the axes.
      batch_size: Number of videos.
      setting: Name of the setting that the batch size comes from, for messages.
      devices: None = all.

    Raises:
      UserError: The product of the axes is not the number of devices, `data` does not divide the batch, the strategy
        does not use the `model` axis, or processes do not share `data` evenly.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    sizes = config.sizes(count)
    if int(np.prod(sizes)) != count or min(sizes) < 1:
        raise UserError(
            f"config.mesh = data {config.data} × context {config.context} × model {config.model} does not fit "
            f"{count} devices; let config.mesh.data be -1 to take what is left."
        )
    data, context, model = sizes
    if batch_size % data:
        fewer = f", or put devices on config.mesh.context ({data} × {context} now)" if data > 1 else ""
        raise UserError(
            f"config.{setting} = {batch_size} is not divisible by the data axis of {data} devices. "
            f"Use {max(batch_size // data, 1) * data}{fewer}."
        )
    if model > 1 and not any("model" in axes for axes in STRATEGY_RULES[config.strategy].parameters.values()):
        raise UserError(
            f"config.mesh.model = {model}: with config.mesh.strategy = {config.strategy!r} these devices would all do "
            "the same work. Use tp or fsdp_tp, or config.mesh.model = 1."
        )
    processes = len({device.process_index for device in devices})
    if data % processes and processes % data:
        raise UserError(
            f"config.mesh.data = {data} neither divides nor is a multiple of the {processes} processes, each of which "
            "reads the videos of its own devices."
        )
    # Process by process, in the order in which rows are read: jax.make_mesh would follow the links between chips and
    # spread consecutive rows of a batch over several processes.
    in_order = sorted(devices, key=lambda device: (device.process_index, device.id))
    # With Auto axes the compiler propagates shardings; with Explicit ones that would be our job.
    return Mesh(np.array(in_order).reshape(sizes), MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def lay_out(task: Task, mesh: Mesh) -> Task:
    """Returns the task with its model sharded over a mesh, according to config.mesh.strategy.

    Raises:
      UserError: `context` does not divide the frames, `model` does not divide attention heads or widths, or `data` and
        config.accumulate do not divide the batch.
    """
    _check_sizes(task.config, mesh)
    rules = STRATEGY_RULES[task.config.mesh.strategy].activations
    layout = Layout(mesh, tuple(rules.items()))
    return dataclasses.replace(task, model=task.model.clone(layout=layout))


def _check_sizes(config: Config, mesh: Mesh) -> None:
    """Raises UserError if a size is not divisible by its mesh axis; see `lay_out`."""
    data, context, model = (mesh.shape[axis] for axis in MESH_AXES)
    network = config.model
    at_once = data * config.accumulate
    if config.batch_size % at_once:
        lower = config.batch_size // at_once * at_once
        raise UserError(
            f"config.batch_size = {config.batch_size} is not divisible by the data axis of {data} devices times "
            f"config.accumulate = {config.accumulate}. Use {f'{lower} or ' if lower else ''}{lower + at_once}."
        )
    data_config = config.data
    towers = {}
    for modality in network.modalities.values():
        tower = video_tower(network, modality.encoder, data_config.num_frames, data_config.crop_size)
        if tower is None:
            continue
        towers[tower.group] = tower
        if tower.parts % context:
            _refuse_context(tower, data_config.num_frames, context)
    if of_texts := text_tower(network):
        towers[of_texts.group] = of_texts
    heads = {"fusion": network.fusion.num_heads} | {name: tower.num_heads for name, tower in towers.items()}
    for name, number in heads.items():
        if number % model:
            raise UserError(
                f"config.model.{name}.num_heads = {number} is not divisible by config.mesh.model = {model}."
            )
    hidden = {"fusion": network.fusion.mlp_dim} | {name: tower.mlp_dim for name, tower in towers.items()}
    for name, number in hidden.items():
        if number % model:
            raise UserError(
                f"config.model.{name}.mlp_dim = {number} is not divisible by config.mesh.model = {model}."
            )


def _refuse_context(tower: Tower, frames: int, context: int) -> None:
    """Raises UserError because `context` does not divide what devices share of a video."""
    if tower.parts != frames:
        raise UserError(
            f"config.data.num_frames = {frames} makes {tower.parts} {tower.part}, not a multiple of "
            f"config.mesh.context = {context}: change one of them, or config.model.{tower.group}.window."
        )
    lower = frames // context * context
    raise UserError(
        f"config.data.num_frames = {frames} is not divisible by config.mesh.context = {context}. "
        f"Use {f'{lower} or ' if lower else ''}{lower + context}."
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of batches, which are split by video."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays that every device holds completely."""
    return NamedSharding(mesh, PartitionSpec())


def tree_shardings(tree: Any, mesh: Mesh, strategy: str) -> Any:
    """Returns a NamedSharding for every leaf of a tree of arrays or shapes, from the strategy's table.

    Leaves are matched by the suffix of their name, so a tree may hold parameters or what an optimizer keeps for each of
    them. Scalars are replicated.

    Raises:
      LookupError: An array's name is not in PARAMETER_AXES.
      UserError: The mesh cannot split a large array as the strategy requires.
    """

    def leaf_sharding(path: tuple, leaf: Any) -> NamedSharding:
        if not leaf.shape:
            return replicated(mesh)
        name = "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)
        return NamedSharding(mesh, _parameter_spec(name, leaf.shape, mesh, strategy))

    return jax.tree_util.tree_map_with_path(leaf_sharding, tree)


def axes_of_parameter(name: str) -> tuple[str | None, ...]:
    """Returns the names of a parameter's last axes; raises LookupError for a name without a rule."""
    for pattern, axes in PARAMETER_AXES:
        if re.search(rf"(^|/){pattern}$", name):
            return axes
    raise LookupError(
        f"{name}: there is no rule for how this array is split; add one to PARAMETER_AXES in {__file__}"
    )


def _parameter_spec(name: str, shape: tuple[int, ...], mesh: Mesh, strategy: str) -> PartitionSpec:
    """Returns the PartitionSpec of a parameter; see `tree_shardings`."""
    rules = STRATEGY_RULES[strategy].parameters
    axes = axes_of_parameter(name)
    entries: list[Any] = [None] * len(shape)
    for axis, axis_name in enumerate(axes, start=len(shape) - len(axes)):
        wanted = rules[axis_name] if axis_name else ()
        found = _dividing(shape[axis], wanted, mesh)
        entries[axis] = found if len(found) > 1 else found[0] if found else None
        if not found and int(np.prod(shape)) >= _LARGE and _num_shards(wanted, mesh) > 1:
            sizes = " × ".join(f"{mesh_axis} {mesh.shape[mesh_axis]}" for mesh_axis in wanted)
            raise UserError(
                f"config.mesh.strategy = {strategy!r} cannot split {name} {shape}: {sizes} does not divide "
                f"{shape[axis]}. Use other sizes of config.mesh, or the strategy dp."
            )
    return PartitionSpec(*entries)


def _dividing(size: int, wanted: tuple[str, ...], mesh: Mesh) -> tuple[str, ...]:
    """Returns the mesh axes that divide a size: all that are wanted, or as many of the first ones as possible."""
    for count in range(len(wanted), 0, -1):
        if size % _num_shards(wanted[:count], mesh) == 0:
            return wanted[:count]
    return ()


def _num_shards(axes: tuple[str, ...], mesh: Mesh) -> int:
    return int(np.prod([mesh.shape[axis] for axis in axes], dtype=int))
