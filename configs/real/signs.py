"""Sign language from a camera, unseen people, from pixels and from scratch. The argument is the task.

unloc train --config=configs/real/signs.py:temporal_action_localization --workdir=real/runs/signs

`python benchmarks/real.py DIR` makes the data (real/shards) and runs all rows. The settings are those of
configs/small.py and `unloc data check`; signs are made with either hand, so videos may be mirrored.
"""

import ml_collections

from configs import small


def get_config(task: str = "temporal_action_localization") -> ml_collections.ConfigDict:
    config = small.get_config(task)
    config.data.update(
        {
            "dir": "real/shards/signs_moments" if task == "moment_retrieval" else "real/shards/signs",
            "num_frames": 64,
            "window_stride": 2,
            "max_segments": 9,
            "max_queries": 8,
            "mirror": True,
        }
    )
    config.model.pyramid.num_levels = 2
    config.train.steps = 2300
    return config
