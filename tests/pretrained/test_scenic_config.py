"""The reference's settings as ours, or refused by name."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from unloc_jax.config import Config, from_mapping
from unloc_jax.errors import UserError
from unloc_jax.pretrained.scenic_config import to_config
from unloc_jax.pretrained.scenic_source import read_params

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
    assert (shared.pyramid.type, shared.head.offsets_per_text) == ("simple", False)
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
    assert str(value) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_parameter_is_named():
    config, params = load("mr_fpn_ws0_gather1_focal_iou")
    del params["text_encoder/positional_embedding"]
    with pytest.raises(UserError, match="text_encoder/positional_embedding"):
        to_config(config, params)
