"""Everyday actions as skeletons, unseen people: a model of features, from scratch. The argument is the task.

unloc train --config=configs/real/actions.py:temporal_action_localization --workdir=real/runs/actions

`python benchmarks/real.py DIR` makes the data (real/shards/actions) and runs all rows. The settings are those of
configs/small.py and `unloc data check`.
"""

import ml_collections

from configs import small


def get_config(task: str = "temporal_action_localization") -> ml_collections.ConfigDict:
    config = small.get_config(task)
    config.data.update(
        {"dir": "real/shards/actions", "num_frames": 128, "window_stride": 4, "max_segments": 10}
    )
    config.model.modalities = {"pose": {"encoder": "features", "feature_dim": 63}}
    if config.model.pyramid.get("type") != "none":
        config.model.pyramid.num_levels = 4
    return config
