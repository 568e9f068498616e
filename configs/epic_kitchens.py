"""Action localisation on EPIC-Kitchens-100: verbs, nouns or actions, whichever the shards have. Sizes: B, L, tiny;
features: slowfast, internvideo2, videoprism_rows (docs/features.md), or both, such as L,slowfast.

unloc train --config=configs/epic_kitchens.py:B --config.data.dir=DIR --workdir=runs/epic_kitchens

Start from pretrained towers with --config.init_from=CHECKPOINT. Neither the reference nor the paper has such a run.
"""

import ml_collections

from configs import common

FEATURES = {
    "slowfast": common.Features({"slowfast": 2304}, 30 / 16),
    "internvideo2": common.Features({"internvideo2": 1408}, 30 / 8),
    **common.VIDEOPRISM_ROWS,
}


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, features = common.parse(argument, FEATURES)
    # Nearly two places a second, the rate of SlowFast's rows, for actions of a few seconds. Of rows a window has nine
    # minutes; of frames, which cost more, half as many and four. 2,000 steps of 16 windows show 100 hours 48 times.
    config = common.windows_config(
        size,
        features,
        "temporal_action_localization",
        num_frames=1024 if features else 512,
        per_s=1.875,
        batch_size=16,
        steps=2_000 if features else 4_000,
    )
    # About 77,000 segments in at most 100 hours: 120 in nine minutes, and twice that where much happens.
    config.data.max_segments = 256
    config.data.prompts = ("{}", "a video of {}.", "a person doing {}.", "a video of the activity {}.")
    # Frames alone, once for all classes: early fusion would pass a window once for each of 97 verbs, 300 nouns or some
    # thousand pairs through the transformer. For verbs it can be paid: --config.model.fusion.type=early.
    config.model.fusion.type = "late"
    config.model.pyramid.num_levels = 6
    config.model.head.update({"num_conv_layers": 4, "relevance_bias": -5.0})
    config.model.text_chunk = 10
    # Detections per class: a frequent verb occurs more than 100 times in an hour.
    config.evaluation.max_detections = 300
    config.evaluation.tiou = "0.1:0.1:0.5"
    return common.finish(config, size, "quickstart/activitynet")
