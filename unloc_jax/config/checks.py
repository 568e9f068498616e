"""Rules of a config: each value by its type's choices and bounds, then the settings that must fit each other."""

import dataclasses
import difflib
import math
import types
import typing
from typing import Any

from unloc_jax.config.bounds import Bounds
from unloc_jax.config.conversion import LARGEST_FLOAT
from unloc_jax.config.schema import Config, ModelConfig, StageConfig, tasks_by_name
from unloc_jax.config.towers import ENCODERS, text_width, video_tower, video_width
from unloc_jax.errors import UserError
from unloc_jax.localization.losses import parse_boundary_loss

_LARGEST_INT = 2**31 - 1  # numbers are computed with as float32 and int32
_USUAL = Bounds()


def check(config: Config) -> None:
    """Raises UserError for values that are well typed but impossible."""
    _check_group(config, "config")
    for encoder in ENCODERS.values():
        encoder.check(config.model)
    for name, view in config.task_configs.items():
        _check_task(view, f"config.tasks.{name}" if config.tasks else "config")
    _check_model(config.model)
    total_weight = sum(task.weight for task in config.tasks.values())
    if config.tasks and not total_weight:
        raise UserError(
            f"config.tasks: the weights of the tasks add up to {total_weight:g}; give some above 0."
        )
    if config.accumulate > 1 and config.contrastive.steps:
        raise UserError(
            f"config.accumulate = {config.accumulate}: the loss of config.contrastive compares all segments of a batch "
            "with each other, so it cannot be taken part by part. Set accumulate = 1 or contrastive.steps = 0."
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
    for stage in ("contrastive", "train"):
        _check_stage(getattr(config, stage), f"config.{stage}")


def _check_group(group: Any, where: str) -> None:
    """Checks every value by itself, in the order of the schema."""
    hints = typing.get_type_hints(type(group), include_extras=True)
    for field in dataclasses.fields(group):
        _check_value(hints[field.name], getattr(group, field.name), f"{where}.{field.name}")


def _check_value(hint: Any, value: Any, where: str, bounds: Bounds = _USUAL) -> None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        _check_group(value, where)
    elif origin is typing.Annotated:
        _check_value(arguments[0], value, where, arguments[1])
    elif origin in (types.UnionType, typing.Union):
        if value is not None:
            _check_value(next(a for a in arguments if a is not type(None)), value, where)
    elif origin is dict:
        for name, item in value.items():
            _check_value(arguments[1], item, f"{where}.{name}")
    elif origin is tuple:
        parts = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        for i, (part, item) in enumerate(zip(parts, value, strict=True)):
            _check_value(part, item, f"{where}[{i}]")
    elif origin is typing.Literal:
        _check_choice(value, arguments, where)
    elif hint in (int, float):
        _check_number(value, bounds, where)


def _check_choice(value: str, choices: tuple[str, ...], where: str) -> None:
    if value not in choices:
        near = difflib.get_close_matches(value, choices, n=1, cutoff=0.3)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"{where} must be one of {', '.join(choices)}, got {value!r}.{hint}")


def _check_number(value: int | float, bounds: Bounds, where: str) -> None:
    if isinstance(value, float) and math.isnan(value):
        raise UserError(f"{where} is not a number.")
    open_end = bounds.open_end and value == math.inf
    if isinstance(value, float) and abs(value) > LARGEST_FLOAT and not open_end:
        raise UserError(f"{where} must be finite, got {value}.")
    if isinstance(value, int) and abs(value) > _LARGEST_INT:
        raise UserError(f"{where} must be at most {_LARGEST_INT}.")
    if value < bounds.at_least:
        raise UserError(f"{where} must be at least {bounds.at_least}, got {value}.")
    if value > bounds.at_most:
        raise UserError(f"{where} must be at most {bounds.at_most}, got {value}.")
    if value >= bounds.below and not open_end:
        raise UserError(f"{where} must be below {bounds.below}, got {value}.")


def _check_model(model: ModelConfig) -> None:
    for low, high in model.pyramid.regression_ranges:
        if not 0 <= low < high:
            raise UserError(
                f"config.model.pyramid.regression_ranges: ({low}, {high}) is not a range; give low < high."
            )
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
        _check_lora(
            modality.freeze, modality.lora_rank, modality.has_tower, f"config.model.modalities.{name}"
        )
        if modality.encoder == "features" and not modality.feature_dim:
            raise UserError(f"config.model.modalities.{name}.feature_dim: give the width of the features.")
    _check_lora(model.text.freeze, model.text.lora_rank, model.text.reads_tokens, "config.model.text")
    if not model.video_projection and _video_width(model) != model.fusion.width:
        raise UserError(
            f"config.model.video_projection = False needs modalities of the fusion's width {model.fusion.width}, "
            f"they have {_video_width(model)}."
        )
    if not model.text.projection and text_width(model) != model.fusion.width:
        raise UserError(
            f"config.model.text.projection = False needs config.model.text.width = config.model.fusion.width = "
            f"{model.fusion.width}, got {text_width(model)}."
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


def _check_lora(freeze: bool, rank: int, has_tower: bool, where: str) -> None:
    if rank and (freeze or not has_tower):
        reason = "freeze = True trains nothing" if freeze else "there is no tower"
        raise UserError(
            f"{where}.lora_rank = {rank} trains adapters of a tower, but {reason}. Set one of them only."
        )


def _video_width(model: ModelConfig) -> int:
    """Returns the width of the concatenated modalities, before `video_projection`."""
    return sum(
        modality.projection_width or video_width(model, name) for name, modality in model.modalities.items()
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


def _check_task(config: Config, where: str) -> None:
    """Refuses settings of one task of a run that do not go together."""
    tasks = tasks_by_name()
    _check_choice(config.task, tuple(tasks), f"{where}.task")
    data, model = config.data, config.model
    if config.evaluation.soft_nms_sigma == 0:
        raise UserError(f"{where}.evaluation.soft_nms_sigma must be greater than 0.")
    for modality in model.modalities.values():
        tower = video_tower(model, modality.encoder, data.num_frames, data.crop_size)
        if tower and tower.patch_size and data.crop_size % tower.patch_size:
            lower = max(data.crop_size // tower.patch_size, 1) * tower.patch_size
            raise UserError(
                f"{where}.data.crop_size = {data.crop_size} is not divisible by config.model.{tower.group}.patch_size "
                f"= {tower.patch_size}. Use {lower} or {lower + tower.patch_size}."
            )
    for name in ("scale_jitter", "speed_jitter"):
        jitter = getattr(data.augmentation, name)
        if jitter and not (len(jitter) == 2 and 0 < jitter[0] <= jitter[1]):
            raise UserError(
                f"{where}.data.augmentation.{name} must be () or (low, high) with 0 < low <= high, got {jitter}."
            )
    sound = data.augmentation.audio
    if sound.mix_snr_db[0] > sound.mix_snr_db[1]:
        raise UserError(
            f"{where}.data.augmentation.audio.mix_snr_db must be (low, high), got {sound.mix_snr_db}."
        )
    if model.reads_sound and sound.frequency_masks and sound.frequency_mask_mels > model.audio.num_mels:
        raise UserError(
            f"{where}.data.augmentation.audio.frequency_mask_mels = {sound.frequency_mask_mels} is more than "
            f"config.model.audio.num_mels = {model.audio.num_mels}."
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
    tasks[config.task].check_config(config, where)
    model.geometry(data.num_frames)  # checks itself
