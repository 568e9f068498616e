"""Sign language from a camera, unseen people, from pixels and from scratch. The argument is the task.

unloc train --config=configs/real/signs.py:temporal_action_localization --workdir=real/runs/signs

`python benchmarks/real.py DIR` makes the data (real/shards) and runs all rows. The settings are those of
configs/small.py and `unloc data check`; signs are made with either hand, so videos may be mirrored.
"""

import ml_collections

from configs import small

TASKS = {
    "retrieval": ("moment_retrieval", "signs_moments"),
    "highlights": ("highlight_detection", "signs_moments"),
    "localization": ("temporal_action_localization", "signs"),
    "segmentation": ("action_segmentation", "signs"),
}


def get_config(task: str = "temporal_action_localization") -> ml_collections.ConfigDict:
    if task == "four_tasks":
        return _four_tasks()
    if task == "pretraining":
        return _pretraining()
    config = small.get_config(task)
    config.data.update(
        {
            "dir": f"real/shards/{dict(TASKS.values())[task]}",
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


def _four_tasks() -> ml_collections.ConfigDict:
    """One run and one checkpoint for all of `TASKS`; each step sees a batch of one of them."""
    config = get_config("temporal_action_localization")
    single = {name: get_config(task) for name, (task, _) in TASKS.items()}
    config.tasks = {
        name: {"task": of.task, "batch_size": of.batch_size, "data": of.data, "loss": of.get("loss", {})}
        for name, of in single.items()
    }
    config.evaluation.every_steps = 2300  # of four tasks, it takes minutes
    return config


def _pretraining() -> ml_collections.ConfigDict:
    """Towers and fusion learn from trimmed clips, one sign each; then --config.init_from=WORKDIR."""
    config = small.get_config("classification")
    config.data.update(
        {"dir": "real/shards/signs_clips", "num_frames": 16, "max_segments": 1, "mirror": True}
    )
    config.data.sampling = "linspace"
    config.model.pyramid = {"num_levels": 2}
    config.batch_size = 32
    config.loss = {"label_smoothing": 0.1}
    config.train.steps = 600
    return config
