"""A small model from scratch that hears: sounds or spoken words in any recording, on two CPU cores or any GPU.

unloc train --config=configs/sound.py:temporal_action_localization --config.data.dir=DIR --workdir=runs/sound

The argument is the task; after a comma, `rgb` adds the picture: `:moment_retrieval,rgb`. The data are built with
`unloc data build --audio` (docs/sound.md). The recipe is that of configs/small.py, with Muon.
"""

import ml_collections

from configs import small

TOWER = {
    "subtract_mean": True,
    "width": 96,
    "num_layers": 2,
    "num_heads": 4,
    "mlp_dim": 384,
    "dropout": 0.1,
}
AUGMENTATION = {"gain_db": 6.0, "frequency_masks": 2, "frequency_mask_mels": 8}


def get_config(argument: str = "temporal_action_localization") -> ml_collections.ConfigDict:
    task, _, picture = argument.partition(",")
    if picture not in ("", "rgb"):
        raise ValueError(f"the argument is a task, or a task and rgb, such as :{task},rgb; got {argument!r}")
    config = small.get_config(task)
    config.model.modalities = {"audio": {"encoder": "audio"}}
    # Places are 0.2 s apart (of 10 stored per second), and each hears twice that.
    config.model.audio = {"window_s": 0.4, **TOWER}
    config.optimizer.name = "muon"  # a third of AdamW's steps
    config.train.update({"steps": 1000, "learning_rate": 2e-3})
    of_frames = config.data.augmentation.to_dict() if picture else {}
    config.data.augmentation = {**of_frames, "audio": AUGMENTATION}
    if picture:
        config.model.modalities.rgb = {"encoder": "clip"}
    else:
        del config.model.image
    return config
