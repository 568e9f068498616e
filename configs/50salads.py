"""Action segmentation on 50Salads. Sizes: B, L, tiny; features: i3d, videoprism_rows (docs/features.md), or
both, such as B,i3d. One run per split.

unloc train --config=configs/50salads.py:B --config.data.dir=DIR --workdir=runs/50salads

Start from pretrained towers with --config.init_from=CHECKPOINT. Neither the reference nor the paper has such a run.
"""

import ml_collections

from configs import common

FEATURES = {"i3d": common.Features({"i3d": 2048}, 30), **common.VIDEOPRISM_ROWS}


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, features = common.parse(argument, FEATURES)
    # Videos of minutes, 40 in training: windows of three and a half minutes, of frames half of that.
    config = common.segmentation_config(size, features, num_frames=1024 if features else 512, steps=1_500)
    return common.finish(config, size, "quickstart/activitynet")
