"""Action localisation on HACS Segments. Sizes: B, L, tiny; features: slowfast, internvideo2_6b, videoprism_rows
(docs/features.md), or both, such as L,slowfast.

unloc train --config=configs/hacs.py:B --config.data.dir=DIR --workdir=runs/hacs

Start from pretrained towers with --config.init_from=CHECKPOINT. Neither the reference nor the paper has such a run; the
classes and the recipe are those of configs/activitynet_tal.py.
"""

import ml_collections

from configs import common

FEATURES = {
    "slowfast": common.Features({"slowfast": 2304}),
    "internvideo2_6b": common.Features({"internvideo2": 3200}),
    **common.VIDEOPRISM_ROWS,
}


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, features = common.parse(argument, FEATURES)
    # Four times as many videos as ActivityNet, so half the epochs.
    config = common.actions_config(size, features, epochs=10, train_videos=37_613)
    # The whole video; three times as many segments per video as in ActivityNet, so more places. 224 as in OpenTAD.
    config.data.num_frames = 224 if features else 160
    config.model.pyramid.num_levels = 5
    # 200 classes per video do not fit at once.
    config.model.text_chunk = 50
    return common.finish(config, size, "quickstart/activitynet")
