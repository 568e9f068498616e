"""Pretraining of the quickstart's model on synthetic trimmed clips, as kinetics_pretrain.py does it on Kinetics.

unloc train --config=configs/quickstart_pretrain.py --workdir=quickstart/run_pretrain

The argument is the form: contrastive (the default: each clip against the batch's sentences) or cls (class names as
texts; its dataset is quickstart/trimmed_classes). See docs/pretraining.md for how to make the clips and what it gains.
"""

import ml_collections

from configs import kinetics_pretrain, quickstart

_DATA = {"contrastive": "quickstart/trimmed_captions", "cls": "quickstart/trimmed_classes"}


def get_config(form: str = "contrastive") -> ml_collections.ConfigDict:
    if form not in _DATA:
        raise ValueError(f"the argument is one of {', '.join(_DATA)}; got {form!r}")
    config = quickstart.get_config()
    config.task = kinetics_pretrain.TASKS[form]
    config.batch_size = 32
    # A clip of 2 to 6 seconds in 8 frames: about as far apart as in the quickstart's videos.
    config.data.update({"dir": _DATA[form], "num_frames": 8, "max_segments": 1, "max_queries": 1})
    # The contrastive stage replaces CLIP, which pretraining on Kinetics starts from; here it sees the clips too.
    config.contrastive.steps = 400
    config.train.steps = 300
    return config
