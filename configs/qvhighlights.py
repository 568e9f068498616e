"""Highlight detection and moment retrieval on QVHighlights. Sizes: B, L, tiny; features: slowfast_clip,
videoprism_rows (docs/features.md), or both, such as L,slowfast_clip.

unloc train --config=configs/qvhighlights.py:B --config.data.dir=DIR --workdir=runs/qvhighlights

Start from pretrained towers with --config.init_from=CHECKPOINT.
"""

import ml_collections

from configs import common
from configs.common import INFINITY

FEATURES = {
    "slowfast_clip": common.Features({"slowfast": 2304, "clip": 512}, 1 / 2),
    **common.VIDEOPRISM_ROWS,
}


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, features = common.parse(argument, FEATURES)
    config = common.reference_config(size, "highlight_detection", epochs=30, train_videos=5_849)
    common.warm_up(config, 2.5, of=30)
    config.train.schedule = "cosine"
    config.data.update({"num_frames": 144, "max_segments": 12})
    if features:
        common.read_features(config, features)
        # A place for each of the 75 rows, and for each clip of two seconds that is scored.
        config.data.num_frames = 75
        config.model.pyramid.ranges_from_data = True
    elif size == "L":
        common.freeze_video(config)
        config.model.pyramid.regression_ranges = ((0, 6), (6, 12), (12, 24), (24, INFINITY))
    else:
        config.model.pyramid.regression_ranges = ((0, 6), (6, 18), (18, 32), (32, INFINITY))
    return common.finish(config, size)
