"""Parsers: hand-made files with every fault, and the real files."""

import collections
import json
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.annotations import parse
from unloc_jax.errors import UserError

_REAL = Path(__file__).parents[3] / "shared" / "annotations"
_needs_real = pytest.mark.skipif(not _REAL.is_dir(), reason="the real annotation files are not here")


def _captions(folder: Path, content, name: str = "train.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def _video(segments, sentences=None, duration=10.0, **more) -> dict:
    sentences = [f"text {i}" for i in range(len(segments))] if sentences is None else sentences
    return {"duration": duration, "timestamps": segments, "sentences": sentences, **more}


def _problems(folder: Path, content) -> dict[str, int]:
    return dict(parse("activitynet_captions", [_captions(folder, content)]).problems.counts)


def test_captions_become_records(tmp_path):
    train = _captions(tmp_path, {"v_a": _video([[0, 2.5], [1, 9]], ["  A man\n runs. ", "He stops."])})
    val = _captions(
        tmp_path,
        {"v_b": _video([[3, 4]], ["Ein Hund läuft."], attributes=[{"object": "dog"}])},
        "val_1.json",
    )
    parsed = parse("activitynet_captions", [train, val])
    first, second = parsed.records
    assert (first.video_id, first.split, first.duration_s) == ("v_a", "train", 10.0)
    assert first.segments_s.dtype == np.float32
    np.testing.assert_array_equal(first.segments_s, [[0, 2.5], [1, 9]])
    assert first.texts == ["A man runs.", "He stops."]
    assert first.attributes == [{}, {}]
    assert (second.split, second.texts, second.attributes) == (
        "validation",
        ["Ein Hund läuft."],
        [{"object": "dog"}],
    )
    assert parsed.classes is None
    assert (parsed.num_videos, parsed.num_segments) == (2, 3)
    assert not parsed.problems.counts


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.json", "train"),
        ("captions_val.json", "validation"),
        ("Val_1.json", "validation"),
        ("test.json", "test"),
        ("captions-train2.json", "train"),
        ("val1.json", "validation"),
        ("captionsVal.json", "validation"),
        ("ANetTESTCaptions.json", "test"),
        ("VALIDATION.json", "validation"),
        ("moment_retrieval_test.json", "test"),
        ("eval_test.json", "test"),
        ("interval_test.json", "test"),
        ("constraints_val.json", "validation"),
        ("train_training.json", "train"),
    ],
)
def test_split_is_in_the_file_name(tmp_path, name, split):
    assert (
        parse("activitynet_captions", [_captions(tmp_path, {"a": _video([[0, 1]])}, name)]).records[0].split
        == split
    )


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("all.json", "none"),
        ("retrieval.json", "none"),
        ("trainval.json", "none"),
        ("val_test.json", r"several \(test, validation\)"),
    ],
)
def test_file_name_without_one_split(tmp_path, name, found):
    with pytest.raises(UserError, match=rf"{name}: .* must tell the split, .* tells {found}: rename it"):
        parse("activitynet_captions", [_captions(tmp_path, {}, name)])


@pytest.mark.parametrize(
    ("segment", "kind", "kept"),
    [
        ([5, 5], "zero length", None),
        ([5.00000001, 5.00000002], "zero length", None),  # as float32, which is what is stored
        ([6, 5], "start >= end", None),
        ([5, 10.04], None, [5, 10]),
        ([5, 10.06], "segment past the end", [5, 10]),
        ([10.5, 12], "segment past the end", None),
        ([-1, 3], "segment before the start", [0, 3]),
        ([-3, -1], "segment before the start", None),
        (["1.5", "2"], None, [1.5, 2]),
        (["one", 2], "not a number", None),
        ([float("nan"), 2], "not a number", None),
        ([0, float("inf")], "not a number", None),
        ([True, 2], "not a number", None),
        ([None, 2], "not a number", None),
        ([-1e300, 2], "implausible time", None),
        ([0, 604801], "implausible time", None),
        ([1], "not a segment", None),
        ("1-2", "not a segment", None),
        ([0, 1], "duplicate segment", [0, 1]),  # the official evaluation counts each
    ],
)
def test_faulty_segments_are_counted(tmp_path, segment, kind, kept):
    video = _video([[0, 1], segment], ["same", "same"])
    parsed = parse("activitynet_captions", [_captions(tmp_path, {"a": video})])
    assert dict(parsed.problems.counts) == ({kind: 1} if kind else {})
    expected = [[0, 1]] + ([kept] if kept else [])
    np.testing.assert_allclose(parsed.records[0].segments_s, expected)
    assert len(parsed.records[0].texts) == len(parsed.records[0].attributes) == len(expected)
    assert parsed.num_segments == 2


