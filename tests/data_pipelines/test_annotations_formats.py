"""Parsers of all formats: tiny files in the layouts that publishers use, next to what they mean."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.annotations import PARSERS, parse
from unloc_jax.errors import UserError

DOCS = Path(__file__).parents[2] / "docs" / "annotations.md"


def write(folder: Path, name: str, content) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def lines(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def rows_of(parsed) -> list[tuple]:
    """(video, split, start, end, text) of all segments."""
    return [
        (record.video_id, record.split, *segment, text)
        for record in parsed.records
        for segment, text in zip(record.segments_s.tolist(), record.texts)
    ]


# --- Charades-STA

CHARADES = (
    "3MSZA 24.3 30.4##person turn a light on.\n3MSZA  0 5.0 ## Something ## else. \r\nAMT7R 4.3 12.5##a\n"
)
LENGTHS = 'id,script,length\n3MSZA,"A person, who ""reads"".",30.0\nAMT7R,x,20\n'


def test_charades_sta(tmp_path):
    train = write(tmp_path, "charades_sta_train.txt", CHARADES)
    parsed = parse("charades_sta", [write(tmp_path, "Charades_v1_train.csv", LENGTHS), train])
    assert rows_of(parsed) == [
        ("3MSZA", "train", np.float32(24.3), 30.0, "person turn a light on."),
        ("3MSZA", "train", 0.0, 5.0, "Something ## else."),
        ("AMT7R", "train", np.float32(4.3), 12.5, "a"),
    ]
    assert dict(parsed.problems.counts) == {"segment past the end": 1}
    assert parsed.problems.examples["segment past the end"][0].where == "charades_sta_train.txt:1"
    assert [record.duration_s for record in parsed.records] == [30.0, 20.0]
    assert (parsed.num_videos, parsed.num_segments, parsed.classes) == (2, 3, None)
    assert parsed.num_in_split == {"train": [2, 3]}


def test_charades_sta_without_lengths_or_with_broken_lines(tmp_path):
    test = write(
        tmp_path, "charades_sta_test.txt", "\ufeffA 1 2##x\n\nA 1 2 x\nA 1##y\nA 2 1##z\nA a b##z\nA 3 4##\n"
    )
    parsed = parse("charades_sta", [test])
    assert rows_of(parsed) == [("A", "test", 1.0, 2.0, "x")]
    assert dict(parsed.problems.counts) == {
        "missing duration": 1,
        "not an annotation line": 2,
        "start >= end": 1,
        "not a number": 1,
        "empty sentence": 1,
    }
    assert (parsed.num_videos, parsed.num_segments) == (1, 4)


def test_charades_sta_json(tmp_path):
    video = {"duration": 30.96, "timestamps": [[24.3, 30.4]], "sentences": ["person turn a light on."]}
    parsed = parse("charades_sta", [write(tmp_path, "charades_test.json", {"3MSZA": video})])
    assert rows_of(parsed) == [
        ("3MSZA", "test", *np.float32([24.3, 30.4]).tolist(), "person turn a light on.")
    ]


# --- QVHighlights


def _query(qid, vid="a_0.0_10.0", duration=10, **more) -> dict:
    return {"qid": qid, "query": f"query {qid}", "vid": vid, "duration": duration, **more}


def test_qvhighlights(tmp_path):
    val = lines(
        _query(
            7,
            relevant_windows=[[2, 6], [8, 10]],
            relevant_clip_ids=[1, 2, 4],
            saliency_scores=[[1, 2, 3], [4, 0, 4], [2, 2, 2]],
        ),
        _query(9, vid="b", relevant_windows=[[0, 2]]),
        _query(8, relevant_windows=[[0, 2]], relevant_clip_ids=[0], saliency_scores=[[1, 1, 1]]),
    )
    parsed = parse("qvhighlights", [write(tmp_path, "highlight_val_release.jsonl", val)])
    assert (parsed.num_videos, parsed.num_segments) == (2, 4)
    first, second = parsed.records
    assert first.texts == ["query 7", "query 7", "query 8"]
    assert first.attributes == [{"qid": "7"}, {"qid": "7"}, {"qid": "8"}]
    np.testing.assert_array_equal(first.segments_s, [[2, 6], [8, 10], [0, 2]])
    assert sorted(first.saliency) == ["query 7", "query 8"]
    scores = first.saliency["query 7"]
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, [[0, 0, 0], [1, 2, 3], [4, 0, 4], [0, 0, 0], [2, 2, 2]])
    assert (second.saliency, second.split, second.duration_s) == ({}, "validation", 10.0)
    assert not parsed.problems.counts


def test_queries_without_windows(tmp_path):
    test = write(tmp_path, "test.jsonl", lines(_query(1), _query(2), _query(2), _query(3, "b", query=" ")))
    parsed = parse("qvhighlights", [test])
    (record,) = parsed.records
    assert record.segments_s.shape == (0, 2)
    assert record.segments_s.dtype == np.float32
    assert (record.texts, record.attributes) == (["query 1", "query 2"], [{"qid": "1"}, {"qid": "2"}])
    assert dict(parsed.problems.counts) == {
        "duplicate query": 1,
        "empty query": 1,
        "video without usable segments": 1,
    }
    assert (parsed.num_videos, parsed.num_segments) == (2, 0)


def test_a_query_without_windows_among_others_is_a_fault(tmp_path):
    """An empty list is not: see test_absent_queries.py."""
    train = lines(
        _query(1, relevant_windows=[[0, 2]]),
        _query(2, relevant_windows=None),
        _query(3, "b", relevant_windows=None),
    )
    parsed = parse("qvhighlights", [write(tmp_path, "train.jsonl", train)])
    assert rows_of(parsed) == [("a_0.0_10.0", "train", 0.0, 2.0, "query 1")]
    assert dict(parsed.problems.counts) == {"query without segments": 2, "video without usable segments": 1}


def test_same_words_of_two_queries_are_two_queries(tmp_path):
    same = [_query(qid, relevant_windows=[[0, 2], [0, 2]], query="same") for qid in (1, 2)]
    parsed = parse("qvhighlights", [write(tmp_path, "train.jsonl", lines(*same))])
    assert parsed.records[0].attributes == [{"qid": "1"}, {"qid": "2"}]
    assert dict(parsed.problems.counts) == {"duplicate segment": 2}


@pytest.mark.parametrize(
    ("clips", "scores"),
    [
        ([0], [[1], [2]]),
        ([0, 1], [[1], [2, 3]]),
        ([0, 5], [[1], [2]]),
        ([-1, 1], [[1], [2]]),
        ([0, 1], [[1], ["x"]]),
        ([0, 1], [[1], [None]]),
        ([0, 1], [[1], [1e300]]),
        ([0, 1.5], [[1], [2]]),
        (None, [[1]]),
        ([0], "high"),
        ([0], [[[1]]]),
        ([0], [[]]),
    ],
)
def test_scores_that_do_not_fit(tmp_path, clips, scores):
    query = _query(1, relevant_windows=[[0, 2]], relevant_clip_ids=clips, saliency_scores=scores)
    parsed = parse("qvhighlights", [write(tmp_path, "train.jsonl", lines(query))])
    assert dict(parsed.problems.counts) == {"saliency scores do not fit": 1}
    assert parsed.records[0].saliency == {}


# --- COIN

TAXONOMY = [
    {"action_id": 1, "label": "cut in half", "task": "MakeOrangeJuice"},
    {"action_id": 2, "label": "cut in half", "task": "ReplaceCDDriveWithSSD"},
    {"action_id": 3, "label": "pour water", "task": "MakeTea"},
    {"action_id": 4, "label": "cut in half", "task": "MakeOrangeJuice"},
    {"action_id": 10, "label": "never shown", "task": "MakeTea"},
]


def _coin(**videos) -> dict:
    return {"version": "x", "database": videos}


def _coin_video(task: str, *steps, subset="training") -> dict:
    annotation = [{"id": i, "label": label, "segment": [n, n + 1.5]} for n, (i, label) in enumerate(steps)]
    return {
        "duration": 30,
        "class": task,
        "start": 5.5,
        "end": 20,
        "subset": subset,
        "annotation": annotation,
    }


def test_coin(tmp_path):
    juice = _coin_video("MakeOrangeJuice", ("1", "cut in half"), ("4", "cut in half"), ("1", "cut in half"))
    drive = _coin_video("ReplaceCDDriveWithSSD", (2, "cut in half"), subset="testing")
    tea = _coin_video("MakeTea", (3, "pour water"))
    path = write(tmp_path, "COIN.json", _coin(j=juice, d=drive, t=tea))
    names = [
        "cut in half (make orange juice)",
        "cut in half (make orange juice, 2)",
        "cut in half (replace cd drive with ssd)",
        "pour water",
    ]
    parsed = parse("coin", [path])
    assert parsed.classes == names
    assert [row[-1] for row in rows_of(parsed)] == [names[0], names[1], names[0], names[2], names[3]]
    assert [record.split for record in parsed.records] == ["train", "test", "train"]
    # The taxonomy tells what the files at hand do not show.
    alone = write(tmp_path, "train.json", _coin(t=tea, j=_coin_video("MakeOrangeJuice", (1, "cut in half"))))
    assert parse("coin", [alone]).classes == ["cut in half", "pour water"]
    with_taxonomy = parse("coin", [alone, write(tmp_path, "taxonomy.json", TAXONOMY)])
    assert with_taxonomy.classes == sorted([*names, "never shown"])
    assert [row[-1] for row in rows_of(with_taxonomy)] == ["pour water", names[0]]
    with pytest.raises(
        UserError, match=r"taxonomy\.json: this is the taxonomy; give the file with the segments"
    ):
        parse("coin", [tmp_path / "taxonomy.json"])


# --- THUMOS14


def _thumos(**videos) -> dict:
    return {"version": "Thumos14-30fps", "database": videos}


@pytest.mark.parametrize(("of_val", "of_test"), [("Validation", "Test"), ("training", "validation")])
def test_thumos14_json(tmp_path, of_val, of_test):
    annotations = [
        {"label": "Diving", "segment": [0.2, 1.1], "segment(frames)": [6.0, 33.0], "label_id": 5},
        {"label": "Ambiguous", "segment": [3, 4]},
        {"label": "CliffDiving", "segment": [0.2, 1.1]},
    ]
    path = write(
        tmp_path,
        "thumos14.json",
        _thumos(
            video_validation_0000051={
                "subset": of_val,
                "duration": 9.5,
                "fps": 30,
                "annotations": annotations,
            },
            video_test_0000004={"subset": of_test, "duration": 9.5, "annotations": annotations[:1]},
        ),
    )
    parsed = parse("thumos14", [path])
    assert [(row[0], row[1], row[4]) for row in rows_of(parsed)] == [
        ("video_validation_0000051", "train", "Diving"),
        ("video_validation_0000051", "train", "CliffDiving"),
        ("video_test_0000004", "test", "Diving"),
    ]
    assert parsed.classes == ["CliffDiving", "Diving"]
    assert dict(parsed.problems.counts) == {"ambiguous segment": 1}
    assert parsed.num_segments == 4


def test_thumos14_text_files(tmp_path):
    files = [
        write(
            tmp_path,
            "Diving_val.txt",
            "video_validation_0000266  72.80 76.40\nvideo_validation_0000051 1 2 \nbad\n",
        ),
        write(tmp_path, "CliffDiving_val.txt", "video_validation_0000266  72.80 76.40\n"),
        write(
            tmp_path,
            "Ambiguous_val.txt",
            "video_validation_0000266 1.0 2.0\nvideo_validation_0000007 1.0 2.0\n",
        ),
        write(tmp_path, "Diving_test.txt", "video_test_0000004 5 3\nvideo_test_0000004 3 5\n"),
    ]
    parsed = parse("thumos14", files)
    assert rows_of(parsed) == [
        ("video_validation_0000266", "train", *np.float32([72.8, 76.4]).tolist(), "Diving"),
        ("video_validation_0000266", "train", *np.float32([72.8, 76.4]).tolist(), "CliffDiving"),
        ("video_validation_0000051", "train", 1.0, 2.0, "Diving"),
        ("video_test_0000004", "test", 3.0, 5.0, "Diving"),
    ]
    assert {record.duration_s for record in parsed.records} == {0.0}
    assert dict(parsed.problems.counts) == {
        "not an annotation line": 1,
        "ambiguous segment": 2,
        "video without usable segments": 1,
        "start >= end": 1,
    }
    assert (parsed.num_videos, parsed.num_segments) == (4, 7)
    assert parsed.problems.examples["start >= end"][0].where == "Diving_test.txt:1"
    with pytest.raises(UserError, match=r"detclasslist\.txt: THUMOS14 looks like .* tells no class"):
        parse("thumos14", [write(tmp_path, "detclasslist.txt", "7 BaseballPitch\n")])
    with pytest.raises(
        UserError, match=r"det_classes\.txt: THUMOS14 looks like .* no line of this file does"
    ):
        parse("thumos14", [write(tmp_path, "det_classes.txt", "7 BaseballPitch\n")])


# --- Kinetics


def test_kinetics(tmp_path):
    train = write(
        tmp_path,
        "train.csv",
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        "abseiling,0wR5jVB-WPk,417,427,train,0\n"
        '"""massaging person\'s head""",3caPS4FHFF8,36.0,46.0,train,0\n'
        "abseiling,0wR5jVB-WPk,417,427,train,0\n"
        "abseiling,b,10,10,train,0\n"
        "abseiling,c,ten,20,train,0\n"
        "abseiling,d,10,20,somewhere,0\n"
        "abseiling,e,10,20\n",
    )
    validate = write(
        tmp_path, "validate.csv", "label,youtube_id,time_start,time_end,split\nx,f,1,5,validate\n"
    )
    test = write(tmp_path, "test.csv", "youtube_id,time_start,time_end,split\ng,1,5,test\n")
    parsed = parse("kinetics", [train, validate, test])
    assert rows_of(parsed) == [
        ("0wR5jVB-WPk_000417_000427", "train", 0.0, 10.0, "abseiling"),
        ("3caPS4FHFF8_000036_000046", "train", 0.0, 10.0, "massaging person's head"),
        ("d_000010_000020", "train", 0.0, 10.0, "abseiling"),
        ("f_000001_000005", "validation", 0.0, 4.0, "x"),
    ]
    assert [record.duration_s for record in parsed.records] == [10, 10, 10, 4]
    assert dict(parsed.problems.counts) == {
        "duplicate id": 1,
        "zero length": 1,
        "not a number": 1,
        "row with other columns than the header": 1,
        "video without usable segments": 2,
        "empty label": 1,
    }
    assert (parsed.num_videos, parsed.num_segments) == (8, 8)


