"""Translates the model of a Scenic UnLoc config to our schema."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.pretrained.scenic_settings import Settings, parameter_shape
from unloc_jax.pretrained.scenic_unloc import FUSION_ENCODER

_PYRAMIDS = {"transformer": "none", "fpn": "fpn", "simple_pyramid": "simple"}
_TEXT_POOLINGS = {"eos": "end", "token": "first"}  # for any other value the reference takes the mean


def model_settings(
    model: Settings, data: Settings, task: str, params: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Returns config.model.

    Args:
      model, data: The reference's groups `model` and `dataset_configs`.
      task: The reference's name of the task.
      params: The checkpoint's parameters by name.

    Raises:
      UserError: See `unloc_jax.pretrained.scenic_config.to_config`.
    """
    width = parameter_shape(params, f"{FUSION_ENCODER}/encoderblock_0/LayerNorm_0/scale")[0]
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
        "remat": "full" if _remat(model.values) else "none",
    }
    model.close("classifier", "num_classes")
    return ours


def _video(tower: Settings, data: Settings, width: int, params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the settings of image tower, modalities and the projection of their concatenation."""
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
        total = parameter_shape(params, projection)[0] if projected else width
        if len(unknown) > 1:
            raise UserError(
                f"The reference's config: how wide are the features of {', '.join(unknown)}? Give it as "
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


def _modality(group: Settings, images: list[dict[str, Any]]) -> dict[str, Any]:
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
    # These concern what follows the frames' tokens; the first layer does not depend on temporal_encoding_config.
    settings.close(
        "num_classes",
        "classifier",
        "temporal_encoding_config",
        "temporal_encoder_config",
        "representation_size",
    )
    return {"encoder": "clip", "freeze": frozen}


def _image(group: Settings) -> dict[str, Any]:
    patches = group.group("patches")
    size = list(patches.need("size"))
    if size[0] != size[1]:
        patches.refuse("size", "is not square")
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
    name: str, modality: dict[str, Any], data: Settings, params: Mapping[str, np.ndarray]
) -> int | None:
    """Returns the width of precomputed features, or None if only the total width of all modalities is known."""
    if modality.get("projection_width"):
        return parameter_shape(params, f"{name}_projection/kernel")[0]
    if modality["norm"]:
        return parameter_shape(params, f"{name}_ln/scale")[0]
    return data.group("modality_configs").group(name).get("feature_dimension")


def _text(
    group: Settings, width: int, one_embedding: bool, params: Mapping[str, np.ndarray]
) -> dict[str, Any]:
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
        ours["width"] = int(parameter_shape(params, "text_projection/kernel")[0]) if projected else int(width)
    elif encoder == "clip_text_encoder":
        if one_embedding:
            group.refuse("encoder_name", "needs video_text_fusion_config.type = 'video_text_self_attention'")
        settings.only("classifier", "eos", why="is nothing that the reference's encoder can do")
        ours |= {
            "width": settings.need("hidden_size"),
            "num_layers": settings.need("num_layers"),
            "num_heads": settings.need("num_heads"),
            "vocabulary_size": settings.need("vocab_size"),
            "max_tokens": int(parameter_shape(params, "text_encoder/positional_embedding")[0]),
        }
    else:
        group.refuse("encoder_name", "is not known here")
    settings.close("remat_block")
    group.close("input_type", "input_key")
    return ours


def _fusion(settings: Settings, width: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the settings of fusion and pyramid."""
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
    # The reference declares window attention but does not implement it.
    encoder.close("downsample_strategy", "window_size", "window_block_indexes", "remat_block")
    return fusion, pyramid


def _levels(group: Settings) -> tuple[list[int], int]:
    levels = sorted(set(group.need("feature_pyramid_levels")))
    stride = group.need("feature_pyramid_downsample_stride")
    frames = group.need("num_features_level0")
    if stride < 2:
        group.refuse("feature_pyramid_downsample_stride", "must be at least 2")
    if frames % stride ** (len(levels) - 1):
        group.refuse(
            "num_features_level0",
            f"must be divisible by {stride ** (len(levels) - 1)}: else the reference's levels are shorter than ours",
        )
    return levels, stride


def head_group(heads: Settings, task: str) -> Settings:
    """Returns the settings of the task's head, whose name has a prefix if there are several datasets.

    Raises:
      UserError: There is none.
    """
    names = [name for name in heads.values if name == task or name.endswith(f"_{task}")]
    if not names:
        raise UserError(f"The reference's config has no {heads.name}.{task}.")
    return heads.group(task if task in names else names[0])


def _head(heads: Settings, task: str, fusion: Settings) -> dict[str, Any]:
    head = head_group(heads, task)
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
        # A video has one title, so the mean over texts is that title's value.
        "offsets_per_text": bool(settings.get("output_per_class_displacements", True))
        or task == "highlight_detection",
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
    """Returns whether any part recomputes its activations."""
    if not isinstance(values, Mapping):
        return False
    return bool(values.get("remat_block")) or any(_remat(value) for value in values.values())
