"""Action segmentation on COIN, 778 step classes. Sizes: B, L (the reference's), tiny.

unloc train --config=configs/coin.py:L --config.data.dir=DIR --workdir=runs/coin

Start from pretrained towers with --config.init_from=CHECKPOINT. The reference reads the class embeddings from a file;
here the frozen text tower computes them (config.model.text.encoder = "embeddings" also reads a file).
"""

import ml_collections

from configs import common


def get_config(size: str = "L") -> ml_collections.ConfigDict:
    config = common.reference_config(size, "action_segmentation", epochs=55, train_videos=8_461)
    config.train.update(
        {"warmup_steps": 500, "schedule": "exponential", "decay_every": 6_600, "staircase": True}
    )
    config.data.update({"num_frames": 512, "max_segments": 28})
    config.data.prompts = ("{}", "a video of a person who has to {}.", "how to {}.")
    config.model.image.pooling = "mean"
    config.model.text.update({"max_tokens": 24, "freeze": True})
    config.model.pyramid.type = "none"
    config.model.head = {"type": "linear", "relevance_bias": -6.6}
    config.model.text_chunk = 0 if size == "tiny" else 16
    config.model.frame_chunk = 0 if size == "tiny" else 64
    config.loss = {"relevance": "sigmoid", "relevance_weight": 1.0}
    return common.finish(config, size, "quickstart/activitynet")
