"""A small model from scratch, for one's own recordings on two CPU cores or any GPU. The argument is the task.

unloc train --config=configs/small.py:temporal_action_localization --config.data.dir=DIR --workdir=runs/small

`unloc data check` prints this command with settings that fit the data (docs/own_dataset.md). What all small datasets
need is here: windows at random places, changes of size, place and colour, dropout, an average of the parameters, and
frames minus their mean, so that a model does not learn people and rooms by heart. Measured in docs/study.md.
"""

import ml_collections


def get_config(task: str = "temporal_action_localization") -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.task = task
    config.batch_size = 8
    config.data = {
        "num_frames": 64,
        "sampling": "window",
        "window_stride": 2,
        "crop_size": 64,
        "max_segments": 16,
        "augmentation": {"scale_jitter": (0.9, 1.25), "color": 0.8},
    }
    config.model = {
        "image": {
            "width": 96,
            "num_layers": 2,
            "num_heads": 4,
            "patch_size": 16,
            "temporal_kernel": 3,
            "subtract_mean": True,
        },
        "text": {"width": 64, "num_layers": 1, "num_heads": 4, "max_tokens": 16},
        "fusion": {"width": 96, "num_layers": 2, "num_heads": 4, "mlp_dim": 384, "dropout": 0.1},
        "pyramid": {"num_levels": 3, "ranges_from_data": True},
        "head": {"num_conv_layers": 2},
        "unroll": 4,
    }
    config.optimizer = {"weight_decay": 0.05, "ema_decay": 0.99}
    config.train = {"steps": 1500, "learning_rate": 1e-3, "warmup_steps": 50}
    config.evaluation = {"every_steps": 500, "batch_size": 8}
    config.checkpoint = {"every_steps": 500}
    if task in ("temporal_action_localization", "action_segmentation"):
        # All classes at once: most pairs of video and class are negative, and late fusion costs half as much as early
        # fusion, which needs texts that mean something (pretrained towers).
        config.model.fusion.type = "late"
        config.model.head.relevance_bias = -3.0
    if task == "action_segmentation":
        config.model.pyramid.type = "none"
        config.loss = {"relevance": "sigmoid", "relevance_weight": 1.0}
    return config
