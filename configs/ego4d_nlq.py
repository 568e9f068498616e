"""Moment retrieval on Ego4D's Natural Language Queries. Sizes: B, L, tiny; features: slowfast, omnivore,
egovlp_internvideo, videoprism_rows (docs/features.md), or both, such as L,omnivore.

unloc train --config=configs/ego4d_nlq.py:B --config.data.dir=DIR --workdir=runs/ego4d_nlq

Start from pretrained towers with --config.init_from=CHECKPOINT. Neither the reference nor the paper has such a run.
"""

import ml_collections

from configs import common

FEATURES = {
    "slowfast": common.Features({"slowfast": 2304}, 30 / 16),
    "omnivore": common.Features({"omnivore": 1536}, 30 / 16),
    "egovlp_internvideo": common.Features({"egovlp_internvideo": 2304}, 30 / 16),
    **common.VIDEOPRISM_ROWS,
}


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, features = common.parse(argument, FEATURES)
    # A window of rows has nine minutes, of frames four: most clips have eight, the longest twenty. Answers
    # last seconds. 16 windows × 4 queries × 5,000 steps: each of the 11,300 queries is trained 28 times.
    config = common.windows_config(
        size,
        features,
        "moment_retrieval",
        num_frames=1024 if features else 512,
        per_s=1.875,
        batch_size=16,
        steps=5_000,
    )
    config.data.update({"max_segments": 8, "max_queries": 4})
    config.model.text.max_tokens = 24
    config.model.pyramid.num_levels = 7
    # Queries of the same clip are few and alike; those of the other 15 windows are negatives too.
    config.loss = {"negatives": "batch"}
    # 16 windows × 4 of the batch's 64 queries: attention over 1,025 places takes 2 GB for them.
    config.model.text_chunk = 4
    return common.finish(config, size)
