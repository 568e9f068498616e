"""Translates a config of Scenic's UnLoc to ours.

Settings that determine what the model computes, its loss and its optimisation are translated or refused, never
dropped. Locations of data, augmentation and logging are left out.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from unloc_jax.config import from_mapping
from unloc_jax.localization.losses import parse_boundary_loss
from unloc_jax.pretrained.scenic_model import head_group, model_settings
from unloc_jax.pretrained.scenic_settings import Settings, parameter_shape, renamed
from unloc_jax.pretrained.scenic_training import learning_rates, optimizer_settings, stage_settings
from unloc_jax.pretrained.scenic_unloc import FUSION_ENCODER, REFERENCE_TASKS, leaves, naming_of

_OUR_TASKS = {theirs: ours for ours, theirs in REFERENCE_TASKS.items()}


def to_config(reference: Mapping[str, Any], params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns settings for `unloc_jax.config.from_mapping`; what the reference does not set keeps our default.

    The reference counts training in epochs. train.steps is set only if the reference also gives a number of steps
    (num_training_steps, lr_configs.total_steps or steps_per_cycle); decay events after the last step are left out. Its
    weight decay excludes arrays with one axis, ours everything except kernels.

    Args:
      reference: The config as nested dictionaries (see `unloc_jax.pretrained.scenic_source.read_config`).
      params: The checkpoint's parameters by name, for widths and lengths that the config does not contain.

    Raises:
      UserError: A setting cannot be expressed (its name and value are given) or is missing, or the checkpoint lacks a
        parameter that the config requires.
    """
    root = Settings(reference)
    data = root.group("dataset_configs")
    their_task = data.get("task") or str(root.get("model_name", "")).removeprefix("unloc_")
    if their_task not in _OUR_TASKS:
        data.refuse("task", f"is not one of {', '.join(_OUR_TASKS)}")
    ours: dict[str, Any] = {
        "task": _OUR_TASKS[their_task],
        "model": model_settings(root.group("model"), data, their_task, params),
        "data": _data(root, data, params),
        "loss": _loss(root, data, their_task),
        "evaluation": _evaluation(root),
    }
    if ours["model"]["pyramid"]["type"] != "none":
        _check_num_frames(root, ours["data"])
        ranges = data.group("feature_pyramid_config").get("regression_ranges", ())
        ours["model"]["pyramid"]["regression_ranges"] = [[float(x) for x in one] for one in ranges]
    if their_task == "highlight_detection":
        ours["data"]["max_queries"] = 1  # there, an example is a video with one query
    if root.group("mixup").get("alpha"):
        root.refuse("mixup", "cannot be expressed")
    if "optimizer_configs" in root or "optimizer" in root:
        ours["optimizer"] = optimizer_settings(root)
    if "lr_configs" in root:
        ours["train"] = stage_settings(root)
        if "layer_prefix_to_base_lrs" in root:
            config = from_mapping(ours)
            table = leaves(config.model, naming_of(config, params))
            ours["train"]["learning_rates"] = learning_rates(root, ours["train"]["learning_rate"], table)
    return ours | renamed(root, {"batch_size": "batch_size", "rng_seed": "seed"})


def _evaluation(root: Settings) -> dict[str, Any]:
    ours = renamed(root, {"score_threshold": "score_threshold", "max_detections": "max_detections"})
    if "soft_nms_sigma" not in root:
        return ours
    if not root.get("soft_nms_sigma"):
        root.refuse("soft_nms_sigma", "means hard suppression: only soft-NMS is there; set it above 0")
    return ours | {"soft_nms_sigma": float(root.get("soft_nms_sigma"))}


