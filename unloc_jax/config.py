"""The schema that a config is checked against, and the defaults of every key.

A config file returns an ml_collections.ConfigDict with the keys it wants to change; `load` merges it and the
command line's overrides into `Config` and refuses unknown keys, wrong types and impossible values before
anything starts.
"""

import ast
import copy
import dataclasses
import difflib
import importlib.util
import json
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import ml_collections

from unloc_jax.config_paths import with_paths
from unloc_jax.data_config import DataConfig
from unloc_jax.errors import UserError
from unloc_jax.localization.geometry import PyramidGeometry, pyramid_geometry
from unloc_jax.localization.losses import parse_boundary_loss
from unloc_jax.localization.nms import NMS
from unloc_jax.paths import path_of

STRATEGIES = ("dp", "fsdp", "tp", "fsdp_tp")

# What a setting may be, by its key; groups that share a field's name share its choices.
CHOICES: dict[str, tuple[str, ...]] = {
    "task_mixing": ("alternate", "all"),
    "data.format": ("unloc", "mediasequence"),
    "data.sampling": ("linspace", "window"),
    "data.evaluation_windows": ("center", "sliding"),
    "data.mediasequence.labels": ("segment", "clip"),
    "data.class_split": ("all", "50/50", "75/25"),
    "model.dtype": ("auto", "float32", "bfloat16"),
    "model.attention": ("xla", "cudnn"),
    "model.remat": ("none", "dots", "full"),
    "model.modalities.encoder": ("clip", "features"),
    "model.image.pooling": ("token", "mean"),
    "model.image.activation": ("quick_gelu", "gelu", "gelu_exact"),
    "model.text.encoder": ("clip", "embeddings"),
    "model.text.pooling": ("end", "first", "mean"),
    "model.text.activation": ("quick_gelu", "gelu", "gelu_exact"),
    "model.fusion.type": ("early", "late"),
    "model.fusion.positions": ("sinusoid", "learned", "none"),
    "model.pyramid.type": ("simple", "fpn", "none"),
    "model.pyramid.downsampling": (
        "max_pool",
        "avg_pool",
        "strided_conv",
        "strided_depthwise_conv",
        "subsample",
    ),
    "model.head.type": ("conv", "linear"),
    "model.head.distances": ("relu", "relu_clip", "sigmoid"),
    "loss.relevance": ("focal", "sigmoid"),
    "loss.negatives": ("own", "batch"),
    "pretrain.schedule": ("cosine", "constant", "piecewise", "exponential"),
    "train.schedule": ("cosine", "constant", "piecewise", "exponential"),
    "optimizer.name": ("adamw", "adam", "sgd"),
    "optimizer.momentum_dtype": ("float32", "bfloat16"),
    "checkpoint.on_error": ("stop", "continue"),
    "non_finite": ("stop", "skip", "rollback"),
    "evaluation.nms": ("gaussian", "linear", "hard"),
    "mesh.strategy": STRATEGIES,
}

# The lowest possible value of a number, by the last part of its key; 0 where it is not listed.
_LOWEST = {
    "batch_size": 1,
    "accumulate": 1,
    "num_frames": 2,
    "window_stride": 1,
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
    "crops": 1,
    "keep": 1,
    "stall_s": 1,
    "data": -1,
    "context": -1,
    "model": -1,
    "relevance_bias": -math.inf,
    "offsets_bias": -math.inf,
    "vocabulary_size": 1,
    "decay_every": 1,
    "decay_steps": 1,
}
# Numbers that must be below 1.
_FRACTIONS = (
    "dropout",
    "attention_dropout",
    "stochastic_depth",
    "label_smoothing",
    "b1",
    "b2",
    "momentum",
    "ema_decay",
)
# Numbers that must not be above a bound.
_HIGHEST = {
    "crops": 3,
    "color": 1,
    "grey": 1,
    "max_unreadable": 1,
    "rand_augment_magnitude": 10,
    "layer_decay": 1,
    "window_overlap": 0.9,
    "voting_threshold": 1,
    "nms_iou_threshold": 1,
}
# Numbers are computed with as float32 and int32; only an open end is infinite.
_LARGEST_FLOAT = 3.4e38
_LARGEST_INT = 2**31 - 1
_MAY_BE_INFINITE = ("model.pyramid.regression_ranges",)


