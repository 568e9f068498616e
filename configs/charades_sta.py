"""Moment retrieval on Charades-STA. Sizes: B (the reference's), L, tiny.

unloc train --config=configs/charades_sta.py:B --config.data.dir=DIR --workdir=runs/charades_sta

Start from pretrained towers with --config.init_from=CHECKPOINT. The paper: R@1 60.8 % at IoU 0.5 and 38.4 % at 0.7
(UnLoc-L).
"""

import ml_collections

from configs import common


def get_config(size: str = "B") -> ml_collections.ConfigDict:
    config = common.reference_config(size, "moment_retrieval", epochs=30, train_videos=12_408)
    common.warm_up(config, 5, of=30)
    config.data.max_segments = 1
    config.model.text.update({"max_tokens": 16, "freeze": True})
    config.model.pyramid.update({"type": "fpn", "downsampling": "max_pool"})
    # Corrected: the reference leaves the offsets' bias at 0, so ReLU distances can be dead from the start.
    config.model.head.update({"shared_levels": False, "offsets_bias": 2.0})
    config.loss = {"negatives": "batch"}
    return common.finish(config, size)
