"""The schema that a config is checked against, and the defaults of every key.

A config file returns an ml_collections.ConfigDict with the keys it wants to change; `load` merges it and the
command line's overrides into `Config` and refuses unknown keys, wrong types and impossible values before
anything starts.
"""

import ast
import dataclasses
import difflib
import importlib.util
import json
import math
import os
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import ml_collections

from unloc_jax.errors import UserError
from unloc_jax.localization.geometry import pyramid_geometry

TASKS = ("moment_retrieval", "temporal_action_localization")
STRATEGIES = ("dp", "fsdp")

# The lowest possible value of a number, by the last part of its key; 0 where it is not listed.
_LOWEST = {
    "batch_size": 1,
    "num_frames": 2,
    "crop_size": 1,
    "max_segments": 1,
    "max_queries": 1,
    "num_workers": 1,
    "width": 1,
    "num_layers": 1,
    "num_heads": 1,
    "mlp_dim": 1,
    "patch_size": 1,
    "temporal_kernel": 1,
    "max_tokens": 3,  # start, one word, end
    "num_levels": 1,
    "stride": 2,
    "kernel_size": 1,
    "unroll": 1,
    "every_steps": 1,
    "log_every_steps": 1,
    "max_detections": 1,
    "keep": 1,
    "data": -1,
    "context": -1,
    "model": -1,
    "relevance_bias": -math.inf,
    "offsets_bias": -math.inf,
}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which shards, and what is taken from a video."""

    dir: str = ""
    """Folder that `unloc data build` wrote."""
    num_frames: int = 128
    """T, frames sampled evenly from the whole video."""
    crop_size: int = 224
    """Height and width of the (square) crop that the image tower sees."""
    max_segments: int = 16
    """S: segments per video; further ones are left out (and counted)."""
    max_queries: int = 8
    """Q: texts per video of a per-video task; further ones are left out in training, never in evaluation."""
    mirror: bool = False
    """Mirror half of the training videos, swapping left and right in their texts."""
    num_workers: int = 2
    """Threads that decode frames."""


@dataclasses.dataclass(frozen=True)
class ImageTowerConfig:
    """CLIP vision transformer; the defaults are B/16."""

    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    patch_size: int = 16
    temporal_kernel: int = 1
    """Frames that a patch sees (odd); 1 is CLIP."""


@dataclasses.dataclass(frozen=True)
class TextTowerConfig:
    """CLIP text transformer; the defaults are those of B/16."""

    width: int = 512
    num_layers: int = 12
    num_heads: int = 8
    max_tokens: int = 32


@dataclasses.dataclass(frozen=True)
class FusionConfig:
    """Video–text fusion transformer."""

    width: int = 512
    num_layers: int = 6
    num_heads: int = 8
    mlp_dim: int = 2048
    all_text_tokens: bool = False
    """Fuse with every word piece instead of one token per text."""


@dataclasses.dataclass(frozen=True)
class PyramidConfig:
    """Feature pyramid."""

    num_levels: int = 4
    stride: int = 2
    regression_ranges: tuple[tuple[float, float], ...] = ()
    """One (low, high) per level, in grid units; () = (0, 4), (4, 8), (8, 16), …"""


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """Relevance and boundary heads."""

    num_conv_layers: int = 3
    kernel_size: int = 3
    relevance_bias: float = 0.0
    offsets_bias: float = 2.0


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes of the model."""

    image: ImageTowerConfig = ImageTowerConfig()
    text: TextTowerConfig = TextTowerConfig()
    fusion: FusionConfig = FusionConfig()
    pyramid: PyramidConfig = PyramidConfig()
    head: HeadConfig = HeadConfig()
    remat: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    unroll: int = 1
    """Transformer layers per turn of the compiled loop: more is faster on a CPU and slower to compile."""
    dtype: str = "auto"
    """Of the computation: "float32", "bfloat16", or "auto" = bfloat16 on TPU and GPU, float32 on CPU."""


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """relevance_weight · focal loss + IoU loss of the boundaries."""

    relevance_weight: float = 10.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    radius: float | None = 3.0
    """Centre-sampling radius in strides; None = every point of a segment is positive."""


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """One stage of training: linear warm-up, then cosine decay to zero."""

    steps: int = 0
    learning_rate: float = 1e-3
    warmup_steps: int = 0


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW."""

    weight_decay: float = 0.01
    b2: float = 0.98
    max_grad_norm: float = 1.0


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Validation during training, and decoding everywhere."""

    every_steps: int = 500
    batch_size: int = 16
    soft_nms_sigma: float = 0.3
    score_threshold: float = 0.001
    max_detections: int = 100


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written and how many stay."""

    every_steps: int = 500
    keep: int = 3


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis (-1 = all that are left) and the sharding strategy."""

    data: int = -1
    context: int = 1
    model: int = 1
    strategy: str = "dp"


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment."""

    task: str = "moment_retrieval"
    seed: int = 0
    batch_size: int = 64
    """Videos per step, over all devices."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    pretrain: StageConfig = StageConfig()
    """Contrastive stage of both towers on segments and their texts; 0 steps = none."""
    train: StageConfig = StageConfig(steps=10_000)
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    log_every_steps: int = 50

    @property
    def total_steps(self) -> int:
        return self.pretrain.steps + self.train.steps