@dataclasses.dataclass(frozen=True)
class ImageTowerConfig:
    """CLIP vision transformer; the defaults are B/16."""

    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    patch_size: int = 16
    temporal_kernel: int = 1
    """Frames that a patch sees (odd); 1 is CLIP."""
    pooling: str = "token"
    """What stands for a frame: its class token, or the mean of its patches (no class token then)."""
    class_token_per_frame: bool = False
    """A class embedding for every sampled frame, as in the reference, instead of one for all."""
    stochastic_depth: float = 0.0
    """Chance to skip the last layer; it grows linearly from 0 at the first."""
    activation: str = "quick_gelu"


@dataclasses.dataclass(frozen=True)
class ModalityConfig:
    """One kind of input per frame: what encodes it, and how it joins the others."""

    encoder: str = "clip"
    """ "clip": an image tower as in model.image; "features": precomputed, taken as they are."""
    feature_dim: int = 0
    """D of precomputed features."""
    freeze: bool = False
    """Do not train the encoder."""
    projection_width: int = 0
    """Width of a projection of this modality alone; 0 = none."""
    projection_bias: bool = False
    norm: bool = False
    """LayerNorm after it."""


@dataclasses.dataclass(frozen=True)
class TextTowerConfig:
    """CLIP text transformer; the defaults are those of B/16."""

    width: int = 512
    num_layers: int = 12
    num_heads: int = 8
    max_tokens: int = 32
    vocabulary_size: int = 49408
    encoder: str = "clip"
    """ "clip": this tower; "embeddings": one given vector of `width` numbers per text, in `embeddings_file`."""
    embeddings_file: str = ""
    """ .npz with `texts` [n] and `embeddings` [n, width]."""
    pooling: str = "end"
    """Which token stands for a text: the end token's, the first, or the mean of all."""
    freeze: bool = False
    projection: bool = True
    """Project to the fusion's width; without, the widths must be equal."""
    projection_bias: bool = False
    activation: str = "quick_gelu"


@dataclasses.dataclass(frozen=True)
class FusionConfig:
    """Video–text fusion transformer."""

    type: str = "early"
    """ "early": frames and text attend to each other. "late": frames alone; texts meet the pyramid's points."""
    width: int = 512
    num_layers: int = 6
    num_heads: int = 8
    mlp_dim: int = 2048
    all_text_tokens: bool = False
    """Fuse with every word piece instead of one token per text."""
    positions: str = "sinusoid"
    positions_max_length: int | None = None
    """Only the first tokens of the sequence get a position; None = all."""
    dropout: float = 0.0
    attention_dropout: float = 0.0
    stochastic_depth: float = 0.0


