"""Action localisation on THUMOS14, 20 classes. Sizes: B, L, tiny; features: i3d, internvideo2_6b, videoprism_rows
(docs/features.md), or both, such as L,i3d. The reference has no such config: the recipe is that of ActivityNet, with
more frames and segments for longer videos with short actions.

unloc train --config=configs/thumos14.py:B --config.data.dir=DIR --workdir=runs/thumos14

Start from pretrained towers with --config.init_from=CHECKPOINT. The paper has no THUMOS14 result.
"""

import ml_collections

from configs import common

FEATURES = {
    "i3d": common.Features({"i3d": 2048}, 30 / 4),
    "internvideo2_6b": common.Features({"internvideo2": 3200}, 30 / 4),
    **common.VIDEOPRISM_ROWS,
}


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, features = common.parse(argument, FEATURES)
    if features:
        config = in_windows(size, features, num_frames=1024)
        config.data.max_segments = 128
        config.model.text_chunk = 10
        return common.finish(config, size, "quickstart/activitynet")
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


def in_windows(size: str, features: common.Features | None, *, num_frames: int) -> ml_collections.ConfigDict:
    """Returns the recipe for windows of videos of up to half an hour: of rows seven places a second, of frames five."""
    config = common.windows_config(
        size,
        features,
        "temporal_action_localization",
        num_frames=num_frames,
        per_s=7.5 if features else 5,
        batch_size=8,
        steps=2_500,  # 100 epochs of 200 videos
    )
    config.data.prompts = ("{}", "a video of {}.", "a person doing {}.", "a video of the sport {}.")
    config.model.pyramid.num_levels = 6
    config.model.head.update({"num_conv_layers": 4, "relevance_bias": -5.0})
    return config
