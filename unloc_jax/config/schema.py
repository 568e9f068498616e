"""Every setting of a run with its default, what it may be and what it means.

Choices and bounds are in the types (`bounds`); rules that compare settings are in `checks`.
"""

import dataclasses
import math
from typing import Annotated, Any, Literal

from unloc_jax.config.audio import AudioTowerConfig
from unloc_jax.config.bounds import Bounds, Fraction, OpenEnd, Positive, Share, Signed
from unloc_jax.config.data import DataConfig
from unloc_jax.config.videoprism import VideoPrismTowerConfig
from unloc_jax.localization.geometry import PyramidGeometry, pyramid_geometry
from unloc_jax.localization.nms import NMSConfig

Activation = Literal["quick_gelu", "gelu", "gelu_exact"]


@dataclasses.dataclass(frozen=True)
class ImageTowerConfig:
    """CLIP vision transformer; the defaults are B/16."""

    width: Positive = 768
    num_layers: Positive = 12
    num_heads: Positive = 12
    patch_size: Positive = 16
    temporal_kernel: Positive = 1
    """Frames that a patch sees (odd); 1 is CLIP."""
    subtract_mean: bool = False
    """Subtract the mean of the frames that the model sees: what stands still vanishes. For training from scratch on few
    people or places, whose looks a model would otherwise learn by heart."""
    pooling: Literal["token", "mean"] = "token"
    """Represents a frame: its class token, or the mean of its patches (no class token then)."""
    class_token_per_frame: bool = False
    """A class embedding for every sampled frame, as in the reference, instead of one for all."""
    stochastic_depth: Fraction = 0.0
    """Chance to skip the last layer; it grows linearly from 0 at the first."""
    activation: Activation = "quick_gelu"


@dataclasses.dataclass(frozen=True)
class ModalityConfig:
    """One kind of input per frame: what encodes it, and how it joins the others."""

    encoder: Literal["clip", "videoprism", "audio", "features"] = "clip"
    """ "clip": an image tower as in model.image; "videoprism": a video tower as in model.videoprism; "audio": the tower
    of sound as in model.audio; "features": precomputed, taken as they are."""
    feature_dim: int = 0
    """D of precomputed features."""
    freeze: bool = False
    """Do not train the encoder."""
    lora_rank: int = 0
    """Train low-rank adapters of this rank beside the tower's layers, which stay as they are; 0 = the tower itself."""
    projection_width: int = 0
    """Width of a projection of this modality alone; 0 = none."""
    projection_bias: bool = False
    norm: bool = False
    """LayerNorm after it."""

    @property
    def reads_frames(self) -> bool:
        """Whether its tower reads the video's frames."""
        return self.has_tower and not self.reads_sound

    @property
    def reads_sound(self) -> bool:
        """Whether its tower reads the video's sound."""
        return self.encoder == "audio"

    @property
    def has_tower(self) -> bool:
        """Whether it has a tower of its own: it does not read features."""
        return self.encoder != "features"


@dataclasses.dataclass(frozen=True)
class TextTowerConfig:
    """CLIP text transformer; the defaults are those of B/16."""

    width: Positive = 512
    num_layers: Positive = 12
    num_heads: Positive = 8
    max_tokens: Annotated[int, Bounds(at_least=3)] = 32
    vocabulary_size: Positive = 49408
    encoder: Literal["clip", "videoprism", "embeddings"] = "clip"
    """ "clip": this tower; "videoprism": VideoPrism's, of the sizes in model.videoprism; "embeddings": one given vector
    of `width` numbers per text, in `embeddings_file`."""
    sentencepiece: str = ""
    """ "videoprism": the vocabulary's file (.model) that the text tower was trained with; checkpoints hold it."""
    embeddings_file: str = ""
    """ .npz with `texts` [n] and `embeddings` [n, width]."""
    pooling: Literal["end", "first", "mean"] = "end"
    """Represents a text: the end token, the first, or the mean of all."""
    freeze: bool = False
    lora_rank: int = 0
    """As for a modality."""
    projection: bool = True
    """Project to the fusion's width; without, the widths must be equal."""
    projection_bias: bool = False
    activation: Activation = "quick_gelu"

    @property
    def reads_tokens(self) -> bool:
        """Whether the model has a text tower."""
        return self.encoder != "embeddings"


