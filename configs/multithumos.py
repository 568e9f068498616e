"""Action localisation on MultiTHUMOS: the videos of THUMOS14, 65 classes, several at a time. Sizes: B, L, tiny;
features: i3d, internvideo2_6b, videoprism_rows (docs/features.md), or both, such as L,i3d.

unloc train --config=configs/multithumos.py:B --config.data.dir=DIR --workdir=runs/multithumos

Start from pretrained towers with --config.init_from=CHECKPOINT. Neither the reference nor the paper has such a run.
"""

import ml_collections

from configs import common, thumos14


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, features = common.parse(argument, thumos14.FEATURES)
    # Actions of a second or two, one after the other: as many places a second as rows, in windows of about two minutes.
    config = thumos14.in_windows(size, features, num_frames=1024 if features else 512)
    config.data.max_segments = 256
    # 8 windows × 8 of the classes: attention over 1,025 places takes 2 GB for them.
    config.model.text_chunk = 8
    config.evaluation.max_detections = 200
    config.evaluation.tiou = "0.1:0.1:0.9"
    return common.finish(config, size, "quickstart/activitynet")