def _data(root: Settings, data: Settings, params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    ours = renamed(
        data,
        {
            "num_frames": "num_frames",
            "max_num_segments": "max_segments",
            "train_max_num_captions": "max_queries",
        },
    )
    if "num_frames" not in ours:
        frames = _num_frames(root, params)
        ours |= {} if frames is None else {"num_frames": frames}
    crop_size = next(
        (group["crop_size"] for group in data.get("modality_configs", {}).values() if "crop_size" in group),
        _crop_size(root, params),
    )
    data.only(
        "sampling_strategy", "linspace", why="cannot be expressed: frames are spread over the whole video"
    )
    return ours if crop_size is None else ours | {"crop_size": crop_size}


def _num_frames(root: Settings, params: Mapping[str, np.ndarray]) -> int | None:
    """Returns T if the model depends on it, else None."""
    settings = root.group("model").group("video_text_fusion_config").group("config")
    pyramid = settings.group("self_attention_encoder_config").group("feature_pyramid_config")
    if "num_features_level0" in pyramid:
        return pyramid.get("num_features_level0")
    per_frame = [array for name, array in params.items() if name.endswith("_encoder/class_embedding")]
    if per_frame:
        return len(per_frame[0])
    positions = params.get(f"{FUSION_ENCODER}/posembed_input/pos_embedding")
    if positions is None:
        return None
    texts = 1
    if settings.get("use_all_text_tokens"):
        texts = parameter_shape(params, "text_encoder/positional_embedding")[0]
    return int(positions.shape[-2] - texts)


def _crop_size(root: Settings, params: Mapping[str, np.ndarray]) -> int | None:
    """Returns the height and width of square frames, derived from the number of their patches."""
    for name, positions in params.items():
        encoder, _, rest = name.partition("/")
        if rest != "VisionTransformer/positional_embedding":
            continue
        patches = len(positions) - (f"{encoder}/class_embedding" in params)
        pixels = parameter_shape(params, f"{encoder}/conv1/kernel")
        patch_size = math.isqrt(int(np.prod(pixels[:-1])) // 3)
        return math.isqrt(patches) * patch_size
    return None


def _check_num_frames(root: Settings, data: dict[str, Any]) -> None:
    settings = root.group("model").group("video_text_fusion_config").group("config")
    pyramid = settings.group("self_attention_encoder_config").group("feature_pyramid_config")
    if pyramid.get("num_features_level0") != data["num_frames"]:
        pyramid.refuse("num_features_level0", f"is not dataset_configs.num_frames = {data['num_frames']}")


def _loss(root: Settings, data: Settings, task: str) -> dict[str, Any]:
    ours: dict[str, Any] = {"label_smoothing": float(root.get("label_smoothing", 0.0))}
    if task == "action_segmentation":
        return ours | {"relevance": "sigmoid", "relevance_weight": 1.0}
    root.only("classification_loss_type", "sigmoid", "focal", why="is not known here")
    head = head_group(root.group("model").group("head_config"), task).group("config")
    per_text = bool(root.get("output_per_class_displacements", True))
    if per_text != bool(head.get("output_per_class_displacements", True)):
        root.refuse("output_per_class_displacements", "contradicts the head's setting of that name")
    terms = str(root.get("box_loss_type", "l1+iou")).replace("center_offset_squared", "center")
    try:
        parse_boundary_loss(terms)
    except ValueError as error:
        root.refuse("box_loss_type", f"cannot be expressed: {error}")
    ours |= {
        "relevance": root.get("classification_loss_type", "sigmoid"),
        "relevance_weight": float(root.get("classification_loss_alpha", 1.0)),
        "focal_alpha": float(root.get("focal_loss_alpha", 0.5)),
        "focal_gamma": float(root.get("focal_loss_gamma", 2.0)),
        "boundaries": terms,
        "negatives": "own",
    }
    if task == "moment_retrieval" and root.get("all_gather_loss", True):
        ours["negatives"] = "batch"
    if "num_frames" in data:  # otherwise the config does not describe the data
        ours["radius"] = None if data.get("radius") is None else float(data.get("radius"))
        _check_offsets(data)
    return ours


def _check_offsets(data: Settings) -> None:
    """Checks that distances are in units of a level's stride, as in our head; the reference supports others."""
    if data.get("displacement_normalizer", "duration") != "none":
        data.refuse("displacement_normalizer", "(its default is 'duration') cannot be expressed, only 'none'")
    pyramid = data.group("feature_pyramid_config")
    if "feature_pyramid_config" in data and not pyramid.get("normalize_displacements_by_downsample_stride"):
        pyramid.refuse("normalize_displacements_by_downsample_stride", "cannot be expressed, only True")
