"""Settings that the configs of the reference's models share: sizes, training recipe, and the tiny variant."""

import math
from typing import Any

import ml_collections

# CLIP's towers, and the fusion that the reference puts on top of each.
SIZES: dict[str, dict[str, Any]] = {
    "B": {
        "image": {"width": 768, "num_layers": 12, "num_heads": 12, "patch_size": 16},
        "text": {"width": 512, "num_layers": 12, "num_heads": 8},
        "fusion": {"width": 512, "num_layers": 6, "num_heads": 8, "mlp_dim": 2048},
    },
    "L": {
        "image": {"width": 1024, "num_layers": 24, "num_heads": 16, "patch_size": 14},
        "text": {"width": 768, "num_layers": 12, "num_heads": 12},
        "fusion": {"width": 768, "num_layers": 6, "num_heads": 12, "mlp_dim": 3072},
    },
    # VideoPrism's towers (docs/videoprism.md), and the fusions of B and L.
    "videoprism_base": {
        "modalities": {"rgb": {"encoder": "videoprism"}},
        "image": {},
        "videoprism": {"size": "base"},
        "text": {"encoder": "videoprism"},
        "fusion": {"width": 512, "num_layers": 6, "num_heads": 8, "mlp_dim": 2048},
    },
    "videoprism_large": {
        "modalities": {"rgb": {"encoder": "videoprism"}},
        "image": {},
        "videoprism": {"size": "large"},
        "text": {"encoder": "videoprism"},
        "fusion": {"width": 768, "num_layers": 6, "num_heads": 12, "mlp_dim": 3072},
    },
    "tiny": {
        "image": {"width": 32, "num_layers": 1, "num_heads": 2, "patch_size": 8},
        "text": {"width": 32, "num_layers": 1, "num_heads": 2},
        "fusion": {"width": 32, "num_layers": 3, "num_heads": 2, "mlp_dim": 64},
    },
}


def reference_config(size: str, task: str, *, epochs: int, train_videos: int) -> ml_collections.ConfigDict:
    """Returns the reference's model and recipe at a size, which a config then adapts.

    Args:
      size: key of SIZES.
      task: config.task.
      epochs, train_videos: determine the number of steps at the reference's batch size of 64.
    """
    if size not in SIZES:
        raise ValueError(f"the size is one of {', '.join(SIZES)}, such as :B; got {size!r}")
    config = ml_collections.ConfigDict()
    config.task = task
    config.batch_size = 64
    crop_size = 288 if size.startswith("videoprism") else 224
    config.data = {"num_frames": 128, "crop_size": crop_size, "max_segments": 24, "max_queries": 1}
    config.model = {
        **SIZES[size],
        "pyramid": {"type": "simple", "num_levels": 4},
        "head": {"num_conv_layers": 3, "offsets_bias": 2.0},
        "remat": "none" if size == "tiny" else "full",
    }
    config.model.text.max_tokens = 32
    steps_per_epoch = train_videos // config.batch_size
    config.train = {
        "steps": epochs * steps_per_epoch,
        "learning_rate": 0.01,
        # New parameters learn ten times as fast as the pretrained towers.
        "learning_rates": {"fusion": 0.1, "head": 0.1},
        "schedule": "constant",
    }
    config.optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 0.0, "max_grad_norm": 1.0}
    config.evaluation = {"every_steps": steps_per_epoch, "batch_size": 16}
    config.checkpoint = {"every_steps": steps_per_epoch}
    return config


def warm_up(config: ml_collections.ConfigDict, epochs: float, of: int) -> None:
    """Sets a linear warm-up over the first `epochs` of `of` epochs."""
    config.train.warmup_steps = epochs * config.train.steps / of


def decay_once(config: ml_collections.ConfigDict, epoch: int, of: int) -> None:
    """Multiplies the learning rate by 0.1 from `epoch` of `of` epochs on."""
    config.train.schedule = "piecewise"
    config.train.decay_steps = (round(epoch * config.train.steps / of),)
    config.train.decay_factors = (0.1,)


def freeze_video(config: ml_collections.ConfigDict) -> None:
    config.model.modalities = {"rgb": {**config.model.get("modalities", {}).get("rgb", {}), "freeze": True}}


def finish(
    config: ml_collections.ConfigDict, size: str, tiny_data: str = "quickstart/activitynet_captions"
) -> ml_collections.ConfigDict:
    """Shrinks a config of size "tiny" to few steps and a synthetic dataset as `make quickstart` builds it."""
    if size != "tiny":
        return config
    config.batch_size = 4
    config.data.update({"dir": tiny_data, "num_frames": 16, "crop_size": 32, "max_segments": 6})
    config.data.max_queries = min(config.data.max_queries, 6)
    config.model.text.max_tokens = 16
    if config.model.pyramid.type != "none":
        config.model.pyramid.num_levels = 3
        config.model.pyramid.regression_ranges = ()
    config.model.head.num_conv_layers = 1
    config.train.update({"steps": 8, "warmup_steps": 2, "schedule": "constant"})
    config.train.decay_steps = config.train.decay_factors = ()
    config.evaluation.update({"every_steps": 8, "batch_size": 4, "max_detections": 20})
    config.checkpoint.every_steps = 8
    config.log_every_steps = 2
    return config


INFINITY = math.inf