# --- TACoS, DiDeMo, YouCook2


def test_tacos(tmp_path):
    video = {
        "timestamps": [[50, 100], [100, 210], [50, 100], ["a", 3]],
        "sentences": ["She peels.", " She cuts. ", "She peels.", "x"],
        "fps": 25.0,
        "num_frames": 200,
    }
    parsed = parse("tacos", [write(tmp_path, "test.json", {"s30-d52.avi": video})])
    assert rows_of(parsed) == [
        ("s30-d52", "test", 2.0, 4.0, "She peels."),
        ("s30-d52", "test", 4.0, 8.0, "She cuts."),
        ("s30-d52", "test", 2.0, 4.0, "She peels."),  # the official evaluation counts every description
    ]
    assert parsed.records[0].duration_s == 8.0
    assert dict(parsed.problems.counts) == {
        "segment past the end": 1,
        "duplicate segment": 1,
        "not a number": 1,
    }
    with pytest.raises(UserError, match=r'TACoS looks like .*"fps" of the entry "a" is not a frame rate'):
        parse("tacos", [write(tmp_path, "val.json", {"a": {**video, "fps": 0}})])


def test_didemo(tmp_path):
    def description(number, times, video="123@N01_6060_dc.mov"):
        return {
            "num_segments": 5,
            "description": f"text {number}",
            "times": times,
            "video": video,
            "annotation_id": number,
        }

    content = [
        description(11, [[1, 1], [1, 1], [0, 1], [1, 1]]),
        description(12, [[4, 4], [4, 5], [3, 1], [3], "x"]),
        description(13, [[0, 0]], "456."),
    ]
    parsed = parse("didemo", [write(tmp_path, "val_data.json", content)])
    assert rows_of(parsed) == [
        ("123@N01_6060_dc", "validation", 5.0, 10.0, "text 11"),
        ("123@N01_6060_dc", "validation", 0.0, 10.0, "text 11"),
        ("123@N01_6060_dc", "validation", 20.0, 25.0, "text 12"),
        ("456", "validation", 0.0, 5.0, "text 13"),
    ]
    assert parsed.records[0].attributes == [
        {
            "qid": "11",
            "annotators": "3",
            "vid": "123@N01_6060_dc.mov",
            "not_shown": '[[15.0, 10.0, "text 12", {"qid": "12"}]]',
        },
        {"qid": "11", "annotators": "1", "vid": "123@N01_6060_dc.mov"},
        {"qid": "12", "annotators": "1", "vid": "123@N01_6060_dc.mov"},
    ]
    assert parsed.records[0].duration_s == 25.0
    assert (parsed.num_videos, parsed.num_segments) == (2, 10)
    assert dict(parsed.problems.counts) == {
        "segment past the end": 1,
        "duplicate segment": 1,  # what is left of [4, 5]
        "start >= end": 1,
        "not a segment": 2,
    }


