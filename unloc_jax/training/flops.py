"""Counts the FLOPs of a training step and lists the peak FLOP/s of chips, the two ingredients of MFU.

Only the matrix products that the mathematics needs are counted (a multiply-add is 2 FLOPs). Elementwise operations and
what remat recomputes are not, so that MFU is comparable between policies (Chowdhery et al. 2022, appendix B).
"""

import dataclasses
from collections.abc import Sequence

from unloc_jax.config import Config, ModalityConfig
from unloc_jax.config.towers import Tower, text_tower, text_width, video_tower, video_width
from unloc_jax.errors import UserError
from unloc_jax.tasks import TASKS


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator, in the sense of a JAX device.

    Attributes:
      name: Common name.
      peak_flops: FLOP/s in bfloat16, dense.
      memory_bytes: Memory, less what the TPU compiler reserves on a v5e (its out-of-memory message tells how
        much).
      memory_bandwidth: Bytes/s.
      link_bandwidth: Bytes/s in one direction to each neighbour in a TPU's torus, 0 for GPUs.
    """

    name: str
    peak_flops: float
    memory_bytes: float
    memory_bandwidth: float
    link_bandwidth: float = 0.0


# By the prefix of `device.device_kind`; the first match wins. TPUs: Google's pages "TPU v4", "TPU v5e",
# "TPU v5p" and "TPU v6e" (cloud.google.com/tpu/docs/system-architecture-tpu-vm), whose interconnect per chip is
# divided by 2 directions and the links of a torus (4 in 2D, 6 in 3D); GPUs: NVIDIA's data sheets of A100 and H100
# (SXM, without sparsity), H200.
_CHIPS: tuple[tuple[str, Chip], ...] = (
    ("TPU v4", Chip("TPU v4", 275e12, 32 * 2**30, 1228e9, 50e9)),
    ("TPU v5 lite", Chip("TPU v5e", 197e12, 15.75 * 2**30, 819e9, 50e9)),
    ("TPU v5e", Chip("TPU v5e", 197e12, 15.75 * 2**30, 819e9, 50e9)),
    ("TPU v5", Chip("TPU v5p", 459e12, 95 * 2**30, 2765e9, 100e9)),
    ("TPU v6", Chip("TPU v6e", 918e12, 32 * 2**30, 1640e9, 100e9)),
    ("NVIDIA A100-SXM4-40GB", Chip("A100 40 GB", 312e12, 40e9, 1555e9)),
    ("NVIDIA A100", Chip("A100 80 GB", 312e12, 80e9, 2039e9)),
    ("NVIDIA H100 PCIe", Chip("H100 PCIe", 756e12, 80e9, 2000e9)),
    ("NVIDIA H100", Chip("H100 SXM", 989e12, 80e9, 3350e9)),
    ("NVIDIA H200", Chip("H200", 989e12, 141e9, 4800e9)),
)


def chip(device_kind: str) -> Chip | None:
    """Returns the chip that `device.device_kind` names, or None if it is not in the table."""
    return next((found for start, found in _CHIPS if device_kind.startswith(start)), None)


def peak_flops(device_kind: str) -> float | None:
    """Returns the FLOP/s of one device in bfloat16, or None if it is not in the table, such as a CPU."""
    known = chip(device_kind)
    return known.peak_flops if known else None


@dataclasses.dataclass(frozen=True)
class Part:
    """FLOPs of one part of the model in one step.

    Attributes:
      forward: Of the forward pass.
      step: Of the whole step: a product costs as much again for the gradient of each factor that needs one.
    """

    forward: float
    step: float

    def __add__(self, other: "Part") -> "Part":
        return Part(self.forward + other.forward, self.step + other.step)


def train_step_flops(config: Config, num_classes: int | None, stage: str = "train") -> float:
    """Returns the FLOPs of one training step over all devices; see `train_step_flops_by_module`."""
    return sum(part.step for part in train_step_flops_by_module(config, num_classes, stage).values())


def train_step_flops_by_module(
    config: Config, num_classes: int | None, stage: str = "train"
) -> dict[str, Part]:
    """Returns the FLOPs of one training step of one task, over all devices, by part of the model.

    Args:
      config: One task's view (`Config.task_configs`), with batch_size videos.
      num_classes: Number of classes that every video is searched for; None where videos have their own queries.
      stage: "contrastive" (towers only) or "train".

    Returns:
      {"image tower": …, "text tower": …, "projections": …, "fusion": …, "pyramid": …, "head": …}.

    Raises:
      UserError: The task has a vocabulary, and the number of classes is None.
    """
    if config.with_vocabulary and num_classes is None:
        raise UserError(f"config.task = {config.task!r}: the FLOPs depend on the number of classes.")
    videos = config.batch_size
    encoded, paired = TASKS[config.task].num_texts(config, num_classes)
    if stage == "contrastive" and not config.with_vocabulary:
        encoded = videos * config.data.max_queries
    modalities = config.model.modalities.values()
    sound = {"sound tower": _video_towers(config, [m for m in modalities if m.reads_sound])}
    parts = {
        "image tower": _video_towers(config, [m for m in modalities if m.reads_frames]),
        **(sound if config.model.reads_sound else {}),
        "text tower": _text_tower(config, encoded),
        "projections": _projections(config, encoded),
    }
    if stage == "contrastive":
        width, pairs = config.model.fusion.width, videos * config.data.max_segments
        embedding = _product(pairs, 2 * config.model.fusion.width, width)
        return parts | {"contrast": embedding + _product(pairs, width, pairs)}
    return parts | _localization(config, videos, paired)


def _video_towers(config: Config, modalities: Sequence[ModalityConfig]) -> Part:
    """Counts all frames or places of these modalities; VideoPrism's pooler and spectrograms are left out."""
    data, total = config.data, Part(0.0, 0.0)
    for modality in modalities:
        tower = video_tower(config.model, modality.encoder, data.num_frames, data.crop_size)
        if tower is None:
            continue
        before = Part(0.0, 0.0)
        for number, (rows, inner, outputs) in enumerate(tower.embedding):
            # Pixels need no gradient.
            before += _product(config.batch_size * rows, inner, outputs, gradients=2 if number else 1)
        layers = _stacks(tower, config.batch_size, 1 if modality.lora_rank else 2)
        total += _without_backward(before, modality.freeze or bool(modality.lora_rank))
        total += _without_backward(layers, modality.freeze)
    return total


