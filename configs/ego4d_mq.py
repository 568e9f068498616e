"""Action localisation on Ego4D's Moment Queries. Sizes: B, L, tiny; features: slowfast, omnivore, internvideo,
internvideo2, videoprism_rows (docs/features.md), or both, such as L,omnivore.

unloc train --config=configs/ego4d_mq.py:B --config.data.dir=DIR --workdir=runs/ego4d_mq

Start from pretrained towers with --config.init_from=CHECKPOINT. Neither the reference nor the paper has such a run.
"""

import ml_collections

from configs import common

FEATURES = {
    "slowfast": common.Features({"slowfast": 2304}, 30 / 16),
    "omnivore": common.Features({"omnivore": 1536}, 30 / 16),
    "internvideo": common.Features({"internvideo": 1024}, 30 / 8),
    "internvideo2": common.Features({"internvideo2": 1408}, 30 / 8),
    **common.VIDEOPRISM_ROWS,
}


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, features = common.parse(argument, FEATURES)
    # A window of rows shows a clip of eight minutes as a whole, one of frames half of it: moments last from seconds to
    # minutes. The number of steps is a round one: passes × training clips / 8.
    config = common.windows_config(
        size,
        features,
        "temporal_action_localization",
        num_frames=1024 if features else 512,
        per_s=1.875,
        batch_size=8,
        steps=4_000,
    )
    config.data.max_segments = 64
    config.data.prompts = ("{}", "a video of {}.", "a person doing {}.", "a video of the activity {}.")
    # As many levels as the longest moments need, which fill half a window.
    config.model.pyramid.num_levels = 8
    config.model.head.update({"num_conv_layers": 4, "relevance_bias": -5.0})
    # 8 windows × 8 of the 110 classes: attention over 1,025 places takes 2 GB for them.
    config.model.text_chunk = 8
    config.evaluation.tiou = "0.1:0.1:0.5"
    return common.finish(config, size, "quickstart/activitynet")