@dataclasses.dataclass(frozen=True)
class FusionConfig:
    """Video–text fusion transformer."""

    type: Literal["early", "late"] = "early"
    """ "early": frames and text attend to each other. "late": frames alone; texts meet the pyramid's points."""
    width: Positive = 512
    num_layers: Positive = 6
    num_heads: Positive = 8
    mlp_dim: Positive = 2048
    all_text_tokens: bool = False
    """Fuse with every word piece instead of one token per text."""
    positions: Literal["sinusoid", "learned", "none"] = "sinusoid"
    positions_max_length: int | None = None
    """Only the first tokens of the sequence get a position; None = all."""
    dropout: Fraction = 0.0
    attention_dropout: Fraction = 0.0
    stochastic_depth: Fraction = 0.0


@dataclasses.dataclass(frozen=True)
class PyramidConfig:
    """Feature pyramid."""

    type: Literal["simple", "fpn", "none"] = "simple"
    """ "simple": from the last fusion layer. "fpn": levels at `layers`, top-down path. "none": frames only."""
    num_levels: Annotated[int, Bounds(at_least=1, at_most=30)] = 4
    stride: Annotated[int, Bounds(at_least=2)] = 2
    layers: tuple[int, ...] = ()
    """fpn: the fusion layer (from 0) after which each level is taken; () = the last num_levels layers."""
    downsampling: Literal["max_pool", "avg_pool", "strided_conv", "strided_depthwise_conv", "subsample"] = (
        "max_pool"
    )
    """fpn: how a level becomes the next."""
    regression_ranges: tuple[tuple[OpenEnd, OpenEnd], ...] = ()
    """One (low, high) per level, in grid units; () = (0, 4), (4, 8), (8, 16), …"""
    ranges_from_data: bool = False
    """Choose regression_ranges so that the levels share the training segments evenly."""


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """Relevance and boundary heads."""

    type: Literal["conv", "linear"] = "conv"
    """ "conv", or "linear": one linear layer for relevance and no boundaries (segmentation)."""
    num_conv_layers: int = 3
    kernel_size: Positive = 3
    shared_levels: bool = True
    """One head for all levels with a scale and a shift per level, or a head per level."""
    offsets_per_text: bool = True
    """Boundaries for every (video, text) pair, or one boundary per point for all texts of a vocabulary."""
    distances: Literal["relu", "relu_clip", "sigmoid"] = "relu"
    """Keeps distances ≥ 0; "relu_clip" and "sigmoid" also keep them ≤ 1."""
    relevance_bias: Signed = 0.0
    offsets_bias: Signed = 2.0


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Parts and sizes of the model."""

    image: ImageTowerConfig = ImageTowerConfig()
    modalities: dict[str, ModalityConfig] = dataclasses.field(
        default_factory=lambda: {"rgb": ModalityConfig()}
    )
    """Inputs by name: "rgb" with the encoder "clip" or "videoprism" reads the frames, "audio" with the encoder "audio"
    the sound, the others read features of their name."""
    audio: AudioTowerConfig = dataclasses.field(default_factory=AudioTowerConfig)
    videoprism: VideoPrismTowerConfig = dataclasses.field(default_factory=VideoPrismTowerConfig)
    video_projection: bool = True
    """Project the concatenated modalities to the fusion's width; without, the widths must be equal."""
    video_projection_bias: bool = False
    text: TextTowerConfig = TextTowerConfig()
    fusion: FusionConfig = FusionConfig()
    pyramid: PyramidConfig = PyramidConfig()
    head: HeadConfig = HeadConfig()
    frame_chunk: int = 0
    """Frames (or places of sound) that a device takes through their tower at a time (of VideoPrism whole windows, at
    least one), so that long videos fit into memory; 0 = all."""
    text_chunk: int = 0
    """Texts that are fused at a time, so that thousands fit into memory; 0 = all."""
    attention: Literal["xla", "cudnn"] = "xla"
    """ "xla", or "cudnn": the image tower's by cuDNN's flash attention, on a GPU in bfloat16; elsewhere it is "xla"."""
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass recomputes of every transformer layer: "none"; "dots" all but the products with weights;
    "full" all, so that only the layers' inputs are kept: the least memory, about a third more time than "none"."""
    unroll: Positive = 1
    """Transformer layers per turn of the compiled loop: more is faster on a CPU and slower to compile."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the computation: "float32", "bfloat16", or "auto" = bfloat16 on TPU and GPU, float32 on CPU."""

    @property
    def reads_frames(self) -> bool:
        """Whether any modality reads the frames."""
        return any(modality.reads_frames for modality in self.modalities.values())

    @property
    def reads_sound(self) -> bool:
        """Whether any modality reads the sound."""
        return any(modality.reads_sound for modality in self.modalities.values())

    def geometry(self, num_frames: int) -> PyramidGeometry:
        """Returns the pyramid's points over T frames."""
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

    relevance: Literal["focal", "sigmoid"] = "focal"
    relevance_weight: float = 10.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    label_smoothing: Fraction = 0.0
    boundaries: str = "iou"
    """Sum of "iou", "l1" and "center", each with a factor if wanted: "0.5*l1+1.0*iou"; "iou+center" is DIoU."""
    radius: float | None = 3.0
    """Centre-sampling radius in strides; None = every point of a segment is positive."""
    negatives: Literal["own", "batch"] = "own"
    """Moment retrieval: the other queries of the video, or all queries of the global batch."""


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """One stage of training: learning_rate × decay(step) × min(1, step / warmup_steps), as in the reference."""

    steps: int = 0
    learning_rate: float = 1e-3
    learning_rates: dict[str, float] = dataclasses.field(default_factory=dict)
    """Other rates by the beginning of a parameter's name, such as {"head": 0.1, "fusion": 0.1}."""
    warmup_steps: float = 0
    schedule: Literal["cosine", "constant", "piecewise", "exponential"] = "cosine"
    """ "cosine": from the end of the warm-up to zero at the last step. "piecewise": decay_factors[i] of the rate after
    decay_steps[i]. "exponential": times decay_rate every decay_every steps (in stairs if `staircase`). "constant"."""
    decay_steps: tuple[Positive, ...] = ()
    decay_factors: tuple[float, ...] = ()
    decay_rate: float = 0.1
    decay_every: Positive = 1000
    staircase: bool = False


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, Adam, Muon or SGD with momentum, after the global norm of the gradients is clipped."""

    name: Literal["adamw", "adam", "sgd", "muon"] = "adamw"
    """ "muon" (training/muon.py) learns from scratch in a fraction of the steps, at about twice AdamW's rate."""
    momentum: Fraction = 0.9
    b1: Fraction = 0.9
    b2: Fraction = 0.98
    weight_decay: float = 0.01
    """Of kernels; biases, scales, embeddings and positions are not decayed."""
    max_grad_norm: float | None = 1.0
    layer_decay: Share = 1.0
    """Of the learning rate from layer to layer down a tower: layer i of L, from 0, learns with layer_decay^(L − 1 − i)
    of its tower's rate, the embeddings below it with layer_decay^L (Clark et al. 2020)."""
    momentum_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of Adam's first moment and SGD's momentum; "bfloat16" halves their memory. Adam's second moment stays float32:
    in bfloat16 it would stop moving, because an update changes it by less than a rounding step."""
    ema_decay: Fraction = 0.0
    """Decay of an exponential moving average of the trained parameters, which evaluation and prediction then use;
    0 = none. In step t it is at most (1 + t) / (10 + t), so that the average forgets the random start."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Validation during training, and decoding everywhere."""

    every_steps: Positive = 500
    batch_size: Positive = 16
    """Videos (or windows) at a time."""
    crops: Annotated[int, Bounds(at_least=1, at_most=3)] = 1
    """1: the middle of the frames. 2: both ends of their longer side. 3: all; the model's outputs are averaged."""
    nms: Literal["gaussian", "linear", "hard"] = "gaussian"
    """Lowers the scores of candidates that overlap a better one: see `unloc_jax.localization.nms.NMSConfig`."""
    soft_nms_sigma: float = 0.3
    nms_iou_threshold: Share = 0.5
    score_threshold: float = 0.001
    max_detections: Positive = 100
    voting_threshold: Share = 0.0
    """Segments move to the mean of the candidates with at least this IoU; 0 = not."""
    voting_by_overlap: bool = False
    """Weighted by score · IoU (ActionFormer) instead of score (OpenTAD)."""
    tiou: str = ""
    """Thresholds of the mAP of action localisation, "0.1:0.1:0.5" or "0.3,0.5"; "" = THUMOS14's and ActivityNet's."""

    def suppression(self, num_candidates: int) -> NMSConfig:
        """Returns the settings of NMS over num_candidates candidates."""
        return NMSConfig(
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
    """Checkpoints: when they are written and how many are kept."""

    every_steps: Positive = 500
    keep: Positive = 3
    keep_best: int = 0
    """This many more stay, those with the highest `best_metric`."""
    best_metric: str = ""
    """A metric of the validation, such as "mIoU"; in a run of several tasks "TASK/mIoU"."""
    on_error: Literal["stop", "continue"] = "stop"
    """If a checkpoint cannot be written (the disk is full): "stop", or "continue" and try again at the next."""


@dataclasses.dataclass(frozen=True)
class WandbConfig:
    """Weights & Biases, beside TensorBoard and metrics.jsonl; WANDB_MODE and its other variables are obeyed."""

    project: str = ""
    """ "" = not."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis (-1 = all that are left), and which arrays they share: see docs/sharding.md."""

    data: Annotated[int, Bounds(at_least=-1)] = -1
    """Splits videos."""
    context: Annotated[int, Bounds(at_least=-1)] = 1
    """Splits frames or sound in a tower and texts in the fusion, so that a batch may have fewer videos than devices."""
    model: Annotated[int, Bounds(at_least=-1)] = 1
    """Splits heads and hidden units (tensor parallelism); with the strategies tp and fsdp_tp only."""
    strategy: Literal["dp", "fsdp", "tp", "fsdp_tp"] = "dp"
    """ "dp": every device has all parameters. "fsdp": they and the optimizer's state are split over data × context.
    "tp": over model. "fsdp_tp": over all three."""

    def sizes(self, devices: int) -> tuple[int, int, int]:
        """Returns data, context and model over so many devices, -1 being what is left; they need not fit."""
        given = [self.data, self.context, self.model]
        known = math.prod(size for size in given if size > 0)
        data, context, model = (devices // known if size == -1 else size for size in given)
        return data, context, model


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """One of several tasks of a run; what it lacks is as at the top of the config."""

    weight: float = 1.0
    """Its share of the steps ("alternate"), or the factor of its loss ("all")."""
    task: str = "moment_retrieval"
    batch_size: Positive = 64
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    loss: LossConfig = LossConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment."""

    task: str = "moment_retrieval"
    tasks: dict[str, TaskConfig] = dataclasses.field(default_factory=dict)
    """Several tasks in one run: {name: {"weight": 1.0, "task": …, "data": {…}, …}}; {} = the one above."""
    task_mixing: Literal["alternate", "all"] = "alternate"
    """Each step sees one task's batch, or all of them."""
    seed: int = 0
    batch_size: Positive = 64
    """Videos per step, over all devices."""
    accumulate: Positive = 1
    """Parts of a batch that are processed in turn, so that a larger batch fits into memory; the step
    is that of the whole batch."""
    init_from: str = ""
    """A checkpoint to start from, such as one that `unloc import` made, or "KIND:SRC" for another program's CLIP,
    such as "hf-clip:openai/clip-vit-base-patch16", or "videoprism:SRC"; "" = random parameters."""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = LossConfig()
    contrastive: StageConfig = dataclasses.field(default_factory=StageConfig)
    """First stage, for towers without weights of a CLIP: segments against their texts; 0 steps = none. (Pretraining
    on trimmed videos is a task, see docs/pretraining.md.)"""
    train: StageConfig = dataclasses.field(default_factory=lambda: StageConfig(steps=10_000))
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    log_every_steps: Positive = 50
    non_finite: Literal["stop", "skip", "rollback"] = "stop"
    """A step whose loss or gradient is NaN or infinite changes nothing; then "stop"; or "skip": continue with the next
    batch; or "rollback": go back to the last checkpoint's parameters first."""
    wandb: WandbConfig = WandbConfig()
    profile: tuple[int, ...] = ()
    """(first, last): trace these steps with JAX's profiler into WORKDIR/profile; () = none."""

    @property
    def total_steps(self) -> int:
        return self.contrastive.steps + self.train.steps

    @property
    def with_vocabulary(self) -> bool:
        """Whether the task's texts are the dataset's classes, rather than each video's queries."""
        return tasks_by_name()[self.task].with_vocabulary

    @property
    def task_configs(self) -> dict[str, "Config"]:
        """Each task of the run as a separate config, by name; a single task has its own name."""
        if not self.tasks:
            return {self.task: self}
        shared = ("task", "batch_size", "data", "loss", "evaluation")
        return {
            name: dataclasses.replace(self, tasks={}, **{key: getattr(task, key) for key in shared})
            for name, task in self.tasks.items()
        }


def tasks_by_name() -> dict[str, Any]:
    """Returns the classes of all tasks; they import this module, so it cannot import them at its start."""
    from unloc_jax.tasks import TASKS

    return TASKS
