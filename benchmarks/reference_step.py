"""The reference's training step, for benchmarks/train_step.py: action localisation with two CLIP towers.

Runs the reference's own code from the user's checkout: its model, loss, metrics, optimizer and `train_step` under pmap,
assembled as its trainer does. The batch is random.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from unloc_jax.config import Config
from unloc_jax.errors import UserError

_ONLY_FOR_EVALUATION = ("activitynet", "big_vision", "pandas", "scenic.train_lib_deprecated", "sklearn")


def reference_step(scenic: Path, config: Config, classes: int) -> Callable[[], None]:
    """Returns a function that runs one step.

    Args:
      scenic: a checkout of github.com/google-research/scenic.
      config: our config, whose sizes and losses are used: action localisation, a simple pyramid.
      classes: number of classes.

    Raises:
      UserError: `scenic` is not a checkout, or this file does not translate the config.
    """
    if not (scenic / "scenic" / "projects" / "unloc").is_dir():
        raise UserError(
            f"--reference={scenic}: there is no scenic/projects/unloc. Give a checkout of Scenic."
        )
    if config.task != "temporal_action_localization" or config.model.pyramid.type != "simple":
        raise UserError(
            "--reference: only action localisation with model.pyramid.type = 'simple' is translated."
        )
    sys.path.insert(0, str(scenic))
    import flax
    import jax
    from flax import jax_utils

    models, optimizer_utils, train_utils = (
        _import(f"scenic.projects.unloc.{name}") for name in ("model", "optimizer_utils", "train_utils")
    )
    lr_schedules = _import("scenic.train_lib.lr_schedules")

    settings = _settings(config, classes)
    model = models.UnlocTemporalLocalizationModel(
        settings, {"num_classes": classes, "target_is_onehot": True}
    )
    batch = _batch(config, classes)
    inputs = jax.tree.map(lambda x: x[:1], batch["inputs"])
    init = functools.partial(model.flax_model.init, task="temporal_localization", train=False, debug=False)
    params = flax.core.freeze(jax.jit(init)(jax.random.key(0), inputs)["params"])
    optimizer = optimizer_utils.optimizer_with_multi_lrs(settings, params)
    state = train_utils.train_utils.TrainState(
        global_step=0, opt_state=jax.jit(optimizer.init)(params), tx=optimizer, params=params, model_state={},
        rng=jax.random.PRNGKey(0), metadata={},
    )  # fmt: skip
    run = jax.pmap(
        functools.partial(
            train_utils.train_step,
            task="temporal_localization",
            dataset="",
            flax_model=model.flax_model,
            loss_fn=model.loss_function,
            lr_fn=lr_schedules.get_learning_rate_fn(settings),
            metrics_fn=model.get_metrics_fn("train"),
            config=settings,
            debug=False,
        ),
        axis_name="batch",
        donate_argnums=(0, 1),
        devices=jax.devices()[:1],
    )
    state = jax_utils.replicate(state, jax.devices()[:1])

    def step() -> None:
        nonlocal state
        # Every step donates the batch's memory, as in the reference's trainer.
        state, _, logs = run(state, jax_utils.replicate(batch, jax.devices()[:1]))
        assert np.isfinite(jax.device_get(logs["l2_params"])).all()

    return step


def _import(name: str) -> Any:
    """Imports a module of the reference, with mocks for missing modules that only its evaluation uses."""
    while True:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if not missing.startswith(_ONLY_FOR_EVALUATION):
                raise UserError(f"--reference needs the module {missing}: pip install it.") from error
            sys.modules[missing] = mock.MagicMock()


def _settings(config: Config, classes: int) -> Any:
    """Returns the reference's config for the same model."""
    import ml_collections

    model, loss = config.model, config.loss
    image, text, fusion, head = model.image, model.text, model.fusion, model.head
    geometry = model.geometry(config.data.num_frames)
    pyramid = {
        "num_features_level0": config.data.num_frames,
        "feature_pyramid_levels": tuple(range(geometry.num_levels)),
        "feature_pyramid_downsample_stride": model.pyramid.stride,
    }
    towers = {
        "video_tower_config": {
            "encoder_name": "clip_video_encoder",
            "freeze": model.modalities["rgb"].freeze,
            "projection_size": fusion.width,
            "projection_use_bias": model.video_projection_bias,
            "encoder_config": {
                "num_classes": -1,
                "classifier": "token",
                "final_endpoint": "temporal_tokens",
                "image_encoder_config": {
                    "classifier": "token",
                    "features": image.width,
                    "num_heads": image.num_heads,
                    "num_layers": image.num_layers,
                    "patches": {"size": (image.patch_size, image.patch_size, 1)},
                },
                "temporal_encoder_config": None,
                "temporal_encoding_config": {
                    "kernel_init_method": "central_frame_initializer",
                    "method": "3d_conv",
                },
            },
        },
        "text_tower_config": {
            "encoder_name": "clip_text_encoder",
            "freeze": text.freeze,
            "projection_size": fusion.width,
            "projection_use_bias": text.projection_bias,
            "encoder_config": {
                "classifier": "eos",
                "hidden_size": text.width,
                "num_heads": text.num_heads,
                "num_layers": text.num_layers,
                "vocab_size": text.vocabulary_size,
            },
        },
    }
    encoder = {
        "attention_dropout_rate": 0.0,
        "dropout_rate": 0.0,
        "stochastic_depth": 0.0,
        "feature_pyramid_config": pyramid,
        "mlp_dim": fusion.mlp_dim,
        "num_heads": fusion.num_heads,
        "num_layers": fusion.num_layers,
        "positional_embedding": "sinusoid",
    }
    heads = {
        "temporal_localization": {
            "type": "query_dependent_localization_head",
            "config": {
                "distance_normalizer": "relu",
                "feature_pyramid_config": pyramid,
                "init_classification_head_bias": head.relevance_bias,
                "init_regression_head_bias": head.offsets_bias,
                "kernel_size": head.kernel_size,
                "num_conv_layers": head.num_conv_layers,
                "output_per_class_displacements": True,
                "weight_sharing": True,
            },
        }
    }
    return ml_collections.ConfigDict(
        {
            "model_name": "unloc_temporal_localization",
            "dataset_configs": {"task": "temporal_localization", "name": "", "num_classes": classes},
            "output_per_class_displacements": True,
            "box_loss_type": "iou",
            "classification_loss_type": "focal",
            "classification_loss_alpha": loss.relevance_weight,
            "focal_loss_alpha": loss.focal_alpha,
            "focal_loss_gamma": loss.focal_gamma,
            "label_smoothing": 0.0,
            "max_grad_norm": config.optimizer.max_grad_norm,
            "optimizer": "sgd",
            "optimizer_configs": {"momentum": config.optimizer.momentum},
            "lr_configs": {
                "learning_rate_schedule": "compound",
                "factors": "constant * linear_warmup",
                "warmup_steps": 2,
                "base_learning_rate": 0.01,
            },
            "layer_prefix_to_base_lrs": {"temporal_localization_head": 0.1, "video_text_fusion": 0.1},
            "model": {
                **towers,
                "classifier": "token",
                "head_config": heads,
                "video_text_fusion_config": {
                    "type": "video_text_self_attention",
                    "config": {
                        "self_attention_encoder_config": encoder,
                        "self_attention_encoder_name": "simple_pyramid",
                        "text_tower_classifier": "eos",
                        "use_all_text_tokens": False,
                    },
                },
            },
        }
    )


def _batch(config: Config, classes: int) -> dict[str, Any]:
    rng, data, videos = np.random.default_rng(0), config.data, config.batch_size
    points, tokens = config.model.geometry(data.num_frames).num_points, config.model.text.max_tokens
    words = rng.integers(1, 1000, (classes, tokens))
    words[:, -1] = 49407  # the end token
    everywhere = lambda x: np.broadcast_to(x, (videos, *x.shape)).astype(np.int32)
    label = rng.random((videos, points, classes)) < 0.02
    return {
        "inputs": {
            "rgb": rng.normal(size=(videos, data.num_frames, data.crop_size, data.crop_size, 3)).astype(
                np.float32
            ),
            "input_mask": np.ones((videos, points), np.int32),
            "class_names": {
                "input_word_ids": everywhere(words),
                "input_type_ids": everywhere(np.zeros_like(words)),
                "input_mask": everywhere(np.ones_like(words)),
            },
        },
        "label": label.astype(np.int32),
        "displacements": rng.uniform(0.5, 4, (videos, points, classes, 2)).astype(np.float32),
        "batch_mask": np.ones(videos, np.float32),
    }
