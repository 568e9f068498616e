"""Action localisation on FineAction. Sizes: B, L, tiny; features: videomae_h, videoprism_rows (docs/features.md), or
both, such as L,videomae_h.

unloc train --config=configs/fineaction.py:B --config.data.dir=DIR --workdir=runs/fineaction

Start from pretrained towers with --config.init_from=CHECKPOINT. Neither the reference nor the paper has such a run.
"""

import ml_collections

from configs import common

FEATURES = {"videomae_h": common.Features({"videomae": 1280}), **common.VIDEOPRISM_ROWS}


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, features = common.parse(argument, FEATURES)
    # As of ActivityNet; 17,000 videos are those of all splits.
    config = common.actions_config(size, features, epochs=20, train_videos=17_000)
    # The whole video, as in OpenTAD. Where many actions last a second or two, windows find more:
    # --config.data.sampling=window.
    config.data.update({"num_frames": 192, "max_segments": 64})
    config.model.pyramid.num_levels = 5
    config.model.text_chunk = 50
    return common.finish(config, size, "quickstart/activitynet")
