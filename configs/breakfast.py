"""Action segmentation on Breakfast. Sizes: B, L, tiny; features: i3d, videoprism_rows (docs/features.md), or
both, such as B,i3d. One run per split.

unloc train --config=configs/breakfast.py:B --config.data.dir=DIR --workdir=runs/breakfast

Start from pretrained towers with --config.init_from=CHECKPOINT. Neither the reference nor the paper has such a run.
"""

import ml_collections

from configs import common

FEATURES = {"i3d": common.Features({"i3d": 2048}, 15), **common.VIDEOPRISM_ROWS}


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, features = common.parse(argument, FEATURES)
    # Videos from half a minute to ten, 1,284 in training: windows of three and a half minutes, of frames half of
    # that.
    config = common.segmentation_config(size, features, num_frames=1024 if features else 512, steps=5_000)
    return common.finish(config, size, "quickstart/activitynet")