def test_other_faults_are_counted(tmp_path):
    one = [[0, 1]]
    assert _problems(tmp_path, {"a": _video([[0, 1], [1, 2]], ["x", " "])}) == {"empty sentence": 1}
    assert _problems(tmp_path, {"a": _video([[0, 1], [1, 2]], ["x", None])}) == {"empty sentence": 1}
    assert _problems(tmp_path, {"a": _video([])}) == {"video without usable segments": 1}
    assert _problems(tmp_path, {"a": _video([[2, 1]])}) == {
        "start >= end": 1,
        "video without usable segments": 1,
    }
    assert _problems(tmp_path, {"a": _video(one, duration=None)}) == {"missing duration": 1}
    assert _problems(tmp_path, {"a": _video(one, duration="long")}) == {"missing duration": 1}
    assert _problems(tmp_path, {"a": _video(one, duration=-2)}) == {"missing duration": 1}
    assert _problems(tmp_path, {"a": _video(one, duration=1e9)}) == {"implausible duration": 1}
    assert _problems(tmp_path, {"a\nb": _video(one), " ": _video(one), "x" * 999: _video(one)}) == {
        "unusable video id": 3
    }
    assert _problems(tmp_path, {"a": _video(one, ["x", "y"])}) == {
        "numbers of timestamps and sentences differ": 1
    }
    assert _problems(tmp_path, {"a": _video(one, attributes=[])}) == {
        "numbers of attributes and sentences differ": 1
    }
    assert _problems(tmp_path, {"a": _video(one, attributes=[{"object": None}])}) == {
        "attributes are not text": 1
    }


def test_unknown_duration_clips_nothing(tmp_path):
    video = {"timestamps": [[100, 2000]], "sentences": ["x"]}
    record = parse("activitynet_captions", [_captions(tmp_path, {"a": video})]).records[0]
    assert record.duration_s == 0.0
    np.testing.assert_array_equal(record.segments_s, [[100, 2000]])


def test_duplicate_ids_keep_the_first(tmp_path):
    one, two = (json.dumps({"a": _video([[0, end]])}) for end in (1, 2))
    first = _captions(tmp_path, f"{one[:-1]}, {two[1:]}")
    again = _captions(tmp_path, {"a": _video([[0, 3]])}, "val.json")
    parsed = parse("activitynet_captions", [first, again])
    assert dict(parsed.problems.counts) == {"duplicate id": 2}
    np.testing.assert_array_equal(parsed.records[0].segments_s, [[0, 1]])
    assert len(parsed.records) == 1
    assert "train.json: a" in parsed.problems.table()
    assert "also in train.json" in parsed.problems.table()


@pytest.mark.parametrize("dataset", ["activitynet", "activitynet_captions"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": {\n"duration": 1,,}}', r"line 2, column 15"),
        (b'{"a": ', r"not valid JSON at line 1"),
        (b"", r"not valid JSON at line 1, column 1"),
        (b"[1, 2]", r"looks like"),
        (b'"text"', r"looks like"),
        (b'{"a": 3}', r'looks like .*"a"'),
        (b'{"a": {"duration": 3, "annotations": 1, "timestamps": 2}}', r'looks like .*"a"'),
        (b'{"a": "\xff"}', r"not UTF-8 text \(byte 7\)"),
        (b"[" * 200_000, r"nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", r"not an annotation file: Exceeds the limit"),
        (b'{"a\\ud83d": 1}', r"half a character"),
    ],
)
def test_broken_files(tmp_path, dataset, content, message):
    path = tmp_path / "train.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        parse(dataset, [path])
    assert str(path) in str(caught.value)


def test_missing_file_and_unknown_dataset(tmp_path):
    with pytest.raises(UserError, match=r"train\.json: there is no such annotation file"):
        parse("activitynet_captions", [tmp_path / "train.json"])
    with pytest.raises(UserError, match=r"cannot be read"):
        (tmp_path / "train.json").mkdir()
        parse("activitynet_captions", [tmp_path / "train.json"])
    with pytest.raises(UserError, match=r"Did you mean activitynet_captions\? Known datasets: activitynet,"):
        parse("activitynet-captions", [])
    with pytest.raises(UserError, match="No annotation file"):
        parse("activitynet", [])


