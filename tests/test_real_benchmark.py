"""The baselines of benchmarks/real.py, on features that show their classes plainly."""

import json

import numpy as np
import pytest

from benchmarks import real_baselines

CLASSES = ("jump", "nod", "wave")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Eight videos of 40 s; each class moves its own number, and nothing moves between the segments."""
    folder, rng = tmp_path_factory.mktemp("actions"), np.random.default_rng(0)
    (folder / "features").mkdir()
    database = {}
    for number in range(8):
        rows = rng.normal(0, 0.02, (400, 3)).astype(np.float32)
        annotations = []
        for place, label in enumerate(rng.permutation(3)):
            start, end = 3 + 12 * place, 8 + 12 * place
            rows[10 * start : 10 * end, label] += rng.normal(1, 1, 50)
            annotations.append({"segment": [start, end], "label": CLASSES[label]})
        subset = "training" if number < 6 else "testing"
        database[f"v{number}"] = {"duration": 40.0, "subset": subset, "annotations": annotations}
        np.save(folder / "features" / f"v{number}.npy", rows)
    (folder / "activitynet.json").write_text(json.dumps({"database": database}))
    return real_baselines.read(folder)


def test_baselines_find_what_is_plain(videos):
    found, classes = videos
    assert classes == list(CLASSES) and [video.split for video in found].count("test") == 2
    proposals, constant = real_baselines.localization(found, 3).values()
    assert proposals["mAP@0.50"] > 90 > 50 > constant["mAP@0.50"]
    linear, background = real_baselines.segmentation(found, 3).values()
    assert linear["accuracy"] > background["accuracy"] + 10
    assert background["accuracy_without_background"] == 0
