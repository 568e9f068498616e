"""Moment retrieval in films (MAD), which come as features only: clip_b32, clip_l14 (docs/features.md). Sizes: B, L,
tiny.

unloc train --config=configs/mad.py:B --config.data.dir=DIR --workdir=runs/mad

Features alone are those of B/32; both: L,clip_l14. Start from the CLIP that made them with --config.init_from. Neither
the reference nor the paper has such a run.
"""

import ml_collections

from configs import common

FEATURES = {
    "clip_b32": common.Features({"clip": 512}, 5),
    "clip_l14": common.Features({"clip": 768}, 5),
}


def get_config(argument: str = "B") -> ml_collections.ConfigDict:
    size, features = common.parse(argument, FEATURES)
    # Every second of the five rows a second, for moments of a few seconds. A film of two hours has 140 windows of 102
    # seconds, half of which the next one shows again, and each of some 600 sentences is searched for in all of them.
    config = common.windows_config(
        size,
        features or FEATURES["clip_b32"],
        "moment_retrieval",
        num_frames=256,
        per_s=2.5,
        batch_size=32,
        steps=40_000,
    )
    # 384,600 sentences in 1,200 hours: nine in a window. 32 windows × 8 sentences × 40,000 steps: 27 passes over them.
    config.data.update({"max_segments": 8, "max_queries": 8})
    config.model.text.max_tokens = 32
    config.model.pyramid.num_levels = 5
    # A film has too many sentences to be the other negatives of each other; those of the other 31 windows are.
    config.loss = {"negatives": "batch"}
    config.model.text_chunk = 32
    # Validation searches every film for all of its sentences, which takes far longer than a thousand steps.
    config.evaluation.update({"every_steps": 20_000, "batch_size": 8})
    return common.finish(config, size)
