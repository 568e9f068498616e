"""Measures what the quickstart's model tells apart: `python benchmarks/quickstart_understanding.py` after
`make quickstart`.

For every pair of sentences of a test video that differ in one thing only, checks whether the first detected segment
overlaps its own event more than the other sentence's event (pairs where it overlaps neither are left out; chance is
50 %). Also prints recall by length of the event. Averages over the existing runs of `quickstart_seeds.py`.
"""

import argparse
import json
from collections import defaultdict
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np

from unloc_jax.metrics.protocols.moment_files import match_predictions, predicted_windows, read_queries
from unloc_jax.metrics.tiou import segment_iou
from unloc_jax.paths import ArgumentParser

SIZE_CHANGES = ("grow", "shrink")
LENGTHS_S = (0.0, 1.0, 2.0, 4.0, 20.0)


def what_differs(a: dict[str, str], b: dict[str, str]) -> str | None:
    """Returns the one thing in which two descriptions differ; None if they differ in several."""
    (color_a, shape_a), (color_b, shape_b) = a["object"].split(), b["object"].split()
    if a["motion"] == b["motion"]:
        return {(True, False): "colour", (False, True): "shape"}.get((color_a != color_b, shape_a != shape_b))
    if a["object"] != b["object"]:
        return None
    changes = sum(motion in SIZE_CHANGES for motion in (a["motion"], b["motion"]))
    return ("direction of movement", "moving or changing size", "growing or shrinking")[changes]


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("quickstart"))
    workdir = parser.parse_args().workdir
    captions = json.loads((workdir / "raw" / "annotations" / "captions_test.json").read_text())
    runs = [workdir / "run_moment_retrieval", *sorted(workdir.glob("seed_*"))]
    told_apart: dict[str, list[bool]] = defaultdict(list)
    lengths_s, hits = [], []
    for run in runs:
        path = run / "evaluation" / "test" / "predictions.jsonl"
        queries = read_queries(path)
        windows = predicted_windows(path, match_predictions(path, queries))
        truth = np.array([query.windows_s[0] for query in queries])
        first = np.array([found[0, :2] if len(found) else (0.0, 0.0) for found in windows])
        lengths_s += list(truth[:, 1] - truth[:, 0])
        hits += list(segment_iou(first, truth) >= 0.5)
        by_video: dict[str, list[int]] = defaultdict(list)
        for number, query in enumerate(queries):
            by_video[query.row["vid"]].append(number)
        for video_id, numbers in by_video.items():
            attributes = dict(zip(captions[video_id]["sentences"], captions[video_id]["attributes"]))
            for own, other in permutations(numbers, 2):
                difference = what_differs(*(attributes[queries[i].row["query"]] for i in (own, other)))
                overlap = segment_iou(first[own], truth[[own, other]])
                if difference and overlap.max() > 0:
                    told_apart[difference].append(bool(overlap[0] > overlap[1]))

    print(f"{len(runs)} runs\n\n{'sentences that differ only in':<34}{'right (%)':>10}{'pairs':>8}")
    for difference, right in sorted(told_apart.items(), key=lambda item: -np.mean(item[1])):
        print(f"{difference:<34}{100 * np.mean(right):>10.1f}{len(right):>8}")
    print(f"\n{'length of the event (s)':<34}{'R1@0.5 (%)':>10}{'queries':>8}")
    for low, high in pairwise(LENGTHS_S):
        inside = (np.array(lengths_s) >= low) & (np.array(lengths_s) < high)
        rate = f"{100 * np.array(hits)[inside].mean():.1f}" if inside.any() else "–"
        print(f"{f'{low:g} to {high:g}':<34}{rate:>10}{inside.sum():>8}")


if __name__ == "__main__":
    main()
