"""Times suppression of overlapping segments against the reference's way: `python benchmarks/nms.py [--videos 1000]`.

39,000 candidates per video (200 classes × 195 points) with random segments and scores, 100 detections, sigma 0.3, once
for all classes together and once per class. Compares with TensorFlow's op, called for one video (and class) after the
other as in the reference and timed on some of the videos. Without TensorFlow only ours is timed.
"""

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from unloc_jax.config import EvaluationConfig
from unloc_jax.localization.nms import suppress
from unloc_jax.paths import ArgumentParser

CLASSES, POINTS, BATCH, ROUNDS = 200, 195, 8, 3
SETTINGS = EvaluationConfig().suppression(100)
SHAPES = {"all classes together": (1, CLASSES * POINTS), "per class": (CLASSES, POINTS)}
nms = jax.jit(suppress, static_argnums=2)


def problem(seed: int, videos: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    middle = rng.uniform(0, 120, (videos, CLASSES, POINTS))
    half = np.exp(rng.uniform(np.log(0.3), np.log(30), middle.shape))
    segments = np.stack([middle - half, middle + half], axis=-1).astype(np.float32)
    return segments, rng.uniform(0, 1, middle.shape).astype(np.float32) ** 4


def ours_ms(segments: np.ndarray, scores: np.ndarray, videos: int) -> float:
    """Returns the milliseconds per video of suppressing one batch of `problem` repeatedly.

    Args:
      segments: float32 [videos, groups, points, 2].
      scores: float32 [videos, groups, points].
      videos: number of videos to time, at least.
    """
    segments, scores = jax.device_put((segments, scores))

    def run() -> int:
        for _ in range(-(-videos // BATCH)):
            jax.block_until_ready(nms(segments, scores, SETTINGS))
        return -(-videos // BATCH) * BATCH

    return ms_per_video(run)


def tensorflow_one(segments: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow as tf

    zeros, ones = np.zeros(len(scores), np.float32), np.ones(len(scores), np.float32)
    boxes = np.stack([zeros, segments[:, 0], ones, segments[:, 1]], axis=1)
    index, kept = tf.image.non_max_suppression_with_scores(
        boxes, scores, SETTINGS.max_detections, 0.5, SETTINGS.score_threshold, SETTINGS.sigma
    )
    return index.numpy(), kept.numpy()


def ms_per_video(run: Callable[[], int]) -> float:
    run()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        videos = run()
        times.append(1000 * (time.perf_counter() - began) / videos)
    return statistics.median(times)


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1000)
    videos = parser.parse_args().videos
    segments, scores = problem(0, BATCH)
    peer = importlib.util.find_spec("tensorflow") is not None
    print(
        f"{len(os.sched_getaffinity(0))} cores, {jax.devices()[0].device_kind}; ms per video, medians of {ROUNDS} runs"
    )
    print(f"{'':<24}{'TensorFlow op':>15}{'this one':>12}{'ratio':>8}")
    for name, (groups, points) in SHAPES.items():
        s, p = segments.reshape(BATCH, groups, points, 2), scores.reshape(BATCH, groups, points)
        ours = ours_ms(s, p, videos)
        if not peer:
            print(f"{name:<24}{'–':>15}{ours:>12.2f}{'–':>8}")
            continue

        def theirs(s=s, p=p, groups=groups) -> int:
            for video in range(4):
                for group in range(groups):
                    tensorflow_one(s[video, group], p[video, group])
            return 4

        index, kept = tensorflow_one(s[0, 0], p[0, 0])
        _, found, found_index = jax.device_get(nms(s[:1], p[:1], SETTINGS))
        np.testing.assert_array_equal(found_index[0, 0, : len(index)], index)
        np.testing.assert_allclose(found[0, 0, : len(kept)], kept, rtol=1e-4)
        theirs_ms = ms_per_video(theirs)
        print(f"{name:<24}{theirs_ms:>15.1f}{ours:>12.2f}{theirs_ms / ours:>8.1f}")


if __name__ == "__main__":
    main()