def test_youcook2(tmp_path):
    official = {
        "database": {
            "xHr8X2Wpmno": {
                "duration": 206.86,
                "subset": "validation",
                "recipe_type": "113",
                "annotations": [{"segment": [47, 60], "id": 0, "sentence": "pick the ends off"}],
                "video_url": "x",
            },
            "abc": {"duration": 10, "subset": "testing", "recipe_type": "1"},
        }
    }
    parsed = parse("youcook2", [write(tmp_path, "youcookii_annotations_trainval.json", official)])
    assert rows_of(parsed) == [("xHr8X2Wpmno", "validation", 47.0, 60.0, "pick the ends off")]
    assert (parsed.num_videos, parsed.classes) == (2, None)
    assert dict(parsed.problems.counts) == {"video without usable segments": 1}
    captions = {"v_xHr8X2Wpmno": {"duration": 206.86, "timestamps": [[47, 60]], "sentences": ["pick"]}}
    parsed = parse("youcook2", [write(tmp_path, "youcook2_val.json", captions)])
    assert rows_of(parsed) == [("v_xHr8X2Wpmno", "validation", 47.0, 60.0, "pick")]


# --- highlight scores


def _labelled(vid="a", duration=6.0, label=((1, 5), (2, 4), (3, 3)), **more) -> dict:
    return {
        "qid": vid,
        "query": "A title",
        "duration": duration,
        "vid": vid,
        "relevant_clip_ids": None,
        "relevant_windows": None,
        "label": label,
        **more,
    }