_ANNOTATIONS = [{"segment": [1, 5], "label": "Ballet"}, {"segment": [2, 3], "label": "Archery"}]


def test_activitynet_official_layout(tmp_path):
    database = {
        "a": {"duration": 10, "subset": "training", "annotations": _ANNOTATIONS},
        "b": {"duration": 10, "subset": "validation", "annotations": _ANNOTATIONS[:1]},
        "c": {"duration": 10, "subset": "testing", "annotations": []},
    }
    path = tmp_path / "activity_net.v1-3.min.json"
    path.write_text(json.dumps({"version": "1.3", "taxonomy": [], "database": database}))
    parsed = parse("activitynet", [path])
    assert [(r.video_id, r.split, r.texts) for r in parsed.records] == [
        ("a", "train", ["Ballet", "Archery"]),
        ("b", "validation", ["Ballet"]),
        ("c", "test", []),  # a server keeps the annotations of the whole split secret
    ]
    assert parsed.classes == ["Archery", "Ballet"]
    assert not parsed.problems.counts
    database["d"] = {"duration": 10, "subset": "testing", "annotations": _ANNOTATIONS}
    path.write_text(json.dumps({"database": database}))
    parsed = parse("activitynet", [path])
    assert [r.video_id for r in parsed.records] == [
        "a",
        "b",
        "d",
    ]  # now "c" is a video that shows none of the classes
    assert dict(parsed.problems.counts) == {"video without usable segments": 1}


def test_activitynet_bmn_layout_with_and_without_subsets(tmp_path):
    path = tmp_path / "anet_anno_action.json"
    video = {"duration_second": 4.0, "duration_frame": 96, "annotations": _ANNOTATIONS, "feature_frame": 90}
    path.write_text(json.dumps({"v_a": video, "v_b": video}))
    subsets = tmp_path / "video_info_new.csv"
    subsets.write_text(
        "video,numFrame,seconds,fps,rfps,subset,featureFrame\n"
        "v_a,96,4.0,24,24,training,90\nv_b,96,4.0,24,24,validation,90\n"
    )
    parsed = parse("activitynet", [path, subsets])
    assert [(r.video_id, r.split) for r in parsed.records] == [("v_a", "train"), ("v_b", "validation")]
    np.testing.assert_array_equal(parsed.records[0].segments_s, [[1, 4], [2, 3]])
    assert dict(parsed.problems.counts) == {"segment past the end": 2}
    alone = parse("activitynet", [path])
    assert [r.split for r in alone.records] == ["train", "train"]
    assert alone.problems.counts["unknown subset"] == 2
    with pytest.raises(UserError, match="give the JSON file"):
        parse("activitynet", [subsets])
    subsets.write_text("id,split\nv_a,training\n")
    with pytest.raises(UserError, match='columns "video" and "subset"'):
        parse("activitynet", [path, subsets])


@_needs_real
def test_real_activitynet_captions():
    parsed = parse("activitynet_captions", [_REAL / "activitynet_captions_val.json"])
    # ActivityNet Captions val_1, as published: 4917 videos with 17505 sentences.
    assert (parsed.num_videos, parsed.num_segments) == (4917, 17505)
    assert sum(len(record.texts) for record in parsed.records) == 17505
    assert {record.split for record in parsed.records} == {"validation"}
    assert not parsed.problems.counts


@_needs_real
def test_real_activitynet():
    path = _REAL / "activitynet13_bmn_anno_action.json"
    parsed = parse("activitynet", [path])
    assert (parsed.num_videos, len(parsed.classes)) == (19228, 200)
    # Counted independently of the parser.
    segments = collections.Counter()
    for video in json.loads(path.read_text()).values():
        seen = set()
        for annotation in video["annotations"]:
            start, end = annotation["segment"]
            segments["all"] += 1
            segments["start >= end"] += start > end
            segments["zero length"] += start == end
            segments["segment past the end"] += end > video["duration_second"] + 0.05
            segments["duplicate segment"] += (start, end, annotation["label"]) in seen
            seen.add((start, end, annotation["label"]))
    assert parsed.num_segments == segments.pop("all") == 22152
    assert {kind: parsed.problems.counts[kind] for kind in segments} == dict(segments)
    assert segments["zero length"] == 12
    assert segments["duplicate segment"] > 0
