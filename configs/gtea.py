"""Action segmentation on GTEA. Sizes: B, L, tiny; features: i3d, videoprism_rows (docs/features.md), or
both, such as B,i3d. One run per split.

unloc train --config=configs/gtea.py:B --config.data.dir=DIR --workdir=runs/gtea

Start from pretrained towers with --config.init_from=CHECKPOINT. Neither the reference nor the paper has such a run.
"""

import ml_collections

from configs import common

FEATURES = {"i3d": common.Features({"i3d": 2048}, 15), **common.VIDEOPRISM_ROWS}


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, features = common.parse(argument, FEATURES)
    # Videos of about a minute, 21 in training: a window shows one as a whole.
    config = common.segmentation_config(size, features, num_frames=512, steps=1_000)
    return common.finish(config, size, "quickstart/activitynet")
