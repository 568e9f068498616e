"""Action localisation on the synthetic videos: the quickstart's model, with kinds of events as classes.

unloc train --config=configs/quickstart_tal.py --workdir=quickstart/run_temporal_action_localization
"""

import ml_collections

from configs import quickstart


def get_config() -> ml_collections.ConfigDict:
    config = quickstart.get_config()
    config.task = "temporal_action_localization"
    config.data.dir = "quickstart/activitynet"
    config.data.max_segments = 6
    config.model.head.relevance_bias = -3.0  # most (video, class) pairs are negative
    return config
