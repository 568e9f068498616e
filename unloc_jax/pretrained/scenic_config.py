"""A config of Scenic's UnLoc as one of ours.

What decides what the model computes, what it minimises and how it is optimised is translated or refused, never
dropped. Left out are where data lies, how videos are augmented, and logging.
"""

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from unloc_jax.config import from_mapping
from unloc_jax.errors import UserError
from unloc_jax.pretrained.scenic_unloc import FUSION_ENCODER, REFERENCE_TASKS, Leaf, leaves, naming_of

_OUR_TASKS = {theirs: ours for ours, theirs in REFERENCE_TASKS.items()}
_PYRAMIDS = {"transformer": "none", "fpn": "fpn", "simple_pyramid": "simple"}
_TEXT_POOLINGS = {"eos": "end", "token": "first"}  # whatever else it says, it takes the mean
_DECAYS = {
    "cosine_decay": "cosine",
    "piecewise_constant": "piecewise",
    "exponential_decay": "exponential",
}


def to_config(reference: Mapping[str, Any], params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Settings for `unloc_jax.config.from_mapping`; what the reference does not say keeps our default.

    The reference counts training in epochs. Only where it also names a number of steps (num_training_steps,
    lr_configs.total_steps or steps_per_cycle) is train.steps set to it; decay events that come after the last
    step are left out. Its weight decay spares arrays with one axis, ours everything but kernels.

    Args:
      reference: the config as nested dictionaries (see `unloc_jax.pretrained.scenic_source.read_config`).
      params: the checkpoint's parameters by name: widths and lengths that a config does not tell.

    Raises:
      UserError: a setting that cannot be expressed, with its name and value; one that is missing; a parameter that
        the config asks for and the checkpoint does not have.
    """
    root = _Group(reference)
    data = root.group("dataset_configs")
    their_task = data.get("task") or str(root.get("model_name", "")).removeprefix("unloc_")
    if their_task not in _OUR_TASKS:
        data.refuse("task", f"is none of {', '.join(_OUR_TASKS)}")
    ours: dict[str, Any] = {
        "task": _OUR_TASKS[their_task],
        "model": _model(root.group("model"), data, their_task, params),
        "data": _data(root, data, params),
        "loss": _loss(root, data, their_task),
        "evaluation": _renamed(
            root, {"score_threshold": "score_threshold", "max_detections": "max_detections"}
        ),
    }
    if root.has("soft_nms_sigma"):
        if not root.get("soft_nms_sigma"):
            root.refuse("soft_nms_sigma", "means hard suppression: only soft-NMS is there; set it above 0")
        ours["evaluation"]["soft_nms_sigma"] = float(root.get("soft_nms_sigma"))
    if ours["data"].get("num_frames") and ours["model"]["pyramid"]["type"] != "none":
        _check_num_frames(root, ours)
    if "regression_ranges" in data.group("feature_pyramid_config"):
        ranges = data.group("feature_pyramid_config").get("regression_ranges")
        ours["model"]["pyramid"]["regression_ranges"] = [[float(x) for x in one] for one in ranges]
    if root.has("optimizer_configs") or root.has("optimizer"):
        ours["optimizer"] = _optimizer(root)
    if root.has("lr_configs"):
        ours["train"] = _stage(root)
        if root.has("layer_prefix_to_base_lrs"):
            config = from_mapping(ours)
            table = leaves(config.model, naming_of(config, params))
            ours["train"]["learning_rates"] = _learning_rates(root, ours["train"]["learning_rate"], table)
    return ours | _renamed(root, {"batch_size": "batch_size", "rng_seed": "seed"})


class _Group:
    """A group of the reference's settings that knows its name; None is the same as absent."""

    def __init__(self, values: Any, name: str = ""):
        if not isinstance(values, Mapping):
            raise UserError(
                f"The reference's config: {name or 'the whole'} is no group of settings but {values!r}."
            )
        self.values = {key: value for key, value in values.items() if value is not None}
        self.name = name
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self.values

    has = __contains__

    def get(self, key: str, default: Any = None) -> Any:
        self._read.add(key)
        return self.values.get(key, default)

    def need(self, key: str) -> Any:
        if key not in self.values:
            raise UserError(f"The reference's config has no {self._named(key)}.")
        return self.get(key)

    def group(self, key: str) -> "_Group":
        """The group of this name; an empty one if it is absent."""
        return _Group(self.get(key, {}), self._named(key))

    def refuse(self, key: str, why: str) -> NoReturn:
        raise UserError(f"The reference's config: {self._named(key)} = {self.values.get(key)!r} {why}.")

    def only(self, key: str, *allowed: Any, why: str) -> None:
        """Refuses a setting that is there and none of these."""
        if key in self.values and self.get(key) not in allowed:
            self.refuse(key, why)

    def close(self, *without_effect: str) -> None:
        """Refuses settings that nobody read: they may change what is computed."""
        for key in self.values:
            if key not in self._read and key not in without_effect:
                self.refuse(key, "is not known here")

    def _named(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def _renamed(group: _Group, names: Mapping[str, str]) -> dict[str, Any]:
    """Settings that only have another name, where they are given."""
    return {ours: group.get(theirs) for theirs, ours in names.items() if group.has(theirs)}


def _shape(params: Mapping[str, np.ndarray], name: str) -> tuple[int, ...]:
    if name not in params:
        raise UserError(f"The checkpoint has no parameter {name}, which its config asks for.")
    return params[name].shape


# The model.


def _model(model: _Group, data: _Group, task: str, params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    width = _shape(params, f"{FUSION_ENCODER}/encoderblock_0/LayerNorm_0/scale")[0]
    fusion = model.group("video_text_fusion_config")
    type_ = fusion.need("type")
    if type_ not in ("video_text_self_attention", "video_text_emb_self_attention"):
        fusion.refuse("type", "is not known here")
    one_embedding = type_ == "video_text_emb_self_attention"
    settings = fusion.group("config")
    if "text_tower_config" not in model:
        model.refuse("text_tower_config", "is not there: a model without texts cannot be imported")
    text = model.group("text_tower_config")
    our_fusion, pyramid = _fusion(settings, width)
    our_fusion["all_text_tokens"] = not one_embedding and bool(settings.need("use_all_text_tokens"))
    our_text = _text(text, width, one_embedding, params)
    if not one_embedding:
        our_text["pooling"] = _TEXT_POOLINGS.get(settings.need("text_tower_classifier"), "mean")
    settings.close("text_tower_classifier", "use_all_text_tokens")
    ours = {
        **_video(model.group("video_tower_config"), data, width, params),
        "text": our_text,
        "fusion": our_fusion,
        "pyramid": pyramid,
        "head": _head(model.group("head_config"), task, settings),
        "remat": _remat(model.values),
    }
    model.close("classifier", "num_classes")
    return ours


def _video(tower: _Group, data: _Group, width: int, params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """image, modalities and what concatenates them."""
    projected = bool(tower.get("projection_size"))
    images: list[dict[str, Any]] = []
    unknown = []
    modalities: dict[str, dict[str, Any]] = {}
    if "modality_configs" in tower:
        groups = tower.group("modality_configs")
        for name in groups.values:
            group = groups.group(name)
            modalities[name] = _modality(group, images)
            if group.get("projection_size"):
                modalities[name]["projection_width"] = group.get("projection_size")
                modalities[name]["projection_bias"] = bool(group.get("projection_use_bias", True))
            modalities[name]["norm"] = bool(group.get("apply_post_encoder_layer_norm"))
            group.close("projection_use_bias")
            if modalities[name]["encoder"] == "features":
                known = _feature_dim(name, modalities[name], data, params)
                modalities[name]["feature_dim"] = known or 0
                if known is None:
                    unknown.append(name)
        bias = True
        projection = "concat_video_projection/kernel"
    else:
        name = tower.get("input_key", "rgb")
        modalities[name] = _modality(tower, images)
        if modalities[name]["encoder"] == "features":
            unknown.append(name)
        bias = bool(tower.get("projection_use_bias", True))
        projection = "video_projection/kernel"
    tower.close("input_key", "projection_use_bias", "freeze")
    if unknown:
        total = _shape(params, projection)[0] if projected else width
        if len(unknown) > 1:
            raise UserError(
                f"The reference's config: how wide are the features of {', '.join(unknown)}? Say it as "
                f"dataset_configs.modality_configs.{unknown[0]}.feature_dimension."
            )
        image = images[0]["width"] if images else 0
        others = [
            m.get("projection_width") or (image if m["encoder"] == "clip" else m["feature_dim"])
            for name, m in modalities.items()
            if name not in unknown
        ]
        modalities[unknown[0]]["feature_dim"] = int(total - sum(others))
    if any(image != images[0] for image in images):
        tower.refuse("modality_configs", "has image encoders of different sizes: only one for all is there")
    return {
        **({"image": images[0]} if images else {}),
        "modalities": modalities,
        "video_projection": projected,
        "video_projection_bias": bias,
    }


def _modality(group: _Group, images: list[dict[str, Any]]) -> dict[str, Any]:
    encoder, frozen = group.need("encoder_name"), bool(group.get("freeze", False))
    settings = group.group("encoder_config")
    if encoder == "pass_through_encoder":
        settings.close()
        return {"encoder": "features", "freeze": frozen}
    if encoder != "clip_video_encoder":
        group.refuse("encoder_name", "is not known here")
    settings.only(
        "final_endpoint", "temporal_tokens", why="does not give a token per frame ('temporal_tokens' does)"
    )
    if "final_endpoint" not in settings:
        settings.refuse("final_endpoint", "(its default is 'logits') does not give a token per frame")
    images.append(_image(settings.group("image_encoder_config")))
    # Of what follows the frames' tokens; the first layer is the same whatever temporal_encoding_config says.
    settings.close(
        "num_classes",
        "classifier",
        "temporal_encoding_config",
        "temporal_encoder_config",
        "representation_size",
    )
    return {"encoder": "clip", "freeze": frozen}


def _image(group: _Group) -> dict[str, Any]:
    patches = group.group("patches")
    size = list(patches.need("size"))
    if size[0] != size[1]:
        patches.refuse("size", "is no square")
    if "out_features" in group:
        group.refuse(
            "out_features", "cannot be expressed: with it the reference's tower returns one number per frame"
        )
    token = group.get("classifier", "token") == "token"
    ours = {
        "width": group.need("features"),
        "num_layers": group.need("num_layers"),
        "num_heads": group.need("num_heads"),
        "patch_size": size[0],
        "pooling": "token" if token else "mean",
        "class_token_per_frame": token,
        "stochastic_depth": float(group.get("stochastic_depth", 0.0)),
    }
    group.close("remat_block")
    return ours


def _feature_dim(
    name: str, modality: dict[str, Any], data: _Group, params: Mapping[str, np.ndarray]
) -> int | None:
    """Width of precomputed features, if anything but the width of all modalities together tells it."""
    if modality.get("projection_width"):
        return _shape(params, f"{name}_projection/kernel")[0]
    if modality["norm"]:
        return _shape(params, f"{name}_ln/scale")[0]
    return data.group("modality_configs").group(name).get("feature_dimension")


def _text(group: _Group, width: int, one_embedding: bool, params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    encoder, settings = group.need("encoder_name"), group.group("encoder_config")
    projected = bool(group.get("projection_size"))
    ours: dict[str, Any] = {
        "freeze": bool(group.get("freeze", False)),
        "projection": projected,
        "projection_bias": bool(group.get("projection_use_bias", True)),
    }
    if encoder == "pass_through_encoder":
        if not one_embedding:
            group.refuse(
                "encoder_name", "needs video_text_fusion_config.type = 'video_text_emb_self_attention'"
            )
        ours["encoder"] = "embeddings"
        ours["width"] = int(_shape(params, "text_projection/kernel")[0]) if projected else int(width)
    elif encoder == "clip_text_encoder":
        if one_embedding:
            group.refuse("encoder_name", "needs video_text_fusion_config.type = 'video_text_self_attention'")
        settings.only("classifier", "eos", why="is nothing that the reference's encoder can do")
        ours |= {
            "width": settings.need("hidden_size"),
            "num_layers": settings.need("num_layers"),
            "num_heads": settings.need("num_heads"),
            "vocabulary_size": settings.need("vocab_size"),
            "max_tokens": int(_shape(params, "text_encoder/positional_embedding")[0]),
        }
    else:
        group.refuse("encoder_name", "is not known here")
    settings.close("remat_block")
    group.close("input_type", "input_key")
    return ours


def _fusion(settings: _Group, width: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """fusion and pyramid."""
    name = settings.get("self_attention_encoder_name", "transformer")
    if name not in _PYRAMIDS:
        settings.refuse("self_attention_encoder_name", "is not known here")
    encoder = settings.group("self_attention_encoder_config")
    num_layers = encoder.need("num_layers")
    fusion = {
        "width": int(width),
        "num_layers": num_layers,
        "num_heads": encoder.need("num_heads"),
        "mlp_dim": encoder.need("mlp_dim"),
        "positions": encoder.get("positional_embedding", "learned"),
        "dropout": float(encoder.get("dropout_rate", 0.1)),
        "attention_dropout": float(encoder.get("attention_dropout_rate", 0.1)),
        "stochastic_depth": float(encoder.get("stochastic_depth", 0.0)),
    }
    encoder.only("positional_embedding", "learned", "sinusoid", "none", why="is not known here")
    pyramid: dict[str, Any] = {"type": _PYRAMIDS[name]}
    if name == "transformer":
        if "feature_pyramid_config" in encoder:
            encoder.refuse(
                "feature_pyramid_config", "does not go with self_attention_encoder_name = 'transformer'"
            )
        encoder.close("remat_block")
        return fusion, pyramid
    fusion["positions_max_length"] = encoder.get("positional_embedding_max_length")
    levels_group = encoder.group("feature_pyramid_config")
    levels, stride = _levels(levels_group)
    pyramid |= {"num_levels": len(levels), "stride": stride}
    if name == "fpn":
        if levels[-1] != num_layers - 1:
            levels_group.refuse("feature_pyramid_levels", f"must end at the last of {num_layers} layers")
        pyramid |= {"layers": levels, "downsampling": encoder.get("downsample_strategy", "max_pool")}
    # Window attention is declared in the reference, and not implemented.
    encoder.close("downsample_strategy", "window_size", "window_block_indexes", "remat_block")
    return fusion, pyramid


def _levels(group: _Group) -> tuple[list[int], int]:
    levels, stride = (
        sorted(set(group.need("feature_pyramid_levels"))),
        group.need("feature_pyramid_downsample_stride"),
    )
    frames = group.need("num_features_level0")
    if stride < 2:
        group.refuse("feature_pyramid_downsample_stride", "must be at least 2")
    if frames % stride ** (len(levels) - 1):
        group.refuse(
            "num_features_level0",
            f"must be divisible by {stride ** (len(levels) - 1)}: else the reference's levels are shorter than ours",
        )
    return levels, stride


def _head(heads: _Group, task: str, fusion: _Group) -> dict[str, Any]:
    names = [name for name in heads.values if name == task or name.endswith(f"_{task}")]
    if not names:
        raise UserError(f"The reference's config has no {heads.name}.{task}.")
    head = heads.group(task if task in names else names[0])
    settings = head.group("config")
    type_ = head.need("type")
    if type_ == "linear_head":
        if task != "action_segmentation":
            head.refuse("type", f"has no boundaries, which {task} needs")
        settings.only("output_dim", 1, why="cannot be expressed: a text has one score per frame")
        ours = {"type": "linear", "relevance_bias": float(settings.get("init_head_bias", 0.0))}
        settings.close()
        return ours
    if type_ != "query_dependent_localization_head":
        head.refuse("type", "cannot be expressed: it does not score pairs of a video and a text")
    if task == "action_segmentation":
        head.refuse("type", "does not go with action_segmentation; a linear_head does")
    ours = {
        "num_conv_layers": settings.need("num_conv_layers"),
        "kernel_size": settings.need("kernel_size"),
        "shared_levels": bool(settings.get("weight_sharing", False)),
        "offsets_per_text": bool(settings.get("output_per_class_displacements", True)),
        "distances": settings.get("distance_normalizer", "relu"),
        "relevance_bias": float(settings.get("init_classification_head_bias", 0.0)),
        "offsets_bias": float(settings.get("init_regression_head_bias", 0.0)),
    }
    settings.only("distance_normalizer", "relu", "relu_clip", "sigmoid", why="is not known here")
    pyramid = settings.get("feature_pyramid_config", {})
    of_fusion = fusion.group("self_attention_encoder_config").get("feature_pyramid_config", {})
    keys = ("feature_pyramid_downsample_stride", "feature_pyramid_levels", "num_features_level0")
    if any(pyramid.get(key) != of_fusion.get(key) for key in keys):
        settings.refuse("feature_pyramid_config", "is another pyramid than that of the fusion encoder")
    settings.close("num_classes")
    return ours


def _remat(values: Any) -> bool:
    """Whether any part recomputes its activations."""
    if not isinstance(values, Mapping):
        return False
    return bool(values.get("remat_block")) or any(_remat(value) for value in values.values())


# Data and losses.


def _data(root: _Group, data: _Group, params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    ours = _renamed(
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


def _num_frames(root: _Group, params: Mapping[str, np.ndarray]) -> int | None:
    """T, if the model depends on it."""
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
        texts = _shape(params, "text_encoder/positional_embedding")[0]
    return int(positions.shape[-2] - texts)


def _crop_size(root: _Group, params: Mapping[str, np.ndarray]) -> int | None:
    """Height and width of square frames, by the number of their patches."""
    for name, positions in params.items():
        encoder, _, rest = name.partition("/")
        if rest != "VisionTransformer/positional_embedding":
            continue
        patches = len(positions) - (f"{encoder}/class_embedding" in params)
        pixels = _shape(params, f"{encoder}/conv1/kernel")
        patch_size = math.isqrt(int(np.prod(pixels[:-1])) // 3)
        return math.isqrt(patches) * patch_size
    return None


def _check_num_frames(root: _Group, ours: dict[str, Any]) -> None:
    settings = root.group("model").group("video_text_fusion_config").group("config")
    pyramid = settings.group("self_attention_encoder_config").group("feature_pyramid_config")
    if pyramid.get("num_features_level0") != ours["data"]["num_frames"]:
        pyramid.refuse(
            "num_features_level0", f"is not dataset_configs.num_frames = {ours['data']['num_frames']}"
        )


def _loss(root: _Group, data: _Group, task: str) -> dict[str, Any]:
    ours: dict[str, Any] = {"label_smoothing": float(root.get("label_smoothing", 0.0))}
    if task == "action_segmentation":
        return ours | {"relevance": "sigmoid", "relevance_weight": 1.0}
    root.only("classification_loss_type", "sigmoid", "focal", why="is not known here")
    head = root.group("model").group("head_config").group(task).group("config")
    per_text = bool(root.get("output_per_class_displacements", True))
    if per_text != bool(head.get("output_per_class_displacements", True)):
        root.refuse("output_per_class_displacements", "contradicts the head's setting of that name")
    terms = str(root.get("box_loss_type", "l1+iou")).replace("center_offset_squared", "center")
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
    if "num_frames" in data:  # else it says nothing about data
        ours["radius"] = None if data.get("radius") is None else float(data.get("radius"))
        _check_offsets(data)
    return ours


def _check_offsets(data: _Group) -> None:
    """The head's distances are in units of a level's stride; the reference can also learn other ones."""
    if data.get("displacement_normalizer", "duration") != "none":
        data.refuse("displacement_normalizer", "(its default is 'duration') cannot be expressed, only 'none'")
    pyramid = data.group("feature_pyramid_config")
    if "feature_pyramid_config" in data and not pyramid.get("normalize_displacements_by_downsample_stride"):
        pyramid.refuse("normalize_displacements_by_downsample_stride", "cannot be expressed, only True")


# Training.


def _optimizer(root: _Group) -> dict[str, Any]:
    group = root.group("optimizer_configs")
    name = group.get("optimizer", root.get("optimizer"))
    ours: dict[str, Any] = {"max_grad_norm": root.get("max_grad_norm")}
    if ours["max_grad_norm"] is not None:
        ours["max_grad_norm"] = float(ours["max_grad_norm"])
    if name == "sgd":
        ours |= {"momentum": float(group.get("momentum", 0.0)), "weight_decay": 0.0}
        group.only("nesterov", False, why="cannot be expressed")
    elif name in ("adam", "adamw"):
        ours |= {"b1": float(group.get("b1", 0.9)), "b2": float(group.get("b2", 0.999))}
        ours["weight_decay"] = 1e-4 if name == "adamw" else 0.0
        group.only("eps", 1e-8, why="cannot be expressed, only 1e-8")
    else:
        group.refuse("optimizer", "cannot be expressed; sgd, adam and adamw can")
    ours["name"] = name
    if "weight_decay" in group:
        ours["weight_decay"] = float(group.get("weight_decay"))
    group.close("skip_scale_and_bias_regularization")
    return ours


def _stage(root: _Group) -> dict[str, Any]:
    group = root.group("lr_configs")
    ours: dict[str, Any] = {"learning_rate": float(group.need("base_learning_rate")), "schedule": "constant"}
    steps = root.get("num_training_steps") or group.get("total_steps") or group.get("steps_per_cycle")
    if steps:
        ours["steps"] = int(steps)
    if "learning_rate_schedule" not in group:
        return ours
    group.only("learning_rate_schedule", "compound", why="is not known here")
    factors = [factor.strip() for factor in group.need("factors").split("*")]
    decays = [factor for factor in factors if factor not in ("constant", "linear_warmup")]
    if "constant" not in factors or len(decays) > 1 or not set(decays) <= _DECAYS.keys():
        group.refuse(
            "factors",
            f"cannot be expressed: besides constant and linear_warmup there may be one of {', '.join(_DECAYS)}",
        )
    if "linear_warmup" in factors:
        group.only("warmup_alpha", 0, why="cannot be expressed: the warm-up begins at 0")
        ours["warmup_steps"] = float(group.need("warmup_steps"))
    for decay in decays:
        ours["schedule"] = _DECAYS[decay]
        ours |= _decay(decay, group, ours)
    if not steps:
        # Steps that the config does not tell: at least as many as its schedule speaks of.
        last = max([0, *ours.get("decay_steps", []), math.ceil(ours.get("warmup_steps", 0))])
        ours["steps"] = max(_DEFAULT_STEPS, last + 1)
    return ours


_DEFAULT_STEPS = from_mapping({}).train.steps


def _decay(kind: str, group: _Group, ours: dict[str, Any]) -> dict[str, Any]:
    if kind == "exponential_decay":
        return {
            "decay_rate": float(group.need("decay_rate")),
            "decay_every": int(group.need("decay_steps")),
            "staircase": bool(group.get("staircase", False)),
        }
    if kind == "piecewise_constant":
        last = ours.get("steps", math.inf)
        events = zip(group.need("decay_events"), group.need("decay_factors"))
        kept = [(int(step), float(factor)) for step, factor in events if step < last]
        return {"decay_steps": [step for step, _ in kept], "decay_factors": [factor for _, factor in kept]}
    for key, only in {"t_mul": 1, "m_mul": 1, "alpha": 0, "start_decay_step": 0}.items():
        group.only(key, only, why=f"cannot be expressed, only {only}")
    group.only(
        "steps_per_cycle", ours.get("steps"), why="cannot be expressed: the cycle must be all of training"
    )
    if "linear_warmup" not in group.get("factors") and group.get("warmup_steps", 0):
        group.refuse("warmup_steps", "without linear_warmup cannot be expressed")
    return {}


def _learning_rates(root: _Group, base: float, table: list[Leaf]) -> dict[str, float]:
    """layer_prefix_to_base_lrs as prefixes of our names; the reference takes the first prefix that fits."""
    prefixes = {str(key): float(rate) for key, rate in sorted(root.get("layer_prefix_to_base_lrs").items())}
    rates: dict[tuple[str, ...], float] = {}
    for leaf in table:
        rate = next((rate for prefix, rate in prefixes.items() if leaf.reference.startswith(prefix)), base)
        if rates.setdefault(leaf.path, rate) != rate:
            root.refuse(
                "layer_prefix_to_base_lrs",
                f"has different rates within {'/'.join(leaf.path)}, which is one array here",
            )
    return _by_prefix(rates, (), base)


def _by_prefix(
    rates: dict[tuple[str, ...], float], at: tuple[str, ...], inherited: float
) -> dict[str, float]:
    """The fewest prefixes that give every parameter below `at` its rate."""
    below = {path: rate for path, rate in rates.items() if path[: len(at)] == at}
    if at and len(set(below.values())) == 1:
        rate = next(iter(below.values()))
        name = "/".join(at)
        others = ["/".join(path) for path in rates if path not in below]
        if any(other.startswith(name) for other in others):
            name += "/"  # so that head does not mean headless/kernel too
        return {} if rate == inherited else {name: rate}
    found: dict[str, float] = {}
    for child in dict.fromkeys(path[: len(at) + 1] for path in below):
        found |= _by_prefix(rates, child, inherited)
    return found