@dataclasses.dataclass(frozen=True)
class PyramidConfig:
    """Feature pyramid."""

    type: str = "simple"
    """ "simple": from the last fusion layer. "fpn": levels at `layers`, top-down path. "none": frames only."""
    num_levels: int = 4
    stride: int = 2
    layers: tuple[int, ...] = ()
    """fpn: the fusion layer (from 0) after which each level is taken; () = the last num_levels layers."""
    downsampling: str = "max_pool"
    """fpn: how a level becomes the next."""
    regression_ranges: tuple[tuple[float, float], ...] = ()
    """One (low, high) per level, in grid units; () = (0, 4), (4, 8), (8, 16), …"""
    ranges_from_data: bool = False
    """Choose regression_ranges so that the levels share the training segments evenly."""


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """Relevance and boundary heads."""

    type: str = "conv"
    """ "conv", or "linear": one linear layer for relevance and no boundaries (segmentation)."""
    num_conv_layers: int = 3
    kernel_size: int = 3
    shared_levels: bool = True
    """One head for all levels with a scale and a shift per level, or a head per level."""
    offsets_per_text: bool = True
    """Boundaries for every (video, text) pair, or one boundary per point for all texts of a vocabulary."""
    distances: str = "relu"
    """What keeps distances ≥ 0; "relu_clip" and "sigmoid" also keep them ≤ 1."""
    relevance_bias: float = 0.0
    offsets_bias: float = 2.0


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Parts and sizes of the model."""

    image: ImageTowerConfig = ImageTowerConfig()
    modalities: dict[str, ModalityConfig] = dataclasses.field(
        default_factory=lambda: {"rgb": ModalityConfig()}
    )
    """Inputs by name: "rgb" with the encoder "clip" reads the frames, the others read features of their name."""
    video_projection: bool = True
    """Project the concatenated modalities to the fusion's width; without, the widths must be equal."""
    video_projection_bias: bool = False
    text: TextTowerConfig = TextTowerConfig()
    fusion: FusionConfig = FusionConfig()
    pyramid: PyramidConfig = PyramidConfig()
    head: HeadConfig = HeadConfig()
    frame_chunk: int = 0
    """Frames that a device takes through the image tower at a time, so that long videos fit into memory; 0 = all."""
    text_chunk: int = 0
    """Texts that are fused at a time, so that thousands fit into memory; 0 = all."""
    attention: str = "xla"
    """ "xla", or "cudnn": the image tower's by cuDNN's flash attention, on a GPU in bfloat16; elsewhere it is "xla"."""
    remat: str = "none"
    """What the backward pass recomputes of every transformer layer: "none"; "dots" all but the products with weights;
    "full" all, so that only the layers' inputs are kept: the least memory, about a third more time than "none"."""
    unroll: int = 1
    """Transformer layers per turn of the compiled loop: more is faster on a CPU and slower to compile."""
    dtype: str = "auto"
    """Of the computation: "float32", "bfloat16", or "auto" = bfloat16 on TPU and GPU, float32 on CPU."""

    def geometry(self, num_frames: int) -> PyramidGeometry:
        """The pyramid's points over T frames."""
        pyramid = self.pyramid
        levels = 1 if pyramid.type == "none" else pyramid.num_levels
        return pyramid_geometry(num_frames, levels, pyramid.stride, pyramid.regression_ranges)

    @property
    def pyramid_layers(self) -> tuple[int, ...]:
        """The fusion layer after which each level of an fpn is taken."""
        first = self.fusion.num_layers - self.pyramid.num_levels
        return self.pyramid.layers or tuple(range(first, self.fusion.num_layers))


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """relevance_weight · relevance loss + boundary loss."""

    relevance: str = "focal"
    relevance_weight: float = 10.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0
    boundaries: str = "iou"
    """Sum of "iou", "l1" and "center", each with a factor if wanted: "0.5*l1+1.0*iou"; "iou+center" is DIoU."""
    radius: float | None = 3.0
    """Centre-sampling radius in strides; None = every point of a segment is positive."""
    negatives: str = "own"
    """Moment retrieval: the other queries of the video, or all queries of the global batch."""


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """One stage of training: learning_rate × decay(step) × min(1, step / warmup_steps), as in the reference."""

    steps: int = 0
    learning_rate: float = 1e-3
    learning_rates: dict[str, float] = dataclasses.field(default_factory=dict)
    """Other rates by the beginning of a parameter's name, such as {"head": 0.1, "fusion": 0.1}."""
    warmup_steps: float = 0
    schedule: str = "cosine"
    """ "cosine": from the end of the warm-up to zero at the last step. "piecewise": decay_factors[i] of the rate after
    decay_steps[i]. "exponential": times decay_rate every decay_every steps (in stairs if `staircase`). "constant"."""
    decay_steps: tuple[int, ...] = ()
    decay_factors: tuple[float, ...] = ()
    decay_rate: float = 0.1
    decay_every: int = 1000
    staircase: bool = False


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, Adam or SGD with momentum, after the global norm of the gradients is clipped."""

    name: str = "adamw"
    momentum: float = 0.9
    b1: float = 0.9
    b2: float = 0.98
    weight_decay: float = 0.01
    """Of kernels; biases, scales, embeddings and positions are not decayed."""
    max_grad_norm: float | None = 1.0
    layer_decay: float = 1.0
    """Of the learning rate from layer to layer down a tower: layer i of L, from 0, learns with layer_decay^(L − 1 − i)
    of its tower's rate, the embeddings below it with layer_decay^L (Clark et al. 2020)."""
    momentum_dtype: str = "float32"
    """Of Adam's first moment and SGD's momentum; "bfloat16" halves their memory. Adam's second moment stays float32:
    in bfloat16 it would stop moving, because an update changes it by less than a rounding step."""
    ema_decay: float = 0.0
    """Decay of an exponential moving average of the trained parameters, which evaluation and prediction then use;
    0 = none. In step t it is at most (1 + t) / (10 + t), so that the average forgets the random start."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Validation during training, and decoding everywhere."""

    every_steps: int = 500
    batch_size: int = 16
    """Videos (or windows) at a time."""
    crops: int = 1
    """1: the middle of the frames. 2: both ends of their longer side. 3: all; the model's outputs are averaged."""
    nms: str = "gaussian"
    """How candidates that overlap a better one are lowered: see `unloc_jax.localization.nms.NMS`."""
    soft_nms_sigma: float = 0.3
    nms_iou_threshold: float = 0.5
    score_threshold: float = 0.001
    max_detections: int = 100
    voting_threshold: float = 0.0
    """Segments move to the mean of the candidates with at least this IoU; 0 = not."""
    voting_by_overlap: bool = False
    """Weighted by score · IoU (ActionFormer) instead of score (OpenTAD)."""

    def suppression(self, num_candidates: int) -> NMS:
        """The NMS of num_candidates candidates."""
        return NMS(
            min(self.max_detections, num_candidates),
            self.nms,
            self.soft_nms_sigma,
            self.nms_iou_threshold,
            self.score_threshold,
            self.voting_threshold,
            self.voting_by_overlap,
        )


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written and how many stay."""

    every_steps: int = 500
    keep: int = 3
    keep_best: int = 0
    """This many more stay, those with the highest `best_metric`."""
    best_metric: str = ""
    """A metric of the validation, such as "mIoU"; in a run of several tasks "TASK/mIoU"."""
    on_error: str = "stop"
    """When a checkpoint cannot be written (a full disk, say): "stop", or "continue" and try again at the next."""


@dataclasses.dataclass(frozen=True)
class WandbConfig:
    """Weights & Biases, beside TensorBoard and metrics.jsonl; WANDB_MODE=offline and the like do what they say."""

    project: str = ""
    """ "" = not."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis (-1 = all that are left), and which arrays they share: see docs/sharding.md."""

    data: int = -1
    """Splits videos."""
    context: int = 1
    """Splits frames in the image tower and texts in the fusion, so that a batch may have fewer videos than devices."""
    model: int = 1
    """Splits heads and hidden units (tensor parallelism); with the strategies tp and fsdp_tp only."""
    strategy: str = "dp"
    """ "dp": every device has all parameters. "fsdp": they and the optimizer's state are split over data × context.
    "tp": over model. "fsdp_tp": over all three."""

    def sizes(self, devices: int) -> tuple[int, int, int]:
        """data, context and model over so many devices, -1 being what is left; they need not fit."""
        given = [self.data, self.context, self.model]
        known = math.prod(size for size in given if size > 0)
        data, context, model = (devices // known if size == -1 else size for size in given)
        return data, context, model


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """One of several tasks of a run; what it does not say is as at the top of the config."""

    weight: float = 1.0
    """Its share of the steps ("alternate"), or the factor of its loss ("all")."""
    task: str = "moment_retrieval"
    batch_size: int = 64
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    loss: LossConfig = LossConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment."""

    task: str = "moment_retrieval"
    tasks: dict[str, TaskConfig] = dataclasses.field(default_factory=dict)
    """Several tasks in one run: {name: {"weight": 1.0, "task": …, "data": {…}, …}}; {} = the one above."""
    task_mixing: str = "alternate"
    """Each step sees one task's batch, or all of them."""
    seed: int = 0
    batch_size: int = 64
    """Videos per step, over all devices."""
    accumulate: int = 1
    """Parts of a batch that are worked through one after the other, so that a larger batch fits into memory; the step
    is that of the whole batch."""
    init_from: str = ""
    """A checkpoint to start from, such as one that `unloc import` made, or "KIND:SRC" for another program's CLIP,
    such as "hf-clip:openai/clip-vit-base-patch16"; "" = random parameters."""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = LossConfig()
    pretrain: StageConfig = dataclasses.field(default_factory=StageConfig)
    """Contrastive stage of both towers on segments and their texts; 0 steps = none."""
    train: StageConfig = dataclasses.field(default_factory=lambda: StageConfig(steps=10_000))
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    log_every_steps: int = 50
    non_finite: str = "stop"
    """A step whose loss or gradient is NaN or infinite changes nothing; then "stop"; or "skip": go on with the next
    batch; or "rollback": go back to the last checkpoint's parameters first."""
    wandb: WandbConfig = WandbConfig()
    profile: tuple[int, ...] = ()
    """(first, last): trace these steps with JAX's profiler into WORKDIR/profile; () = none."""

    @property
    def total_steps(self) -> int:
        return self.pretrain.steps + self.train.steps

    @property
    def with_vocabulary(self) -> bool:
        """Whether the task's texts are the dataset's classes, rather than each video's queries."""
        return _tasks()[self.task].with_vocabulary

    @property
    def task_configs(self) -> dict[str, "Config"]:
        """Each task of the run as a config of its own, by name; a single task has its own name."""
        if not self.tasks:
            return {self.task: self}
        shared = ("task", "batch_size", "data", "loss", "evaluation")
        return {
            name: dataclasses.replace(self, tasks={}, **{key: getattr(task, key) for key in shared})
            for name, task in self.tasks.items()
        }


def load(path: str, overrides: Iterable[str] = ()) -> Config:
    """Reads `path/to/config.py` or `path/to/config.py:argument` and applies overrides.

    Args:
      path: file with `get_config()` or `get_config(argument)`. A file that is not in the working directory is
        looked for among the configs that come with the installation.
      overrides: strings such as "train.steps=200"; values are Python literals, or plain strings.

    Raises:
      UserError: see `from_mapping`; also a file that is missing or fails.
    """
    file, _, argument = path_of(path).partition(":")
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
    return from_mapping(with_paths(_overridden(values, overrides), typed=True))


def with_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> Config:
    """`from_mapping` of nested values after "KEY=VALUE" strings have changed them; raises UserError as it does."""
    return from_mapping(_overridden(values, overrides))


def _overridden(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    changed = copy.deepcopy(dict(values))
    for override in overrides:
        _set(changed, override)
    return changed


def with_absolute_paths(config: Config) -> Config:
    """Paths that a checkpoint remembers, independent of the working directory."""
    absolute = lambda path: str(Path(path).resolve()) if path else ""
    shards = lambda group: dataclasses.replace(group, classes_file=absolute(group.classes_file))
    place = lambda group: dataclasses.replace(
        group,
        data=dataclasses.replace(
            group.data, dir=absolute(group.data.dir), mediasequence=shards(group.data.mediasequence)
        ),
    )
    text = dataclasses.replace(config.model.text, embeddings_file=absolute(config.model.text.embeddings_file))
    return dataclasses.replace(
        place(config),
        tasks={name: place(task) for name, task in config.tasks.items()},
        model=dataclasses.replace(config.model, text=text),
        init_from=_absolute_source(config.init_from),
    )


def _absolute_source(text: str) -> str:
    """ "KIND:SRC", as of another program's CLIP, keeps its kind; SRC may be an id of a hub instead of a path."""
    kind, separator, source = text.partition(":")
    if separator and kind.endswith("-clip"):
        return f"{kind}:{Path(source).resolve() if Path(source).exists() else source}"
    return str(Path(text).resolve()) if text else ""


def from_mapping(values: Mapping[str, Any]) -> Config:
    """Checks a nested mapping against the schema; keys that are not given take the schema's defaults.

    In paths (`config_paths.PATH_KEYS`) `~` is the home folder.

    Raises:
      UserError: unknown key (names the nearest known one), wrong type, impossible value.
    """
    config = _build(
        Config, _with_inherited_settings(_with_named_remat(with_paths(values, typed=False))), "config"
    )
    _check_values(config)
    return config


def _with_named_remat(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Checkpoints made before remat had names say True or False."""
    model = values.get("model")
    if not isinstance(model, Mapping) or not isinstance(model.get("remat"), bool):
        return values
    return {**values, "model": {**model, "remat": "full" if model["remat"] else "none"}}


def _with_inherited_settings(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Gives every entry of `tasks` what it does not say itself from the top of the config."""
    tasks = values.get("tasks")
    if not isinstance(tasks, Mapping) or not all(isinstance(task, Mapping) for task in tasks.values()):
        return values
    keys = {field.name for field in dataclasses.fields(TaskConfig)} & values.keys()
    shared = {key: values[key] for key in keys}
    return {**values, "tasks": {name: _merged(shared, task) for name, task in tasks.items()}}


def _merged(base: Any, changes: Any) -> Any:
    if not isinstance(base, Mapping) or not isinstance(changes, Mapping):
        return changes
    return {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}


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
    value = _literal(text)
    *parents, name = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError(f"--config.{key}: {parent} is a value, not a group of settings.")
    values[name] = value


class _Infinity(ast.NodeTransformer):
    """Lets a value say inf or INFINITY, which Python has no literal for."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(math.inf) if node.id in ("inf", "INFINITY") else node


def _literal(text: str) -> Any:
    """A Python literal, which may hold inf; any other text is itself."""
    try:
        return ast.literal_eval(_Infinity().visit(ast.parse(text.strip(), mode="eval")))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two: deeply nested
        return text


def _build(schema: type, values: Any, where: str, default: Any = None) -> Any:
    """An instance of `schema`; what `values` does not say is as in `default`, or else as the schema says."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where} is a group of settings, got {values!r}.")
    hints = typing.get_type_hints(schema)
    fields = {field.name: field for field in dataclasses.fields(schema)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            hint = f"Did you mean {where}.{near[0]}?" if near else f"Known are: {', '.join(fields)}."
            raise UserError(f"{where}.{key} is not a setting. {hint}")
    default = schema() if default is None else default
    given = {
        key: _convert(hints[key], value, f"{where}.{key}", getattr(default, key))
        for key, value in values.items()
    }
    return dataclasses.replace(default, **given)


def _convert(hint: Any, value: Any, where: str, default: Any = None) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where, default)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where} is a group of settings, got {value!r}.")
        return {str(key): _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} must be a tuple, got {value!r}.")
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(value) != len(arguments):
            raise UserError(f"{where} must have {len(arguments)} entries, got {value!r}.")
        return tuple(_convert(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(zip(arguments, value)))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > _LARGEST_FLOAT:
            return math.inf if value > 0 else -math.inf
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UserError(
            f"{where} must be of type {hint.__name__}, got {value!r:.200} ({type(value).__name__})."
        )
    return value


def _check_values(config: Config) -> None:
    """Values that are well typed but impossible."""
    _check_leaves(config)
    for name, view in config.task_configs.items():
        _check_task(view, f"config.tasks.{name}" if config.tasks else "config")
    _check_model(config.model)
    total_weight = sum(task.weight for task in config.tasks.values())
    if config.tasks and not total_weight:
        raise UserError(
            f"config.tasks: the weights of the tasks add up to {total_weight:g}; give some above 0."
        )
    if config.accumulate > 1 and config.pretrain.steps:
        raise UserError(
            f"config.accumulate = {config.accumulate}: the contrastive loss of config.pretrain compares all segments "
            "of a batch with each other, so it cannot be taken part by part. Set accumulate = 1 or pretrain.steps = 0."
        )
    if config.optimizer.max_grad_norm == 0:
        raise UserError("config.optimizer.max_grad_norm = 0 would stop every update; None does not clip.")
    if not config.optimizer.layer_decay:
        raise UserError(
            "config.optimizer.layer_decay = 0 would stop the towers; 1 lets all layers learn alike."
        )
    if config.checkpoint.keep_best and not config.checkpoint.best_metric:
        raise UserError(
            "config.checkpoint.keep_best needs config.checkpoint.best_metric: the name of a metric of the validation, "
            "such as 'mIoU'."
        )
    if config.profile and not (len(config.profile) == 2 and 1 <= config.profile[0] <= config.profile[1]):
        raise UserError(f"config.profile must be () or (first step, last step), got {config.profile}.")
    if config.train.steps < 1:
        raise UserError(f"config.train.steps must be at least 1, got {config.train.steps}.")
    for stage in ("pretrain", "train"):
        _check_stage(getattr(config, stage), f"config.{stage}")


def _check_leaves(config: Config) -> None:
    """Every value by itself: choices and bounds."""
    for key, value in _leaves(config):
        setting = _without_names(key)
        last = setting.split(".")[-1]
        choices = tuple(_tasks()) if setting == "task" else CHOICES.get(setting)
        if choices and value not in choices:
            near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.3)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(f"config.{key} must be one of {', '.join(choices)}, got {value!r}.{hint}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if isinstance(value, float) and math.isnan(value):
            raise UserError(f"config.{key} is not a number.")
        open_end = value == math.inf and setting in _MAY_BE_INFINITE
        if isinstance(value, float) and abs(value) > _LARGEST_FLOAT and not open_end:
            raise UserError(f"config.{key} must be finite, got {value}.")
        if isinstance(value, int) and abs(value) > _LARGEST_INT:
            raise UserError(f"config.{key} must be at most {_LARGEST_INT}.")
        low = _LOWEST.get(last, 0)
        if value < low:
            raise UserError(f"config.{key} must be at least {low}, got {value}.")
        if value > _HIGHEST.get(last, math.inf):
            raise UserError(f"config.{key} must be at most {_HIGHEST[last]}, got {value}.")
        if last in _FRACTIONS and value >= 1:
            raise UserError(f"config.{key} must be below 1, got {value}.")


def _tasks() -> dict[str, Any]:
    """Returns the classes of all tasks by name; they import this module, so it cannot import them at its start."""
    from unloc_jax.tasks import TASKS

    return TASKS


def _check_task(config: Config, where: str) -> None:
    """Refuses settings of one task of a run that do not go together."""
    data, model = config.data, config.model
    if config.evaluation.soft_nms_sigma == 0:
        raise UserError(f"{where}.evaluation.soft_nms_sigma must be greater than 0.")
    uses_frames = any(modality.encoder == "clip" for modality in model.modalities.values())
    if uses_frames and data.crop_size % model.image.patch_size:
        lower = max(data.crop_size // model.image.patch_size, 1) * model.image.patch_size
        raise UserError(
            f"{where}.data.crop_size = {data.crop_size} is not divisible by config.model.image.patch_size = "
            f"{model.image.patch_size}. Use {lower} or {lower + model.image.patch_size}."
        )
    jitter = data.augmentation.scale_jitter
    if jitter and not (len(jitter) == 2 and 0 < jitter[0] <= jitter[1]):
        raise UserError(
            f"{where}.data.augmentation.scale_jitter must be () or (low, high) with 0 < low <= high, got {jitter}."
        )
    wrong = [prompt for prompt in data.prompts if prompt.count("{}") != 1]
    if wrong or not data.prompts:
        raise UserError(
            f"{where}.data.prompts: {wrong[0]!r} must contain {{}} once, where the text goes."
            if wrong
            else f'{where}.data.prompts is empty; ("{{}}",) is the text alone.'
        )
    try:
        parse_boundary_loss(config.loss.boundaries)
    except ValueError as error:
        raise UserError(f"{where}.loss.boundaries = {config.loss.boundaries!r}: {error}") from error
    _tasks()[config.task].check_config(config, where)
    model.geometry(data.num_frames)  # checks itself


def _check_model(model: ModelConfig) -> None:
    for low, high in model.pyramid.regression_ranges:
        if not 0 <= low < high:
            raise UserError(
                f"config.model.pyramid.regression_ranges: ({low}, {high}) is no range; give low < high."
            )
    if model.image.temporal_kernel % 2 == 0:
        raise UserError(f"config.model.image.temporal_kernel must be odd, got {model.image.temporal_kernel}.")
    towers = ("image", "text", "fusion") if model.text.encoder == "clip" else ("image", "fusion")
    for name in towers:
        tower = getattr(model, name)
        if tower.width % tower.num_heads:
            raise UserError(
                f"config.model.{name}.width = {tower.width} is not divisible by num_heads = {tower.num_heads}."
            )
    if model.fusion.width % 2:
        raise UserError(f"config.model.fusion.width = {model.fusion.width} must be even.")
    if not model.modalities:
        raise UserError("config.model.modalities is empty: name at least one input.")
    for name, modality in model.modalities.items():
        if modality.encoder == "features" and not modality.feature_dim:
            raise UserError(f"config.model.modalities.{name}.feature_dim: say how wide the features are.")
    if not model.video_projection and video_width(model) != model.fusion.width:
        raise UserError(
            f"config.model.video_projection = False needs modalities of the fusion's width {model.fusion.width}, "
            f"they have {video_width(model)}."
        )
    if not model.text.projection and model.text.width != model.fusion.width:
        raise UserError(
            f"config.model.text.projection = False needs config.model.text.width = config.model.fusion.width = "
            f"{model.fusion.width}, got {model.text.width}."
        )
    if model.text.encoder == "embeddings" and model.fusion.all_text_tokens:
        raise UserError("config.model.fusion.all_text_tokens: given text embeddings have one token per text.")
    if model.pyramid.type == "fpn":
        layers, last = model.pyramid_layers, model.fusion.num_layers - 1
        if len(layers) != model.pyramid.num_levels or list(layers) != sorted(set(layers)) or layers[0] < 0:
            raise UserError(
                f"config.model.pyramid.layers = {layers} must name one fusion layer per level, "
                f"{model.pyramid.num_levels} in increasing order."
            )
        if layers[-1] != last:
            raise UserError(
                f"config.model.pyramid.layers = {layers}: layers after the last level would do nothing. End with "
                f"{last}, or set config.model.fusion.num_layers = {layers[-1] + 1}."
            )


def video_width(model: ModelConfig) -> int:
    """Width of the concatenated modalities, before `video_projection`."""
    return sum(
        modality.projection_width
        or (model.image.width if modality.encoder == "clip" else modality.feature_dim)
        for modality in model.modalities.values()
    )


def _check_stage(stage: StageConfig, where: str) -> None:
    if stage.steps and stage.warmup_steps >= stage.steps:
        raise UserError(
            f"{where}.warmup_steps = {stage.warmup_steps:g} must be below {where}.steps = {stage.steps}."
        )
    if len(stage.decay_steps) != len(stage.decay_factors):
        raise UserError(f"{where}: give as many decay_factors as decay_steps.")
    if list(stage.decay_steps) != sorted(set(stage.decay_steps)):
        raise UserError(f"{where}.decay_steps must increase, got {stage.decay_steps}.")
    late = [step for step in stage.decay_steps if step >= stage.steps]
    if stage.steps and stage.schedule == "piecewise" and late:
        raise UserError(f"{where}.decay_steps: {late[0]} is never reached in {stage.steps} steps.")


def _leaves(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of every single value of a config, those in tuples as "key[0]", "key[0][1]"."""
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        elif isinstance(value, dict):
            for name, item in value.items():
                if dataclasses.is_dataclass(item):
                    yield from _leaves(item, f"{prefix}{field.name}.{name}.")
                else:
                    yield from _entries(item, f"{prefix}{field.name}.{name}")
        else:
            yield from _entries(value, prefix + field.name)


def _entries(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _entries(item, f"{key}[{i}]")
    else:
        yield key, value


def _without_names(key: str) -> str:
    """The setting without what people have named, and without places in a tuple.

    "model.modalities.rgb.encoder" → "model.modalities.encoder"; "tasks.a.loss.relevance" → "loss.relevance";
    "train.learning_rates.head" → "train.learning_rates"; "profile[0]" → "profile".
    """
    parts = key.partition("[")[0].split(".")
    if parts[0] == "tasks":
        parts = parts[2:]
    if parts[1:2] == ["learning_rates"]:
        parts = parts[:2]
    if parts[:2] == ["model", "modalities"]:
        parts = parts[:2] + parts[3:]
    return ".".join(parts)