def test_tvsum(tmp_path):
    video = _labelled(duration=3)  # three clips, as the common copy has it
    parsed = parse(
        "tvsum", [write(tmp_path, "tvsum_val.jsonl", lines(video, _labelled("b", label=[[2], [3]])))]
    )
    first, second = parsed.records
    assert (first.texts, first.segments_s.shape, first.duration_s) == (["A title"], (0, 2), 6.0)
    np.testing.assert_array_equal(first.saliency["A title"], [[1, 5], [2, 4], [3, 3]])
    assert (second.duration_s, first.split) == (6.0, "validation")
    np.testing.assert_array_equal(second.saliency["A title"], [[2], [3]])
    assert dict(parsed.problems.counts) == {"duration counts clips": 1}
    assert (parsed.num_videos, parsed.num_segments) == (2, 0)
    # UMT's layout, and labels that are not 2-second clips: 10 s in 10 labels with a length in frames.
    anno = {"c": {"anno": [[n] for n in range(20)], "title": "T", "frames": 300, "fps": 30, "domain": "VT"}}
    (record,) = parse("tvsum", [write(tmp_path, "tvsum_train.json", anno)]).records
    assert record.duration_s == 10.0
    np.testing.assert_array_equal(record.saliency["T"][:, 0], [0, 4, 8, 12, 16])
    broken = parse("tvsum", [write(tmp_path, "test.jsonl", lines(_labelled(label=None)))])
    assert dict(broken.problems.counts) == {"no highlight scores": 1}


