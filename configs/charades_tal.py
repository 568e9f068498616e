"""Action localisation on Charades, 157 classes. Sizes: B, L, tiny; features: i3d, videoprism_rows (docs/features.md),
or both, such as L,i3d.

unloc train --config=configs/charades_tal.py:B --config.data.dir=DIR --workdir=runs/charades_tal

Start from pretrained towers with --config.init_from=CHECKPOINT. Neither the reference nor the paper has such a run;
sentences of the same videos: configs/charades_sta.py.
"""

import ml_collections

from configs import common

FEATURES = {"i3d": common.Features({"i3d": 1024}), **common.VIDEOPRISM_ROWS}


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, features = common.parse(argument, FEATURES)
    # The reference's 128 places are four a second here.
    config = common.actions_config(size, features, epochs=20, train_videos=7_985)
    config.model.text_chunk = 50
    config.evaluation.tiou = "0.1:0.1:0.9"
    return common.finish(config, size, "quickstart/activitynet")
