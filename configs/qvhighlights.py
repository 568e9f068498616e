"""Highlight detection and moment retrieval on QVHighlights. Sizes: B, L, tiny.

unloc train --config=configs/qvhighlights.py:B --config.data.dir=DIR --workdir=runs/qvhighlights

Start from pretrained towers with --config.init_from=CHECKPOINT.
"""

import ml_collections

from configs import common
from configs.common import INFINITY


def get_config(size: str = "B") -> ml_collections.ConfigDict:
    config = common.reference_config(size, "highlight_detection", epochs=30, train_videos=5_849)
    common.warm_up(config, 2.5, of=30)
    config.train.schedule = "cosine"
    config.data.update({"num_frames": 144, "max_segments": 12})
    if size == "L":
        common.freeze_video(config)
        config.model.pyramid.regression_ranges = ((0, 6), (6, 12), (12, 24), (24, INFINITY))
    else:
        config.model.pyramid.regression_ranges = ((0, 6), (6, 18), (18, 32), (32, INFINITY))
    return common.finish(config, size)