def test_youtube_highlights(tmp_path):
    video = _labelled(
        query="dog",
        duration=6.0,
        label=[[0], [1], [1], [-1]],
        fps=10.0,
        frames=60.0,
        clip=[[0, 20], [10, 30], [25, 50], [45, 60]],
    )
    parsed = parse("youtube_highlights", [write(tmp_path, "train.jsonl", lines(video))])
    # 0-2 s: all of the first piece; 2-4 s: 1 s of the second, 1.5 s of the third; 4-6 s: 1 s, and 1.5 s of the fourth.
    np.testing.assert_array_equal(parsed.records[0].saliency["dog"], [[0], [1], [0]])
    assert not parsed.problems.counts
    match = {
        "a": {"match": [1, -1], "domain": "surfing", "fps": 10, "frames": 40, "clip": [[0, 20], [20, 40]]}
    }
    (record,) = parse("youtube_highlights", [write(tmp_path, "test.json", match)]).records
    np.testing.assert_array_equal(record.saliency["surfing"], [[1], [0]])
    bad = {**video, "clip": [[0, 20]]}
    parsed = parse("youtube_highlights", [write(tmp_path, "val.jsonl", lines(bad))])
    assert dict(parsed.problems.counts) == {"clips do not fit the labels": 1}
    np.testing.assert_array_equal(parsed.records[0].saliency["dog"], [[0], [1], [1], [0]])


