"""Recorded sounds at known times, over rain, sea or fire: a model that hears, from scratch. The argument is the task.

unloc train --config=configs/real/sounds.py:temporal_action_localization --workdir=real/runs/sounds

`python benchmarks/real.py DIR` makes the data (real/shards) and runs all rows. The settings are those of
configs/sound.py and `unloc data check --audio`.
"""

import ml_collections

from configs import sound


def get_config(task: str = "temporal_action_localization") -> ml_collections.ConfigDict:
    config = sound.get_config(task)
    of_sentences = task == "moment_retrieval"
    config.data.update(
        {
            "dir": "real/shards/sounds_moments" if of_sentences else "real/shards/sounds",
            "num_frames": 128,
            "window_stride": 2,
            "max_segments": 5,
            "max_queries": 5,
        }
    )
    config.model.audio.window_s = 0.5
    config.model.pyramid.num_levels = 3
    config.train.steps = 1050
    return config
