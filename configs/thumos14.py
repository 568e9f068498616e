"""Action localisation on THUMOS14, 20 classes. Sizes: B, L, tiny. The reference has no such config: the recipe is
that of ActivityNet, with more frames and segments for longer videos with short actions.

unloc train --config=configs/thumos14.py:B --config.data.dir=DIR --workdir=runs/thumos14

Start from pretrained towers with --config.init_from=CHECKPOINT. The paper has no THUMOS14 result.
"""

import ml_collections

from configs import common


def get_config(size: str = "B") -> ml_collections.ConfigDict:
    config = common.reference_config(size, "temporal_action_localization", epochs=100, train_videos=200)
    config.batch_size = 16
    config.train.steps = 100 * 200 // 16
    config.train.schedule = "cosine"
    common.warm_up(config, 10, of=100)
    config.evaluation.every_steps = config.checkpoint.every_steps = 125
    config.data.update({"num_frames": 512, "max_segments": 128})
    config.data.prompts = ("{}", "a video of {}.", "a person doing {}.", "a video of the sport {}.")
    config.model.text.update({"max_tokens": 16, "freeze": True})
    config.model.pyramid.update({"num_levels": 6, "ranges_from_data": True})
    config.model.head.update({"num_conv_layers": 4, "relevance_bias": -5.0})
    config.model.text_chunk = 0 if size == "tiny" else 10
    config.model.frame_chunk = 0 if size == "tiny" else 64
    return common.finish(config, size, "quickstart/activitynet")
