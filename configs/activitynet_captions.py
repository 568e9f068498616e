"""Moment retrieval on ActivityNet Captions. Sizes: B, L, tiny.

unloc train --config=configs/activitynet_captions.py:B --config.data.dir=DIR --workdir=runs/activitynet_captions

Start from pretrained towers with --config.init_from=CHECKPOINT. The paper: R@1 48.0 % at IoU 0.5 and 29.7 % at 0.7
(UnLoc-B), 48.3 % and 30.2 % (UnLoc-L).
"""

import ml_collections

from configs import common


def get_config(size: str = "B") -> ml_collections.ConfigDict:
    epochs = 40 if size == "L" else 20
    config = common.reference_config(size, "moment_retrieval", epochs=epochs, train_videos=9_941)
    config.data.max_segments = 1
    config.loss = {"negatives": "batch"}
    if size == "L":
        common.warm_up(config, 5, of=epochs)
        common.decay_once(config, 35, of=epochs)
        config.model.image.pooling = "mean"
        config.model.text.update({"max_tokens": 16, "freeze": True})
        config.model.pyramid.update({"type": "fpn", "downsampling": "max_pool"})
        config.model.head.num_conv_layers = 4
    else:
        common.warm_up(config, 2.5, of=epochs)
        # Corrected: the reference decays at epoch 25 of 20, which is never.
        common.decay_once(config, 18, of=epochs)
        common.freeze_video(config)
        config.model.head.shared_levels = False
    return common.finish(config, size)