def _stacks(tower: Tower, times: int, gradients: int) -> Part:
    """Counts all layers of a tower over so many videos or texts; small adapters are left out."""
    total = Part(0.0, 0.0)
    for stack in tower.stacks:
        layer = _layer(times * stack.sequences, stack.length, tower.width, tower.mlp_dim, gradients)
        total += _times(stack.num_layers, layer)
    return total


def _text_tower(config: Config, num_texts: int) -> Part:
    """Counts the text tower; the vocabulary of a frozen one is encoded before the first step and costs nothing."""
    tower, freeze = text_tower(config.model), config.model.text.freeze
    if tower is None or (freeze and config.with_vocabulary):
        return Part(0.0, 0.0)
    gradients = 1 if config.model.text.lora_rank else 2
    return _without_backward(_stacks(tower, num_texts, gradients), freeze)


def _projections(config: Config, num_texts: int) -> Part:
    """Counts the projections to the fusion's width; the outputs of frozen encoders need no gradient."""
    model = config.model
    frames, total, total_width = config.batch_size * config.data.num_frames, Part(0.0, 0.0), 0
    all_frozen = True
    for name, modality in model.modalities.items():
        width = video_width(model, name)
        frozen = modality.freeze or not modality.has_tower
        if modality.projection_width:
            total += _product(frames, width, modality.projection_width, gradients=1 if frozen else 2)
            width = modality.projection_width
        total_width += width
        all_frozen &= frozen and not (modality.projection_width or modality.norm)
    if model.video_projection:
        total += _product(frames, total_width, model.fusion.width, gradients=1 if all_frozen else 2)
    if model.text.projection:
        tokens = num_texts * (model.text.max_tokens if model.fusion.all_text_tokens else 1)
        frozen = model.text.freeze or not model.text.reads_tokens
        total += _product(tokens, text_width(model), model.fusion.width, gradients=1 if frozen else 2)
    return total


def _localization(config: Config, videos: int, num_texts: int) -> dict[str, Part]:
    """Counts fusion, pyramid and head."""
    model, fusion = config.model, config.model.fusion
    geometry = model.geometry(config.data.num_frames)
    late = fusion.type == "late"
    pairs = videos if late else videos * num_texts
    text_length = 0 if late else model.text.max_tokens if fusion.all_text_tokens else 1
    layer = lambda frames: _layer(pairs, frames + text_length, fusion.width, fusion.mlp_dim)
    frames, pyramid = config.data.num_frames, Part(0.0, 0.0)
    if model.pyramid.type == "fpn":
        encoder, first = Part(0.0, 0.0), 0
        for level, last in enumerate(model.pyramid_layers):
            if level and model.pyramid.downsampling == "strided_conv":
                pyramid += _product(pairs * geometry.level_lengths[level], 3 * fusion.width, fusion.width)
            encoder += _times(last + 1 - first, layer(geometry.level_lengths[level]))
            first = last + 1
    else:
        encoder = _times(fusion.num_layers, layer(frames))
    parts = {"fusion": encoder}
    if "video_score" in TASKS[config.task].heads:
        return parts | {"head": _product(pairs, fusion.width, 1)}
    if model.pyramid.type != "none":  # a depthwise convolution of three taps per level
        pyramid += _product(pairs * geometry.num_points, 3, fusion.width)
    return parts | {"pyramid": pyramid, "head": _head(config, videos, num_texts)}


def _head(config: Config, videos: int, num_texts: int) -> Part:
    """Counts relevance for every (video, text, point), and boundaries for each of these or once for all texts."""
    model, width = config.model, config.model.fusion.width
    points = videos * num_texts * model.geometry(config.data.num_frames).num_points
    if model.head.type == "linear":
        return _product(points, width, 1)
    convolution = lambda points: _product(points, model.head.kernel_size * width, width)
    head = lambda points, outputs: (
        _times(model.head.num_conv_layers, convolution(points)) + _product(points, width, outputs)
    )
    of_relevance = head(points, 1)
    if not TASKS[config.task].has_boundaries:
        return of_relevance
    return of_relevance + head(points if model.head.offsets_per_text else points / num_texts, 2)


def _layer(sequences: int, length: int, width: int, mlp_dim: int, gradients: int = 2) -> Part:
    """Counts a transformer layer: queries, keys, values and output; attention; MLP."""
    tokens = sequences * length
    weights = _product(tokens, width, 4 * width, gradients) + _product(tokens, width, 2 * mlp_dim, gradients)
    return weights + _times(2, _product(sequences * length, width, length))


def _product(rows: float, inner: float, columns: float, gradients: int = 2) -> Part:
    """Counts [rows, inner] × [inner, columns], where `gradients` of the two factors need a gradient."""
    flops = 2.0 * rows * inner * columns
    return Part(flops, (1 + gradients) * flops)


def _times(count: float, part: Part) -> Part:
    return Part(count * part.forward, count * part.step)


def _without_backward(part: Part, frozen: bool) -> Part:
    """Removes the backward pass if a tower is frozen."""
    return Part(part.forward, part.forward) if frozen else part
