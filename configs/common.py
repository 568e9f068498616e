"""Settings that the configs of the reference's models share: sizes, training recipe, and the tiny variant."""

import dataclasses
import math
from collections.abc import Mapping
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


@dataclasses.dataclass(frozen=True)
class Features:
    """Rows that another program computed of the videos; docs/features.md says which, and where they come from.

    Attributes:
      widths: numbers per row by modality, the NAME of `unloc data build --features NAME=DIR`.
      per_s: rows per second; 0 where the model sees whole videos, whatever the number of rows.
    """

    widths: dict[str, int]
    per_s: float = 0.0


# Rows as `unloc features --encoder videoprism:…` makes them: base, `--fps 2`.
VIDEOPRISM_ROWS = {"videoprism_rows": Features({"videoprism": 768}, 2)}
FRAMES_PER_S = 10  # that `unloc data build` stores


def parse(argument: str, features: Mapping[str, Features]) -> tuple[str, Features | None]:
    """Returns size and features of an argument: one of them, or both, such as "L,slowfast".

    Args:
      argument: of the config file; "features" are the first ones.
      features: those of the dataset, by name.

    Raises:
      ValueError: a word is neither.
    """
    size, chosen = "B", None
    for word in argument.split(","):
        if word in SIZES:
            size = word
        elif word in features or (word == "features" and features):
            chosen = features.get(word) or next(iter(features.values()))
        else:
            raise ValueError(
                f"the argument is a size ({', '.join(SIZES)}), features ({', '.join(['features', *features])}), or "
                f"both, such as B,features; got {argument!r}"
            )
    return size, chosen


def reference_config(
    size: str, task: str, *, epochs: int, train_videos: int, batch_size: int = 64
) -> ml_collections.ConfigDict:
    """Returns the reference's model and recipe at a size, which a config then adapts.

    Args:
      size: key of SIZES.
      task: config.task.
      epochs, train_videos: determine the number of steps.
      batch_size: the reference's is 64; rates are in proportion.
    """
    if size not in SIZES:
        raise ValueError(f"the size is one of {', '.join(SIZES)}, such as :B; got {size!r}")
    config = ml_collections.ConfigDict()
    config.task = task
    config.batch_size = batch_size
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
        "learning_rate": 0.01 * batch_size / 64,
        # New parameters learn ten times as fast as the pretrained towers.
        "learning_rates": {"fusion": 0.1 * batch_size / 64, "head": 0.1 * batch_size / 64},
        "schedule": "constant",
    }
    config.optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 0.0, "max_grad_norm": 1.0}
    config.evaluation = {"every_steps": steps_per_epoch, "batch_size": 16}
    config.checkpoint = {"every_steps": steps_per_epoch}
    return config


def actions_config(
    size: str, features: Features | None, *, epochs: int, train_videos: int
) -> ml_collections.ConfigDict:
    """Returns the recipe of ActivityNet's action localisation for another dataset of short videos, seen as a whole."""
    config = reference_config(size, "temporal_action_localization", epochs=epochs, train_videos=train_videos)
    warm_up(config, epochs / 8, of=epochs)
    config.train.schedule = "cosine"
    config.data.prompts = ("{}", "a video of {}.", "a person doing {}.", "a video of the activity {}.")
    config.model.text.update({"max_tokens": 16, "freeze": True})
    config.model.pyramid.ranges_from_data = True
    # Most (video, class) pairs are negative.
    config.model.head.update({"num_conv_layers": 4, "relevance_bias": -5.0})
    if features:
        read_features(config, features)
    return config


def windows_config(
    size: str,
    features: Features | None,
    task: str,
    *,
    num_frames: int,
    per_s: float,
    batch_size: int,
    steps: int,
) -> ml_collections.ConfigDict:
    """Returns a config for long videos: random windows in training, in evaluation those that show the whole video.

    Neither the reference nor the paper sees windows: 128 frames of an hour are one in 28 seconds.

    Args:
      size, features: from `parse`.
      task: config.task.
      num_frames, per_s: a window has num_frames places, about per_s of them a second: every so many stored rows.
      batch_size: windows per step; a window is several times as long as the reference's videos.
      steps: of training, in which the model is evaluated ten times.
    """
    config = reference_config(
        size, task, epochs=10, train_videos=steps * batch_size // 10, batch_size=batch_size
    )
    config.train.schedule = "cosine"
    warm_up(config, 1, of=10)
    stored_per_s = features.per_s if features else FRAMES_PER_S
    config.data.update(
        {"sampling": "window", "num_frames": num_frames, "window_stride": max(1, round(stored_per_s / per_s))}
    )
    # The levels share the training segments evenly, however long windows and segments are.
    config.model.pyramid.ranges_from_data = True
    config.model.text.update({"max_tokens": 16, "freeze": True})
    # Frames of a window that the image tower takes at a time.
    config.model.frame_chunk = 64
    config.evaluation.batch_size = batch_size
    if features:
        read_features(config, features)
    return config


def segmentation_config(
    size: str, features: Features | None, *, num_frames: int, steps: int
) -> ml_collections.ConfigDict:
    """Returns the recipe of configs/coin.py in windows of five places a second.

    Labels change at one of 15 or 30 frames a second, and are scored at the places.
    """
    config = windows_config(
        size, features, "action_segmentation", num_frames=num_frames, per_s=5, batch_size=8, steps=steps
    )
    config.data.max_segments = 64
    config.data.prompts = ("{}", "a video of a person who has to {}.", "how to {}.")
    config.model.pyramid = {"type": "none"}
    config.model.head = {"type": "linear", "relevance_bias": -3.0}
    # 8 windows × 8 classes: attention over 1,025 places takes 2 GB for them.
    config.model.text_chunk = 8
    config.loss = {"relevance": "sigmoid", "relevance_weight": 1.0}
    return config


def read_features(config: ml_collections.ConfigDict, features: Features) -> None:
    """Lets a config read features instead of frames, and learn as models of features usually do."""
    # Rows of two programs differ in scale, so each is normalised before they are joined.
    several = len(features.widths) > 1
    config.model.modalities = {
        name: {"encoder": "features", "feature_dim": width, "norm": several}
        for name, width in features.widths.items()
    }
    # What is left of the towers is the text's, which stays as it is, so all that learns is new: AdamW with a small rate
    # and an average of the parameters, as in ActionFormer and OpenTAD, instead of SGD with two rates.
    config.model.text.freeze = True
    config.optimizer = {"name": "adamw", "weight_decay": 0.05, "max_grad_norm": 1.0, "ema_decay": 0.999}
    config.train.update({"learning_rate": 1e-4, "learning_rates": {}, "schedule": "cosine"})
    config.train.decay_steps = config.train.decay_factors = ()


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
    config.data.window_stride = 1
    config.model.text_chunk = config.model.frame_chunk = 0
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