def load(path: str, overrides: Iterable[str] = ()) -> Config:
    """Reads `path/to/config.py` or `path/to/config.py:argument` and applies overrides.

    Args:
      path: file with `get_config()` or `get_config(argument)`. A file that is not in the working directory is
        looked for among the configs that come with the installation.
      overrides: strings such as "train.steps=200"; values are Python literals, or plain strings.

    Raises:
      UserError: see `from_mapping`; also a file that is missing or fails.
    """
    file, _, argument = path.partition(":")
    source = Path(file)
    if not source.exists() and source.parts[:1] == ("configs",):
        source = Path(str(resources.files("configs"))).joinpath(*source.parts[1:])
    if not source.exists():
        raise UserError(f"--config: there is no file {file}. The project's own are in configs/.")
    spec = importlib.util.spec_from_file_location(f"config_{source.stem}", source)
    if spec is None or spec.loader is None or not source.is_file():
        raise UserError(f"--config={path}: must be a Python file with a function get_config().")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        values = module.get_config(argument) if argument else module.get_config()
        values = ml_collections.ConfigDict(values).to_dict()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{file}: get_config() failed with {type(error).__name__}: {error}") from error
    for override in overrides:
        _set(values, override)
    return from_mapping(values)


def from_mapping(values: Mapping[str, Any]) -> Config:
    """Checks a nested mapping against the schema; keys that are not given take the schema's defaults.

    Raises:
      UserError: unknown key (names the nearest known one), wrong type, impossible value.
    """
    config = _build(Config, values, "config")
    _check_values(config)
    return config


