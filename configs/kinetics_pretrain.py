"""Pretraining of towers and fusion on trimmed videos of Kinetics, before any localisation. Arguments: size (B, L,
tiny), classes (400 or 700) and form (cls: class names as texts; contrastive: each video against the batch's texts).

unloc train --config=configs/kinetics_pretrain.py:B,700,cls --config.data.dir=DIR --workdir=runs/kinetics_pretrain

Start from CLIP's towers with --config.init_from=CHECKPOINT; fine-tune with --config.init_from=runs/kinetics_pretrain.
The reference has no such config (section 4.1 of its paper pretrains this way); steps and rates are ours.
"""

import ml_collections

from configs import common

TASKS = {"cls": "classification", "contrastive": "video_text_contrastive"}
_TRAIN_VIDEOS = {"400": 240_000, "700": 530_000}


def get_config(argument: str = "B,700,cls") -> ml_collections.ConfigDict:
    size, classes, form = (argument.split(",") + ["700", "cls"][argument.count(",") :])[:3]
    if classes not in _TRAIN_VIDEOS or form not in TASKS:
        raise ValueError(f"the argument is SIZE,CLASSES,FORM such as B,400,contrastive; got {argument!r}")
    config = common.reference_config(size, TASKS[form], epochs=10, train_videos=_TRAIN_VIDEOS[classes])
    config.data.update({"num_frames": 16, "max_segments": 1})
    config.data.prompts = ("{}", "a video of {}.", "a video of a person {}.", "a person doing {}.")
    config.model.text.max_tokens = 16
    # Fine-tuning then loads these parameters: the encoder of ViTDet-like pyramids is a plain transformer.
    config.model.pyramid.type = "simple"
    config.model.text_chunk = 0 if size == "tiny" or form == "contrastive" else 50
    config.loss = {"label_smoothing": 0.1}
    config.train.schedule = "cosine"
    config.train.learning_rates = {"fusion": 0.1, "video_head": 0.1}
    common.warm_up(config, 0.5, of=10)
    return common.finish(config, size, "quickstart/activitynet")