# --- people's own data


def _example(language: str, number: int = 0) -> str:
    blocks = DOCS.read_text("utf-8").split(f"```{language}\n")[1:]
    return blocks[number].split("```")[0]


OWN = [
    ("kitchen_01", "train", 2.5, 7.0, "A man opens the door."),
    ("kitchen_01", "train", 12.0, 19.5, "He sits down, then reads."),
    ("garden_07", "validation", 0.0, 4.25, "A dog runs to the gate."),
]


@pytest.mark.parametrize("dataset", ["csv", "jsonl"])
def test_examples_of_the_documentation(tmp_path, dataset):
    parsed = parse(dataset, [write(tmp_path, f"mine.{dataset}", _example(dataset))])
    assert rows_of(parsed) == OWN
    assert [record.duration_s for record in parsed.records] == [31.2, 18.04]
    assert parsed.classes is None
    assert not parsed.problems.counts


def test_second_json_lines_example(tmp_path):
    parsed = parse("jsonl", [write(tmp_path, "mine.jsonl", _example("jsonl", 1))])
    assert rows_of(parsed) == [("a", "test", 1.0, 4.0, "a red circle moves left")]
    assert parsed.records[0].attributes == [{"object": "red circle", "motion": "left", "vid": "a.mp4"}]
    assert parsed.records[0].duration_s == 0.0


def test_csv_of_a_spreadsheet(tmp_path):
    content = "\ufeffvideo;start;end;label\r\nclips/a.MOV; 1 ;2;jump\r\n;;;\r\nb;2;3;run; fast\r\n"
    parsed = parse("csv", [write(tmp_path, "test.csv", content)])
    assert rows_of(parsed) == [("clips/a", "test", 1.0, 2.0, "jump")]
    assert parsed.classes == ["jump"]
    assert dict(parsed.problems.counts) == {"row with other columns than the header": 1}


def test_rows_of_one_video_that_disagree(tmp_path):
    content = (
        "video,start,end,text,split,duration\n"
        "a,0,1,x,train,10\na,1,2,y,val,10.0\na,2,3,z,train,11\na,2,9999999,z,train,\n"
        "b,0,1,x,later,\nc,0,1,x,,\n,0,1,x,train,\n"
    )
    parsed = parse("csv", [write(tmp_path, "mine.csv", content)])
    assert [(r.video_id, r.split, r.duration_s, len(r.texts)) for r in parsed.records] == [
        ("a", "train", 10.0, 3),
        ("b", "train", 0.0, 1),
        ("c", "train", 0.0, 1),
    ]
    assert dict(parsed.problems.counts) == {
        "several durations of one video": 1,
        "several splits of one video": 1,
        "implausible time": 1,
        "unknown subset": 2,
        "unusable video id": 1,
    }


