"""The model of the ablations in docs/study.md: frozen towers of the quickstart, a new fusion. The argument is the task.

unloc train --config=configs/study.py:moment_retrieval --workdir=study/run

`make quickstart quickstart-tal` makes the data and the towers: its contrastive stage stands in for CLIP's training, and
is the same in all rows, so that they differ only in what is asked. `python benchmarks/study.py` runs configs/sweeps/study.
"""

import ml_collections

from configs import quickstart, quickstart_tal

_DATA = {"moment_retrieval": "activitynet_captions", "highlight_detection": "activitynet_captions"}


def get_config(task: str = "moment_retrieval") -> ml_collections.ConfigDict:
    of_sentences = task in _DATA
    config = (quickstart if of_sentences else quickstart_tal).get_config()
    config.task = task
    config.init_from = "quickstart/run_moment_retrieval/checkpoints/600"  # the end of its contrastive stage
    config.contrastive.steps = 0
    config.contrastive.warmup_steps = 0
    config.model.modalities = {"rgb": {"freeze": True}}
    config.model.text.freeze = True
    config.train.steps = 400
    config.evaluation.every_steps = 400
    config.checkpoint.every_steps = 400
    if task == "action_segmentation":
        config.loss = {"relevance": "sigmoid", "relevance_weight": 1.0}
    return config
