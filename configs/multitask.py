"""One model for three tasks: moment retrieval (ActivityNet Captions), action localisation and action segmentation
(ActivityNet). Sizes: B, L, tiny. Mixing: alternate (each step sees one task's batch; default) or all.

unloc train --config=configs/multitask.py:B --workdir=runs/multitask --config.tasks.retrieval.data.dir=DIR \\
    --config.tasks.localization.data.dir=DIR2 --config.tasks.segmentation.data.dir=DIR2
unloc evaluate --checkpoint=runs/multitask --task=retrieval

Start from pretrained towers with --config.init_from=CHECKPOINT. Neither the reference nor the paper has such a run.
"""

import ml_collections

from configs import activitynet_captions, activitynet_tal, common


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, _, mixing = argument.partition(",")
    retrieval = activitynet_captions.get_config(size)
    localization = activitynet_tal.get_config(size)
    config = common.finish(
        common.reference_config(size, "moment_retrieval", epochs=40, train_videos=9_941), size
    )
    config.task_mixing = mixing or "alternate"
    config.model.text.update({"max_tokens": 16, "freeze": True})
    config.model.head.relevance_bias = -3.0
    config.model.text_chunk = localization.model.text_chunk
    if size != "tiny":
        common.warm_up(config, 2.5, of=40)
        common.decay_once(config, 36, of=40)
    of_localization = {"data": localization.data.to_dict() | {"num_frames": config.data.num_frames}}
    config.tasks = {
        "retrieval": {"weight": 2.0, "data": retrieval.data, "loss": retrieval.loss},
        "localization": {"task": "temporal_action_localization", "weight": 1.0, **of_localization},
        "segmentation": {
            "task": "action_segmentation",
            "weight": 1.0,
            "loss": {"relevance_weight": 1.0, "relevance": "sigmoid"},
            **of_localization,
        },
    }
    return config
