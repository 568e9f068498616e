"""The baselines of benchmarks/real.py, on features that show their classes plainly."""

import json

import numpy as np
import pytest

from benchmarks import real_baselines, seen_and_heard

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


def test_sentences_about_both_last_while_both_do():
    signs = [
        {"query": "she waves", "relevant_windows": [[1.0, 3.0], [6.0, 9.0]]},
        {"query": "she nods", "relevant_windows": [[4.0, 5.0]]},
    ]
    sounds = [
        {"query": "a dog barks", "relevant_windows": [[7.0, 12.5]]},  # the video begins at 5 s: 2 to 7.5 s
        {"query": "the sound of a bell", "relevant_windows": [[0.0, 5.3]]},  # 0.3 s of it: too short
        {"query": "the sound of a car", "relevant_windows": [[10.0, 20.0]]},  # 5 to 10 s
    ]
    lines = seen_and_heard.queries_of("v", 10.0, signs, sounds, 5.0)
    found = {line["query"]: (line["kind"], line["relevant_windows"]) for line in lines}
    assert found == {
        "she waves": ("seen", [[1.0, 3.0], [6.0, 9.0]]),
        "she nods": ("seen", [[4.0, 5.0]]),
        "a dog barks": ("heard", [[2.0, 7.5]]),
        "the sound of a car": ("heard", [[5.0, 10.0]]),
        "she waves while a dog barks": ("both", [[2.0, 3.0], [6.0, 7.5]]),
        "she nods while a dog barks": ("both", [[4.0, 5.0]]),
        "she waves while the sound of a car is heard": ("both", [[6.0, 9.0]]),
    }
