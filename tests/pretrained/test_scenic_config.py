"""The reference's settings as ours, or refused by name."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unloc_jax.config import Config, StageConfig, from_mapping
from unloc_jax.errors import UserError
from unloc_jax.pretrained.scenic_config import to_config
from unloc_jax.pretrained.scenic_source import read_params

ENCODER = "model.video_text_fusion_config.config.self_attention_encoder_config"
OWN = Path(__file__).parents[1] / "goldens" / "scenic"


def load(name: str) -> tuple[dict, dict[str, np.ndarray]]:
    return json.loads((OWN / f"{name}.json").read_text())["config"], read_params(OWN / f"{name}.npz")


def ours(name: str) -> Config:
    return from_mapping(to_config(*load(name)))


def test_tasks_losses_and_negatives():
    found = {
        name: ours(name)
        for name in (
            "mr_fpn_ws0_gather1_focal_iou",
            "tal_fpn_ws1_opc1_alltext_focal_iou_ls",
            "hd_simple_ws0_opc0_sigmoid_center",
            "as_transformer_token",
        )
    }
    assert [config.task for config in found.values()] == [
        "moment_retrieval", "temporal_action_localization", "highlight_detection", "action_segmentation",
    ]  # fmt: skip
    assert [config.loss.negatives for config in found.values()] == ["batch", "own", "own", "own"]
    assert [config.loss.relevance for config in found.values()] == ["focal", "focal", "sigmoid", "sigmoid"]
    assert found["hd_simple_ws0_opc0_sigmoid_center"].loss.boundaries == "center"
    assert found["tal_fpn_ws1_opc1_alltext_focal_iou_ls"].loss.label_smoothing > 0


def test_models():
    mr = ours("mr_fpn_ws0_gather1_focal_iou").model
    assert (mr.pyramid.type, mr.pyramid_layers, mr.head.shared_levels) == ("fpn", (0, 1, 2), False)
    assert (mr.image.width, mr.image.patch_size, mr.text.vocabulary_size, mr.fusion.width) == (32, 8, 100, 24)
    assert mr.image.class_token_per_frame and mr.image.pooling == "token"
    segmentation = ours("as_transformer_token").model
    assert (segmentation.pyramid.type, segmentation.head.type) == ("none", "linear")
    shared = ours("hd_simple_ws0_opc0_sigmoid_center").model
    assert (shared.pyramid.type, shared.head.offsets_per_text) == ("simple", True)
    reference, params = load("tal_multi_modality_fpn")
    wanted = json.dumps(reference).replace('_class_displacements": true', '_class_displacements": false')
    assert not from_mapping(to_config(json.loads(wanted), params)).model.head.offsets_per_text
    learned = ours("tal_emb_transformer_passvideo_learnedpos").model
    assert (learned.fusion.positions, learned.text.encoder) == ("learned", "embeddings")
    assert learned.modalities["rgb"].encoder == "features" and learned.modalities["rgb"].feature_dim == 20
    two = ours("tal_multi_modality_fpn").model.modalities
    assert (two["flow"].encoder, two["flow"].feature_dim, two["flow"].projection_width) == (
        "features",
        10,
        12,
    )
    assert (two["rgb"].encoder, two["rgb"].projection_width, two["rgb"].norm) == ("clip", 16, True)


def test_training():
    config = ours("trainstep_mr_gather_multilr")
    assert (config.optimizer.name, config.optimizer.momentum, config.optimizer.max_grad_norm) == (
        "sgd",
        0.9,
        1000,
    )
    stage = config.train
    assert (stage.schedule, stage.decay_steps, stage.decay_factors) == ("piecewise", (2,), (0.1,))
    assert (stage.learning_rate, stage.warmup_steps) == (0.05, 2)
    assert stage.learning_rates == {"fusion": 0.1, "head": 0.1}


def with_rates(prefixes: dict[str, float]) -> dict[str, float]:
    """train.learning_rates for layer_prefix_to_base_lrs, in a model with frames and an fpn; the base is 0.5."""
    config, params = load("mr_fpn_ws0_gather1_focal_iou")
    config |= {"lr_configs": {"base_learning_rate": 0.5}, "layer_prefix_to_base_lrs": prefixes}
    return to_config(config, params)["train"]["learning_rates"]


def test_rates_of_parts_of_a_module():
    """A name of the reference may be several of ours: of its VisionTransformer all but the two embeddings before."""
    assert with_rates({"video_encoder/VisionTransformer": 0.1}) == {
        "towers_rgb/position_embedding": 0.1,
        "towers_rgb/norm_in": 0.1,
        "towers_rgb/norm_out": 0.1,
        "towers_rgb/transformer": 0.1,
    }
    assert with_rates({"text": 0.1}) == {"text_tower": 0.1, "text_projection": 0.1}
    assert with_rates({"temporal_localization_head": 0.1}) == {}  # of another task


def test_of_two_prefixes_the_shorter_one_counts_as_in_the_reference():
    rates = {"video_text_fusion": 0.1, "video_text_fusion/video_text_encoder/output_ln_0": 0.2}
    assert with_rates(rates) == {"fusion": 0.1}


def test_rates_of_single_layers_of_a_stack_are_refused():
    with pytest.raises(UserError, match=r"layer_prefix_to_base_lrs .* text_tower/transformer/layers"):
        with_rates({"text_encoder/transformer/resblocks.1": 0.1})


def stage(factors: str, **settings: Any) -> StageConfig:
    config, params = load("mr_fpn_ws0_gather1_focal_iou")
    schedule = {"base_learning_rate": 0.5, "learning_rate_schedule": "compound", "factors": factors}
    return from_mapping(to_config(config | {"lr_configs": schedule | settings}, params)).train


def test_schedules():
    cosine = stage("constant * cosine_decay * linear_warmup", warmup_steps=2.5, steps_per_cycle=70)
    assert (cosine.schedule, cosine.steps, cosine.warmup_steps) == ("cosine", 70, 2.5)
    stairs = stage("constant*exponential_decay", decay_steps=6, decay_rate=0.2, staircase=True)
    assert (stairs.schedule, stairs.decay_every, stairs.decay_rate, stairs.staircase) == (
        "exponential", 6, 0.2, True,
    )  # fmt: skip
    assert stairs.steps == Config().train.steps  # the reference counts epochs
    late = stage(
        "constant * piecewise_constant", decay_events=[5, 80], decay_factors=[0.5, 0.1], steps_per_cycle=70
    )
    assert (late.decay_steps, late.decay_factors) == ((5,), (0.5,))
    beyond = stage("constant * piecewise_constant", decay_events=[30_000], decay_factors=[0.1])
    assert beyond.steps > 30_000


@pytest.mark.parametrize(
    ("factors", "settings", "message"),
    [
        ("constant * rsqrt_decay", {}, "factors"),
        ("constant * linear_warmup", {"warmup_steps": 3, "warmup_alpha": 0.1}, "warmup_alpha = 0.1"),
        ("constant * cosine_decay", {"steps_per_cycle": 10, "total_steps": 30}, "steps_per_cycle = 10"),
        ("constant * cosine_decay", {"steps_per_cycle": 10, "t_mul": 2}, "t_mul = 2"),
    ],
)
def test_schedules_that_cannot_be_expressed(factors, settings, message):
    with pytest.raises(UserError, match=message):
        stage(factors, **settings)


def test_data_decide_about_offsets():
    """The head's distances are in strides; a config that describes the data must have them."""
    config, params = load("mr_fpn_ws0_gather1_focal_iou")
    pyramid = {"normalize_displacements_by_downsample_stride": True}
    data = {"num_frames": 16, "displacement_normalizer": "none", "feature_pyramid_config": pyramid}
    changed = lambda **values: config | {"dataset_configs": config["dataset_configs"] | data | values}
    ranges = [[0, 3], [3, 6], [6, math.inf]]
    found = from_mapping(
        to_config(
            changed(
                radius=2.0,
                train_max_num_captions=3,
                feature_pyramid_config=pyramid | {"regression_ranges": ranges},
            ),
            params,
        )
    )
    assert (found.loss.radius, found.data.max_queries) == (2.0, 3)
    assert found.model.pyramid.regression_ranges == ((0, 3), (3, 6), (6, math.inf))
    assert from_mapping(to_config(changed(), params)).loss.radius is None
    for wrong, name in [
        ({"displacement_normalizer": "duration"}, "displacement_normalizer = 'duration'"),
        ({"displacement_normalizer": None}, "displacement_normalizer"),
        (
            {"feature_pyramid_config": {"regression_ranges": ranges}},
            "normalize_displacements_by_downsample_stride",
        ),
        ({"sampling_strategy": "random"}, "sampling_strategy = 'random'"),
        ({"num_frames": 32}, "num_features_level0 = 16"),
    ]:
        with pytest.raises(UserError, match=name):
            to_config(changed(**wrong), params)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("dataset_configs.task", "captioning"),
        ("classification_loss_type", "hinge"),
        ("box_loss_type", "huber"),
        ("model.head_config.moment_retrieval.type", "localization_head"),
        ("model.video_text_fusion_config.config.self_attention_encoder_name", "mamba"),
        ("model.video_tower_config.encoder_name", "resnet"),
        ("model.video_text_fusion_config.config.something_new", 3),
        (f"{ENCODER}.feature_pyramid_config.feature_pyramid_levels", [0, 1]),
        (f"{ENCODER}.feature_pyramid_config.num_features_level0", 14),
        ("model.video_tower_config.encoder_config.final_endpoint", "pre_logits"),
        ("model.video_tower_config.encoder_config.image_encoder_config.out_features", 10),
        ("output_per_class_displacements", False),
        ("soft_nms_sigma", 0.0),
        ("optimizer_configs", {"optimizer": "lamb"}),
    ],
)
def test_what_cannot_be_expressed_is_named(path, value):
    config, params = load("mr_fpn_ws0_gather1_focal_iou")
    config = copy.deepcopy(config)
    *groups, key = path.split(".")
    at = config
    for group in groups:
        at = at[group]
    at[key] = value
    with pytest.raises(UserError) as error:
        from_mapping(to_config(config, params))
    name = "optimizer" if key == "optimizer_configs" else key
    value = value["optimizer"] if isinstance(value, dict) else value
    assert (
        f"{name} = " in str(error.value) and str(value) in str(error.value) and "\n" not in str(error.value)
    )


def test_a_missing_parameter_is_named():
    config, params = load("mr_fpn_ws0_gather1_focal_iou")
    del params["text_encoder/positional_embedding"]
    with pytest.raises(UserError, match="text_encoder/positional_embedding"):
        to_config(config, params)
