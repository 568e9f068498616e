"""The real annotation files: what is in them, counted independently of the parsers, or as published."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.annotations import parse

_REAL = Path(__file__).parents[3] / "shared" / "annotations"
pytestmark = pytest.mark.skipif(not _REAL.is_dir(), reason="the real annotation files are not here")

# files → videos, segments, problems
_COUNTS = {
    ("activitynet", "activitynet13_bmn_anno_action.json"): (
        19228,
        22152,
        {
            "unknown subset": 14377,
            "video without usable segments": 4861,
            "duplicate segment": 45,
            "zero length": 12,
            "segment past the end": 5,
        },
    ),
    ("activitynet_captions", "activitynet_captions_val.json"): (4917, 17505, {}),
    ("charades_sta", "charades_sta_train.txt", "charades_v1_train.csv"): (
        5338,
        12408,
        {"segment past the end": 1790, "start >= end": 4, "video without usable segments": 2},
    ),
    ("charades_sta", "charades_sta_test.txt", "charades_v1_test.csv"): (
        1334,
        3720,
        {"segment past the end": 552},
    ),
    ("coin", "coin_test_from_ssn_list.json", "coin_taxonomy.json"): (2797, 10893, {}),
    ("qvhighlights", "qvhighlights_val_release.jsonl"): (1519, 2803, {}),
    ("tacos", "tacos_test.json"): (25, 4001, {"duplicate segment": 572, "segment past the end": 5}),
    ("thumos14", "thumos14_actionformer.json"): (412, 6365, {"segment past the end": 30}),
    ("tvsum", "tvsum_val.jsonl"): (10, 0, {"duration counts clips": 10}),
    ("youcook2", "youcook2_captions_val.json"): (457, 3492, {}),
}


def _parse(dataset: str, *names: str):
    return parse(dataset, [_REAL / name for name in names])


@pytest.mark.parametrize("case", _COUNTS, ids=lambda case: "-".join(case[:2]))
def test_counts(case):
    parsed = _parse(*case)
    videos, segments, problems = _COUNTS[case]
    assert (parsed.num_videos, parsed.num_segments) == (videos, segments)
    assert dict(parsed.problems.counts) == problems


def test_thumos14_sets():
    parsed = _parse("thumos14", "thumos14_actionformer.json")
    assert parsed.num_in_split == {"train": [200, 3007], "test": [212, 3358]}
    assert len(parsed.classes) == 20
    assert {record.video_id.split("_")[1] for record in parsed.records if record.split == "test"} == {"test"}


def test_coin_has_778_steps():
    parsed = _parse("coin", "coin_test_from_ssn_list.json", "coin_taxonomy.json")
    assert len(parsed.classes) == 778
    taxonomy = json.loads((_REAL / "coin_taxonomy.json").read_text())
    assert len({step["label"] for step in taxonomy}) == 749  # which is why shared labels need their task
    # The test set shows every step, so that it tells the same names without the taxonomy.
    assert _parse("coin", "coin_test_from_ssn_list.json").classes == parsed.classes


def test_charades_lengths_and_splits():
    files = [
        f"{kind}_{split}.{end}"
        for kind, end in (("charades_sta", "txt"), ("charades_v1", "csv"))
        for split in ("train", "test")
    ]
    parsed = _parse("charades_sta", *files)
    assert parsed.num_in_split == {"train": [5338, 12408], "test": [1334, 3720]}
    assert all(record.duration_s > 0 for record in parsed.records)
    assert all((record.segments_s[:, 1] <= np.float32(record.duration_s)).all() for record in parsed.records)
    assert parsed.problems.examples["start >= end"][0].where == "charades_sta_train.txt:8252"


def test_qvhighlights_saliency():
    parsed = _parse("qvhighlights", "qvhighlights_val_release.jsonl")
    lines = [json.loads(line) for line in (_REAL / "qvhighlights_val_release.jsonl").read_text().splitlines()]
    records = {record.video_id: record for record in parsed.records}
    assert sum(len(record.saliency) for record in parsed.records) == len(lines) == 1550
    for line in lines:
        record = records[line["vid"]]
        scores = record.saliency[" ".join(line["query"].split())]
        # mk_gt_scores of the official evaluation
        expected = np.zeros((int(line["duration"] / 2), 3))
        expected[np.array(line["relevant_clip_ids"])] = line["saliency_scores"]
        np.testing.assert_array_equal(scores, expected)
        windows = [
            window
            for window, attributes in zip(record.segments_s.tolist(), record.attributes)
            if attributes["qid"] == str(line["qid"])
        ]
        assert windows == line["relevant_windows"]


def test_tvsum_scores():
    for record in _parse("tvsum", "tvsum_val.jsonl").records:
        (scores,) = record.saliency.values()
        assert scores.shape == (record.duration_s / 2, 20)
        assert set(np.unique(scores)) <= {1, 2, 3, 4, 5}


def test_tacos_frames_are_seconds():
    (record, *_) = _parse("tacos", "tacos_test.json").records
    assert record.video_id == "s30-d52"
    assert record.texts[0] == "She took out kiwi"
    np.testing.assert_allclose(record.segments_s[0], [141 / 29.4, 354 / 29.4], rtol=1e-6)
    assert record.duration_s == pytest.approx(7346 / 29.4)