def to_json(config: Config) -> str:
    """The config with all defaults, as JSON that `from_json` reads back."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """Inverse of `to_json`."""
    return from_mapping(json.loads(text))


def _set(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise UserError(f"--config.{override}: write --config.KEY=VALUE.")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    *parents, name = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError(f"--config.{key}: {parent} is a value, not a group of settings.")
    values[name] = value


def _build(schema: type, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise UserError(f"{where} is a group of settings, got {values!r}.")
    hints = typing.get_type_hints(schema)
    fields = {field.name: field for field in dataclasses.fields(schema)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            hint = f"Did you mean {where}.{near[0]}?" if near else f"Known are: {', '.join(fields)}."
            raise UserError(f"{where}.{key} is not a setting. {hint}")
    return schema(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} must be a tuple, got {value!r}.")
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(value) != len(arguments):
            raise UserError(f"{where} must have {len(arguments)} entries, got {value!r}.")
        return tuple(_convert(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(zip(arguments, value)))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{where} must be of type {hint.__name__}, got {value!r} ({type(value).__name__}).")
    return value


def _check_values(config: Config) -> None:
    """Values that are well typed but impossible."""
    if config.task not in TASKS:
        near = difflib.get_close_matches(config.task, TASKS, n=1, cutoff=0.3)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known are: {', '.join(TASKS)}."
        raise UserError(f"config.task = {config.task!r} is not a task. {hint}")
    for key, value in _numbers(config):
        if math.isnan(value):
            raise UserError(f"config.{key} is not a number.")
        low = _LOWEST.get(key.split(".")[-1], 0)
        if value < low:
            raise UserError(f"config.{key} must be at least {low}, got {value}.")
    if config.evaluation.soft_nms_sigma == 0:
        raise UserError("config.evaluation.soft_nms_sigma must be greater than 0.")
    for low, high in config.model.pyramid.regression_ranges:
        if not 0 <= low < high:
            raise UserError(
                f"config.model.pyramid.regression_ranges: ({low}, {high}) is no range; give low < high."
            )
    image = config.model.image
    if config.data.crop_size % image.patch_size:
        lower = max(config.data.crop_size // image.patch_size, 1) * image.patch_size
        raise UserError(
            f"config.data.crop_size = {config.data.crop_size} is not divisible by config.model.image.patch_size = "
            f"{image.patch_size}. Use {lower} or {lower + image.patch_size}."
        )
    if image.temporal_kernel % 2 == 0:
        raise UserError(f"config.model.image.temporal_kernel must be odd, got {image.temporal_kernel}.")
    for name in ("image", "text", "fusion"):
        tower = getattr(config.model, name)
        if tower.width % tower.num_heads:
            raise UserError(
                f"config.model.{name}.width = {tower.width} is not divisible by num_heads = {tower.num_heads}."
            )
    if config.model.dtype not in ("auto", "float32", "bfloat16"):
        raise UserError(f"config.model.dtype must be auto, float32 or bfloat16, got {config.model.dtype!r}.")
    if config.mesh.strategy not in STRATEGIES:
        raise UserError(
            f"config.mesh.strategy must be one of {', '.join(STRATEGIES)}, got {config.mesh.strategy!r}."
        )
    if config.mesh.model != 1 or (config.mesh.context != 1 and config.mesh.strategy != "fsdp"):
        raise UserError(
            "config.mesh: only the axis data splits work today (context also holds parameters of fsdp); "
            "leave config.mesh.model and config.mesh.context at 1."
        )
    if config.model.fusion.width % 2:
        raise UserError(f"config.model.fusion.width = {config.model.fusion.width} must be even.")
    if config.optimizer.b2 >= 1:
        raise UserError(f"config.optimizer.b2 must be below 1, got {config.optimizer.b2}.")
    if config.train.steps < 1:
        raise UserError(f"config.train.steps must be at least 1, got {config.train.steps}.")
    for stage in ("pretrain", "train"):
        value = getattr(config, stage)
        if value.steps and value.warmup_steps >= value.steps:
            raise UserError(
                f"config.{stage}.warmup_steps = {value.warmup_steps} must be below config.{stage}.steps = "
                f"{value.steps}."
            )
        if math.isinf(value.learning_rate):
            raise UserError(f"config.{stage}.learning_rate must be finite.")
    pyramid_geometry(config.data.num_frames, **dataclasses.asdict(config.model.pyramid))  # checks itself


def _numbers(group: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """(key, value) of every number of a config."""
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if dataclasses.is_dataclass(value):
            yield from _numbers(value, f"{prefix}{field.name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + field.name, value


def missing_data_dir(config: Config) -> UserError:
    """What to say when config.data.dir is needed and not usable."""
    return UserError(
        f"config.data.dir = {config.data.dir!r} holds no dataset (looked in {os.path.abspath(config.data.dir)}). "
        "Build one with `unloc data build --dataset … --annotations … --videos DIR --out DIR` and pass it as "
        "--config.data.dir=DIR."
    )
