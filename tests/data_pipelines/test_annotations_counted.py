"""The parsers' counts in files of official layouts, against counts made here from the files alone.

The files are tests/goldens/official: of our own, so that they are there on every machine. The real ones are counted in
test_annotations_real.py, where they lie beside the repository.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.annotations import parse

OFFICIAL = Path(__file__).parents[1] / "goldens" / "official"


@pytest.mark.parametrize("layout", ["official", "bmn"])
def test_activitynet(layout, tmp_path):
    content = json.loads((OFFICIAL / "actions_truth.json").read_text())["database"]
    path = tmp_path / "truth.json"
    if layout == "bmn":
        for video in content.values():
            video["duration_second"] = video.pop("duration")
    path.write_text(json.dumps({"database": content} if layout == "official" else content))
    parsed = parse("activitynet", [path])
    rows = [
        (video, *row["segment"], row["label"]) for video, of in content.items() for row in of["annotations"]
    ]
    empty = sum(start == end for _, start, end, _ in rows)
    without = sum(not of["annotations"] for of in content.values())
    assert empty and without
    assert (parsed.num_videos, parsed.num_segments) == (len(content), len(rows))
    assert parsed.classes == sorted({label for *_, label in rows})
    assert sum(len(record.texts) for record in parsed.records) == len(rows) - empty
    assert dict(parsed.problems.counts) == {"zero length": empty, "video without usable segments": without}
    in_split = {
        name: sum(of["subset"] == name for of in content.values()) for name in ("training", "validation")
    }
    assert {split: n for split, (n, _) in parsed.num_in_split.items()} == {
        "train": in_split["training"],
        "validation": in_split["validation"],
    }


def test_qvhighlights(tmp_path):
    path = shutil.copy(OFFICIAL / "moments_truth.jsonl", tmp_path / "val.jsonl")
    parsed = parse("qvhighlights", [Path(path)])
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert parsed.num_videos == len({line["vid"] for line in lines})
    assert parsed.num_segments == sum(len(line["relevant_windows"]) for line in lines)
    records = {record.video_id: record for record in parsed.records}
    for line in lines:
        # mk_gt_scores of the official evaluation
        expected = np.zeros((int(line["duration"] / 2), 3))
        expected[np.array(line["relevant_clip_ids"])] = line["saliency_scores"]
        np.testing.assert_array_equal(records[line["vid"]].saliency[line["query"]], expected)


def test_didemo(tmp_path):
    path = shutil.copy(OFFICIAL / "didemo_truth.json", tmp_path / "test.json")
    parsed = parse("didemo", [Path(path)])
    entries = json.loads(Path(path).read_text())
    assert parsed.num_segments == sum(len(entry["times"]) for entry in entries) == 4 * len(entries)
    for record, entry in zip(parsed.records, entries, strict=True):
        different = sorted({(5.0 * first, 5.0 * last + 5.0) for first, last in entry["times"]})
        assert sorted(map(tuple, record.segments_s.tolist())) == different
        assert record.duration_s == 30


def test_tvsum(tmp_path):
    path = shutil.copy(OFFICIAL / "tvsum_truth.jsonl", tmp_path / "val.jsonl")
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    Path(path).write_text(
        "".join(
            json.dumps(line | {"query": "q", "duration": 2 * len(line["label"])}) + "\n" for line in lines
        )
    )
    for record, line in zip(parse("tvsum", [Path(path)]).records, lines, strict=True):
        (scores,) = record.saliency.values()
        np.testing.assert_array_equal(scores, line["label"])
