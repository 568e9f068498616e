"""Signs that are seen while sounds are heard, and sentences about either or both. Arguments: picture, sound, both.

unloc train --config=configs/real/seen_and_heard.py:both --workdir=seen_and_heard/both

`python benchmarks/seen_and_heard.py DIR` makes the data (seen_and_heard/shards) and runs all three.
"""

import ml_collections

from configs import sound
from configs.real import signs

MODELS = ("picture", "sound", "both")


def get_config(model: str = "both") -> ml_collections.ConfigDict:
    if model not in MODELS:
        raise ValueError(f"the argument is one of {', '.join(MODELS)}; got {model!r}")
    config = signs.get_config("moment_retrieval")
    config.data.update({"dir": "seen_and_heard/shards", "max_segments": 24, "max_queries": 12})
    config.model.text.max_tokens = 24
    # Places are 0.29 s apart, and each hears twice that.
    config.model.audio = {"window_s": 0.6, **sound.TOWER}
    config.data.augmentation.audio = sound.AUGMENTATION
    config.model.modalities = {}
    if model != "sound":
        config.model.modalities.rgb = {"encoder": "clip"}
    if model != "picture":
        config.model.modalities.audio = {"encoder": "audio"}
    config.optimizer.name = "muon"
    config.train.update({"steps": 400, "learning_rate": 2e-3})
    return config