def test_a_line_without_segments_is_counted(tmp_path):
    content = lines({"video": "a", "split": "test", "segments": []}, {"video": "b", "segments": [{}]})
    with pytest.raises(UserError, match=r"train\.jsonl:2: a line looks like .*; this line does not"):
        parse("jsonl", [write(tmp_path, "train.jsonl", content)])
    parsed = parse("jsonl", [write(tmp_path, "train.jsonl", content.partition("\n")[0])])
    assert (parsed.num_videos, dict(parsed.problems.counts)) == (1, {"video without usable segments": 1})
    assert parsed.num_in_split == {"test": [1, 0]}


# --- what all have in common


@pytest.mark.parametrize(
    ("dataset", "name", "content", "message"),
    [
        ("charades_sta", "train.txt", "", r"no line of this file does"),
        (
            "charades_sta",
            "train.txt",
            "3MSZA 24.3 30.4 no separator",
            r"looks like lines .*; no line of this file",
        ),
        ("charades_sta", "lengths.csv", LENGTHS, r"only tells lengths; give charades_sta_\*\.txt"),
        (
            "charades_sta",
            "lengths.csv",
            "id,duration\na,1\n",
            r"has no column 'length', its header is \['id', 'dura",
        ),
        ("qvhighlights", "train.jsonl", "", r"the file is empty\. QVHighlights looks like"),
        (
            "qvhighlights",
            "train.jsonl",
            '{"vid": "a"}\n{"qid"',
            r"train\.jsonl:2: not valid JSON at column .*looks",
        ),
        (
            "qvhighlights",
            "train.jsonl",
            '{"video": "a"}',
            r'train\.jsonl:1: QVHighlights looks .* no "vid" here',
        ),
        ("qvhighlights", "train.jsonl", '{"vid": "a", "relevant_windows": 3}', r'"relevant_windows" is 3'),
        ("qvhighlights", "train.jsonl", "[1]", r"entry 1: .*; this is a int"),
        ("qvhighlights", "all.jsonl", '{"vid": "a"}', r"must tell the split"),
        (
            "coin",
            "COIN.json",
            '{"database": {"a": {"annotation": 3}}}',
            r'COIN looks like .*the entry "a" does not',
        ),
        ("thumos14", "t.json", '{"database": [{"segment": [1, 2]}]}', r"its entry 1 has no video id"),
        ("kinetics", "train.csv", "label,id\nx,a\n", r"no column 'youtube_id', 'time_start', 'time_end'"),
        ("kinetics", "train.csv", "youtube_id,time_start,time_end\n", r"there are no rows in this file"),
        (
            "kinetics",
            "train.csv",
            "youtube_id,time_start,time_end\n" + "x" * 200_000,
            r"not a table: field larger",
        ),
        ("tacos", "train.json", '{"a": {"timestamps": []}}', r'TACoS looks like .*the entry "a" does not'),
        ("didemo", "train.json", "{}", r"DiDeMo looks like .*; this file does not"),
        ("didemo", "train.json", '[{"video": "a"}]', r"DiDeMo looks like .*; the entry 1 does not"),
        ("youcook2", "train.json", "3", r"YouCook2 looks like .*; this is a int"),
        ("tvsum", "train.json", '{"a": 3}', r'TVSum looks like .*the entry "a" does not'),
        (
            "youtube_highlights",
            "train.jsonl",
            "dog",
            r"train\.jsonl:1: not valid JSON .* YouTube Highlights looks",
        ),
        ("csv", "train.csv", "video,start,end\na,1,2\n", r'must have a column "text" or a column "label"'),
        ("csv", "mine.csv", "video,start,end,text\na,1,2,x\n", r"must tell the split"),
        ("csv", "train.csv", b"video,start,end,text\na,1,2,caf\xe9\n", r"not UTF-8 text \(byte 30\)"),
        (
            "jsonl",
            "train.jsonl",
            '{"video": "a", "start": 1, "end": 2}',
            r"a line looks like .*; this line does not",
        ),
        (
            "jsonl",
            "train.jsonl",
            '{"video": "a", "text": "x"}\n{"video": "a", "label": "x"}',
            r"some rows have a label, others a text",
        ),
    ],
)
def test_files_in_another_layout(tmp_path, dataset, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        parse(dataset, [path])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("dataset", sorted(PARSERS))
def test_every_parser_names_what_is_missing(tmp_path, dataset):
    tables = (
        "csv",
        "kinetics",
        "epic_kitchens",
        "epic_kitchens_nouns",
        "epic_kitchens_verbs",
        "epic_sounds",
        "nextgqa",
    )
    name = {"charades_sta": "train.txt", **dict.fromkeys(tables, "train.csv")}.get(dataset, "train.json")
    with pytest.raises(UserError, match="there is no such annotation file"):
        parse(dataset, [tmp_path / name])


@pytest.mark.parametrize("dataset", sorted(PARSERS))
def test_every_format_is_in_the_documentation(dataset):
    assert f"| `{dataset}` |" in DOCS.read_text("utf-8")


def test_videos_as_a_list_and_annotations_as_an_object(tmp_path):
    video = {
        "video_id": "a",
        "duration": 9,
        "subset": "train",
        "annotations": {"0": {"start": 1, "end": 2, "label": "x"}},
    }
    parsed = parse("activitynet", [write(tmp_path, "list.json", [video])])
    assert rows_of(parsed) == [("a", "train", 1.0, 2.0, "x")]


# --- Names that are numbers


def _of_every_format(name) -> dict[str, tuple[str, str, dict]]:
    """Parser → file name, and its content with one text that is `name`; the formats that are JSON."""
    segment = {"segment": [1, 3], "label": name, "sentence": name, "id": 7}
    video = {"duration": 8.0, "subset": "training", "class": "a task", "annotations": [segment]}
    captions = {"a": {"duration": 8.0, "timestamps": [[1, 3]], "sentences": [name]}}
    query = {"vid": "a", "qid": 1, "query": name, "duration": 8.0}
    windows = {"relevant_windows": [[1, 3]], "relevant_clip_ids": [0], "saliency_scores": [[1, 2]]}
    chunks = {"video": "a.mov", "description": name, "times": [[0, 1]], "num_segments": 6, "annotation_id": 1}
    return {
        "activitynet": ("own.json", {"database": {"a": video}}),
        "coin": ("own.json", {"database": {"a": video}}),
        "thumos14": ("own.json", {"database": {"a": video}}),
        "youcook2": ("own.json", {"database": {"a": video}}),
        "activitynet_captions": ("train.json", captions),
        "charades_sta": ("train.json", captions),
        "tacos": ("train.json", {"a.avi": captions["a"] | {"fps": 1.0, "num_frames": 8}}),
        "didemo": ("train.json", [chunks]),
        "jsonl": ("train.jsonl", {"video": "a", "start": 1, "end": 3, "label": name}),
        "qvhighlights": ("train.jsonl", query | windows),
        "tvsum": ("train.jsonl", query | {"label": [[1, 2], [3, 4]]}),
        "youtube_highlights": ("train.jsonl", query | {"label": [[0], [1]]}),
    }


@pytest.mark.parametrize("name", [3, 0, 2.5])
def test_names_that_are_numbers(tmp_path, name):
    """A class or a query may be a number in JSON; it is text from then on, also for its highlight scores."""
    for dataset, (file, content) in _of_every_format(name).items():
        parsed = parse(dataset, [write(tmp_path, file, content)])
        (record,) = parsed.records
        assert record.texts == [str(name)], dataset
        assert parsed.classes in (None, [str(name)]), dataset
        assert set(record.saliency) in (set(), {str(name)}), dataset
        assert bool(record.saliency) == (dataset in ("qvhighlights", "tvsum", "youtube_highlights"))


@pytest.mark.parametrize("name", [None, True, False, [3], {"a": 3}, "", " ", float("nan")])
def test_what_names_nothing_is_a_problem(tmp_path, name):
    for dataset, (file, content) in _of_every_format(name).items():
        parsed = parse(dataset, [write(tmp_path, file, content)])
        assert not parsed.records, dataset
        assert any(kind.startswith("empty ") for kind in parsed.problems.counts), dataset
