"""Action localisation on ActivityNet 1.3. Sizes: B, L, tiny; a zero-shot split after a comma: `:B,50/50`, `:B,75/25`.

unloc train --config=configs/activitynet_tal.py:B --config.data.dir=DIR --workdir=runs/activitynet_tal

Start from pretrained towers with --config.init_from=CHECKPOINT. The paper: mAP 59.3 % at tIoU 0.5 (UnLoc-L);
zero-shot 36.9 % and 40.2 % with half and three quarters of the classes seen (UnLoc-B), 43.2 % and 47.4 % (UnLoc-L).
Zero-shot numbers are means over splits: change --config.data.class_split_seed.
"""

import ml_collections

from configs import common


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, _, split = argument.partition(",")
    epochs = 30 if size == "L" else 20
    config = common.reference_config(size, "temporal_action_localization", epochs=epochs, train_videos=9_941)
    config.data.class_split = split or "all"
    config.data.prompts = ("{}", "a video of {}.", "a person doing {}.", "a video of the activity {}.")
    config.model.text.update({"max_tokens": 16, "freeze": True})
    # Most (video, class) pairs are negative.
    config.model.head.update({"num_conv_layers": 4, "relevance_bias": -5.0})
    # 200 classes per video do not fit at once.
    config.model.text_chunk = 0 if size == "tiny" else 50
    if size == "L":
        config.data.num_frames = 160
        config.model.pyramid.num_levels = 5
        config.model.image.pooling = "mean"
        common.warm_up(config, 5, of=epochs)
        # Corrected: the reference decays at epoch 35 of 30, which is never.
        common.decay_once(config, 27, of=epochs)
        config.train.learning_rates = {}
    else:
        common.warm_up(config, 2.5, of=epochs)
        common.decay_once(config, 18, of=epochs)
    return common.finish(config, size, "quickstart/activitynet")
