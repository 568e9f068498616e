"""Parsers of datasets whose annotations are spread over several files: tiny ones of our own in the official layouts."""

import numpy as np
import pytest

from data_pipelines.annotations import parse
from data_pipelines.annotations.clock import as_seconds
from tests.data_pipelines.test_annotations_formats import rows_of, write
from unloc_jax.errors import UserError


def _files(folder, **contents):
    """Writes files, whose dots are written as two underscores, and returns their paths."""
    return [write(folder, name.replace("__", "."), content) for name, content in contents.items()]


# --- MS-TCN: 50Salads, Breakfast, GTEA


def _ms_tcn(video: str, labels: str, mapping: str = "0 cut_tomato\n1 pour\n2 background\n") -> dict:
    return {f"{video}.txt": labels, "mapping.txt": mapping, "test.split3.bundle": f"{video}.txt\n"}


@pytest.mark.parametrize(
    ("video", "fps"), [("rgb-01-1", 30), ("P03_cam01_P03_cereals", 15), ("S1_Tea_C1", 15)]
)
def test_ms_tcn(tmp_path, video, fps):
    labels = "cut_tomato\n" * 30 + "background\n" * 15 + "pour\n" * 45 + "cut_tomato\n"
    files = [write(tmp_path, name, text) for name, text in _ms_tcn(video, labels).items()]
    parsed = parse("ms_tcn", files)
    assert rows_of(parsed) == [
        (video, "test", 0.0, 30 / fps, "cut_tomato"),
        (video, "test", 45 / fps, 90 / fps, "pour"),
        (video, "test", 90 / fps, np.float32(91 / fps), "cut_tomato"),
    ]
    assert parsed.records[0].duration_s == 91 / fps
    assert (parsed.classes, dict(parsed.problems.counts)) == (["cut_tomato", "pour"], {})


def test_ms_tcn_what_does_not_fit_together(tmp_path):
    files = _ms_tcn("rgb-01-1", "cut_tomato\nSIL\n")
    files |= {"test.split3.bundle": "rgb-01-1.txt\nrgb-09-9.txt\n", "rgb-02-1.txt": "pour\n"}
    parsed = parse("ms_tcn", [write(tmp_path, name, text) for name, text in files.items()])
    assert dict(parsed.problems.counts) == {
        "label that is not in mapping.txt": 1,
        "video without ground truth": 1,
        "video in no bundle": 1,
    }
    assert [text for record in parsed.records for text in record.texts] == ["cut_tomato", "SIL"]
    own = _ms_tcn("kitchen", "pour\n" * 10)
    paths = [write(tmp_path, name, text) for name, text in own.items()]
    with pytest.raises(UserError, match=r"kitchen\.txt: the frame rate of its labels is unknown"):
        parse("ms_tcn", paths)
    rates = write(tmp_path, "rates.csv", "video,fps\nkitchen.mp4,5\n")
    assert rows_of(parse("ms_tcn", [*paths, rates])) == [("kitchen", "test", 0.0, 2.0, "pour")]
    with pytest.raises(UserError, match=r"bundles of the splits 1, 3"):
        parse("ms_tcn", [*paths, rates, write(tmp_path, "train.split1.bundle", "kitchen.txt\n")])
    with pytest.raises(UserError, match="no bundle is given"):
        parse("ms_tcn", paths[:2])
    with pytest.raises(UserError, match=r"mapping\.txt is not given"):
        parse("ms_tcn", [paths[0], paths[2]])


# --- EPIC-Kitchens-100 and EPIC-Sounds

_EPIC = {
    "EPIC_100_train.csv": "video_id,start_timestamp,stop_timestamp,verb,verb_class,noun,noun_class,all_nouns\n"
    "P01_01,00:00:01.50,00:01:02.25,put-down,1,saucer,0,\"['saucer', 'cup']\"\n"
    "P01_01,01:00:00.00,01:00:01.00,grab,0,saucer,0,x\nP01_01,00:00:05,00:00:04,grab,0,cup,7,x\n",
    "EPIC_100_test_timestamps.csv": "video_id,start_timestamp,stop_timestamp\nP02_01,00:00:01,00:00:02\n"
    "P02_01,00:00:03,00:00:04\n",
    "EPIC_100_verb_classes.csv": "id,key,instances\n0,take,grab\n1,put,put-down\n",
    "EPIC_100_noun_classes.csv": "id,key,instances\n0,plate,saucer\n1,tap,x\n",
    "EPIC_100_video_info.csv": "video_id,duration,fps,resolution\nP01_01,4000.5,50,x\nP02_01,9,50,x\n",
}


@pytest.mark.parametrize(
    ("dataset", "texts", "classes"),
    [
        ("epic_kitchens", ["put plate", "take plate"], ["put plate", "take plate"]),
        ("epic_kitchens_verbs", ["put", "take"], ["put", "take"]),
        ("epic_kitchens_nouns", ["plate", "plate"], ["plate", "tap"]),
    ],
)
def test_epic_kitchens(tmp_path, dataset, texts, classes):
    parsed = parse(dataset, [write(tmp_path, name, text) for name, text in _EPIC.items()])
    assert rows_of(parsed) == [
        ("P01_01", "train", 1.5, 62.25, texts[0]),
        ("P01_01", "train", 3600.0, 3601.0, texts[1]),
    ]
    assert parsed.classes == classes
    train, hidden = parsed.records
    assert (train.duration_s, hidden.video_id, hidden.split, hidden.duration_s) == (
        4000.5,
        "P02_01",
        "test",
        9,
    )
    assert len(hidden.segments_s) == len(hidden.texts) == 0
    assert parsed.num_in_split == {"train": [1, 3], "test": [1, 0]}
    expected = {"start >= end": 1} | ({} if dataset == "epic_kitchens_verbs" else {"unknown class": 1})
    assert dict(parsed.problems.counts) == expected


def test_epic_kitchens_without_names(tmp_path):
    with pytest.raises(UserError, match=r"EPIC_100_verb_classes\.csv is not given"):
        parse("epic_kitchens", [write(tmp_path, "EPIC_100_train.csv", _EPIC["EPIC_100_train.csv"])])


def test_epic_sounds(tmp_path):
    table = (
        "video_id,start_timestamp,stop_timestamp,class,class_id\nP01_01,00:00:02.069,00:00:02.993,rustle,4\n"
    )
    files = {
        "EPIC_Sounds_validation.csv": table,
        "EPIC_Sounds_detection_test_videos.csv": "video_id\nP02_01\n",
    }
    files["EPIC_100_video_info.csv"] = _EPIC["EPIC_100_video_info.csv"]
    parsed = parse("epic_sounds", [write(tmp_path, name, text) for name, text in files.items()])
    assert rows_of(parsed) == [("P01_01", "validation", *np.float32([2.069, 2.993]).tolist(), "rustle")]
    assert [(record.video_id, record.duration_s) for record in parsed.records] == [
        ("P01_01", 4000.5),
        ("P02_01", 9),
    ]
    assert not parsed.problems.counts


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:01:02.5", 62.5), ("1:02,250", 62.25), ("100:00:00", 360000), ("7.5", 7.5), (3, 3)]
    + [(odd, None) for odd in ("1:2:3:4", "a:b", "-1:00", "1e5:00", ":", "nan:1", None)],
)
def test_times_of_day(text, seconds):
    assert as_seconds(text) == seconds


# --- Ego4D


def _ego4d(annotations: list, split: str = "val", **clip) -> dict:
    clip = {
        "clip_uid": "c",
        "video_start_sec": 100.5,
        "video_end_sec": 580.5,
        "annotations": annotations,
        **clip,
    }
    return {"videos": [{"video_uid": "v", "split": split, "clips": [clip]}]}


def _query(text, start, end) -> dict:
    return {"query": text, "template": "Objects: Where?", "clip_start_sec": start, "clip_end_sec": end}


@pytest.mark.parametrize("split", ["train", "val"])
def test_ego4d_nlq(tmp_path, split):
    queries = [_query("where?", 3, 4.5), _query("who?", 7, 7.02), _query(None, 1, 2), _query("who?", 5, 5)]
    content = _ego4d([{"annotation_uid": "u", "language_queries": queries}], split)
    parsed = parse("ego4d_nlq", [write(tmp_path, f"nlq_{split}.json", content)])
    assert dict(parsed.problems.counts) == {"near-zero window": 1, "empty query": 1, "zero length": 1}
    (record,) = parsed.records
    assert record.texts == ["where?"] + ["who?"] * (split == "val")  # evaluated, but not trained on
    assert (record.video_id, record.duration_s) == ("c", 480.0)
    assert record.attributes[0]["qid"] == "u_0"
    assert record.attributes[0]["template"] == "Objects: Where?"
    assert parsed.num_segments == 4


def test_ego4d_nlq_test_has_no_times(tmp_path):
    content = _ego4d(
        [{"annotation_uid": "u", "language_queries": [{"query": "where?"}, {"query": "who?"}]}], "test"
    )
    parsed = parse("ego4d_nlq", [write(tmp_path, "nlq_test_unannotated.json", content)])
    (record,) = parsed.records
    assert (record.split, record.texts, len(record.segments_s)) == ("test", ["where?", "who?"], 0)
    assert not parsed.problems.counts


def test_ego4d_mq(tmp_path):
    labels = [
        {"label": "use_phone", "primary": True, "video_start_time": 101.7, "video_end_time": 110.5},
        {"label": "sit", "primary": False, "video_start_time": 101.7, "video_end_time": 110.5},
    ]
    hidden = _ego4d([], "test", clip_uid="d")
    files = {"moments_val.json": _ego4d([{"labels": labels}]), "moments_test_unannotated.json": hidden}
    parsed = parse("ego4d_mq", [write(tmp_path, name, content) for name, content in files.items()])
    assert rows_of(parsed) == [("c", "validation", np.float32(1.2), 10.0, "use_phone")]
    assert [(record.video_id, record.split) for record in parsed.records] == [
        ("c", "validation"),
        ("d", "test"),
    ]
    assert (parsed.classes, parsed.num_segments, dict(parsed.problems.counts)) == (["use_phone"], 1, {})


# --- TimeLens, TVR, MAD, NExT-GQA


def test_timelens(tmp_path):
    bench = {"a": {"duration": 30, "spans": [[1, 2], [5, 40]], "queries": ["x", "y", "z"]}}
    event = {"query": "x", "span": [[1, 2], [3, 4]]}
    train = {"source": "s", "video_path": "s/b.mp4", "duration": 9, "events": [event]}
    files = [
        write(tmp_path, "qvhighlights-timelens.json", bench),
        write(tmp_path, "timelens-100k.jsonl", train),
    ]
    parsed = parse("timelens", files)
    assert rows_of(parsed) == [
        ("a", "test", 1.0, 2.0, "x"),
        ("a", "test", 5.0, 30.0, "y"),
        ("s/b", "train", 1.0, 2.0, "x"),
        ("s/b", "train", 3.0, 4.0, "x"),
    ]
    assert dict(parsed.problems.counts) == {
        "numbers of spans and queries differ": 1,
        "segment past the end": 1,
    }
    assert {row["query"] for row in parsed.records[1].attributes} == {"0"}  # two windows of one query


def test_tvr(tmp_path):
    row = {"vid_name": "a", "duration": 61.5, "ts": [16.5, 33], "desc": "x", "type": "vt", "desc_id": 90200}
    parsed = parse("tvr", [write(tmp_path, "tvr_val_release.jsonl", row)])
    assert rows_of(parsed) == [("a", "validation", 16.5, 33.0, "x")]
    assert parsed.records[0].attributes == [{"qid": "90200", "type": "vt"}]
    with pytest.raises(UserError, match=r"test_public_release\.jsonl:1: .* does not tell a query's video"):
        parse("tvr", [write(tmp_path, "tvr_test_public_release.jsonl", {"desc": "x", "desc_id": 1})])


def test_mad(tmp_path):
    entry = {"movie": "0001_F", "movie_duration": 5000.5, "sentence": "x", "timestamps": [7, 7.5]}
    content = {"12": entry | {"ext_timestamps": [6, 8.5]}, "13": entry}
    parsed = parse("mad", [write(tmp_path, "MAD_val.json", content)])
    assert rows_of(parsed) == [
        ("0001_F", "validation", 6.0, 8.5, "x"),
        ("0001_F", "validation", 7.0, 7.5, "x"),
    ]
    assert parsed.records[0].attributes == [{"qid": '"12"'}, {"qid": '"13"'}]


def test_nextgqa(tmp_path):
    table = 'video_id,question,answer,qid,type\n11,why,"a, b",3,CW\n11,who,he,4,TN\n12,who,he,0,TN\n'
    moments = {"11": {"duration": 34, "location": {"3": [[1.5, 5], [7, 8]]}, "fps": 30}}
    files = [write(tmp_path, "val.csv", table), write(tmp_path, "gsub_val.json", moments)]
    parsed = parse("nextgqa", [*files, write(tmp_path, "map.json", {"11": "0101/11"})])
    assert rows_of(parsed) == [
        ("0101/11", "validation", 1.5, 5.0, "why"),
        ("0101/11", "validation", 7.0, 8.0, "why"),
    ]
    assert parsed.records[0].attributes == [{"qid": "11_3", "type": "CW", "answer": "a, b"}] * 2
    expected = {"query without segments": 2, "missing duration": 1, "video without usable segments": 1}
    assert dict(parsed.problems.counts) == expected
    with pytest.raises(UserError, match=r"no gsub_\*\.json is given"):
        parse("nextgqa", files[:1])


# --- CrossTask, Assembly101


def test_crosstask(tmp_path):
    files = {
        "16815_a_b.csv": "1,39.9,42.1\n2,50,55.5\n3,1,2\n1,2\n",
        "23521_c.csv": "1,0.5,9\n",
        "tasks_primary.txt": "16815\nA\nhttp://x\n2\nadd salt,stir\n\n23521\nB\nhttp://y\n2\nstir,serve\n\n",
        "videos_val.csv": "16815,a_b,http://z\n",
    }
    paths = [write(tmp_path, name, text) for name, text in files.items()]
    parsed = parse("crosstask", paths)
    assert rows_of(parsed) == [
        ("a_b", "validation", *np.float32([39.9, 42.1]).tolist(), "add salt"),
        ("a_b", "validation", 50.0, 55.5, "stir"),
        ("c", "train", 0.5, 9.0, "stir"),
    ]
    assert parsed.classes == ["add salt", "serve", "stir"]
    assert dict(parsed.problems.counts) == {"unknown class": 1, "not an annotation line": 1}
    with pytest.raises(UserError, match=r"videos_val\.csv is not given"):
        parse("crosstask", paths[:3])
    with pytest.raises(UserError, match="tells no task"):
        parse("crosstask", [*paths, write(tmp_path, "9_d.csv", "1,2,3\n")])


def test_assembly101(tmp_path):
    files = {
        "assembly_x.txt": "000000030\t000000045\tattach wheel\n000000045\t000000090\tscrew wheel\nno tabs\n",
        "assembly_y.txt": "1\t2\tattach wheel\n",
        "train_coarse_assembly.txt": "assembly_x.txt\tshared\ta30\tsuv\nassembly_lost.txt\tshared\ta30\tsuv\n",
        "test_coarse_assembly.txt": "assembly_z.txt\tshared\n",
    }
    parsed = parse("assembly101", [write(tmp_path, name, text) for name, text in files.items()])
    assert rows_of(parsed) == [
        ("assembly_x", "train", 1.0, 1.5, "attach wheel"),
        ("assembly_x", "train", 1.5, 3.0, "screw wheel"),
    ]
    assert [(record.video_id, record.split) for record in parsed.records][1:] == [("assembly_z", "test")]
    counts = {"not an annotation line": 1, "video without ground truth": 1, "video in no split": 1}
    assert dict(parsed.problems.counts) == counts


# --- Exports of labelling tools


def _in(folder, split: str, name: str, content):
    (folder / split).mkdir(exist_ok=True)
    return write(folder / split, name, content)


def test_subtitles_of_two_formats(tmp_path):
    vtt = "WEBVTT - title\n\nNOTE 1 --> comment\n\ncue\n"
    vtt += "00:01.500 --> 00:00:04.000 line:0\n<v Ann>He <i>runs</i>\naway.\n\n"
    srt = (
        "1\r\n00:00:01,250 --> 01:00:04,000\r\n{\\an8}He sits.\r\n\r\n2\r\n00:00:09,0 --> 00:00:08,0\r\nx\r\n"
    )
    parsed = parse("subtitles", [_in(tmp_path, "train", "a.vtt", vtt), _in(tmp_path, "val", "b.srt", srt)])
    assert rows_of(parsed) == [
        ("a", "train", 1.5, 4.0, "He runs away."),
        ("b", "validation", 1.25, 3604.0, "He sits."),
    ]
    assert dict(parsed.problems.counts) == {"start >= end": 1}
    with pytest.raises(UserError, match="put it into a folder named train, val or test"):
        parse("subtitles", [_in(tmp_path, "films", "c.vtt", vtt)])


def test_elan(tmp_path):
    slots = "".join(f'<TIME_SLOT TIME_SLOT_ID="t{n}" TIME_VALUE="{n}500"/>' for n in (1, 4))
    slots += '<TIME_SLOT TIME_SLOT_ID="t9"/>'
    one = '<ALIGNABLE_ANNOTATION ANNOTATION_ID="{}" TIME_SLOT_REF1="{}" TIME_SLOT_REF2="{}">{}</ALIGNABLE_ANNOTATION>'
    value = "<ANNOTATION_VALUE>{}</ANNOTATION_VALUE>"
    rows = one.format("a1", "t1", "t4", value.format("walk")) + one.format(
        "a2", "t1", "t9", value.format("run")
    )
    rows += one.format("a3", "t1", "t4", value.format(" "))
    rows += f'<REF_ANNOTATION ANNOTATION_ID="a4" ANNOTATION_REF="a1">{value.format("fast")}</REF_ANNOTATION>'
    head = '<HEADER><MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/my%20videos/clip%201.mp4"/></HEADER>'
    text = (
        f"<ANNOTATION_DOCUMENT>{head}<TIME_ORDER>{slots}</TIME_ORDER><TIER TIER_ID='x'>"
        f"<ANNOTATION>{rows}</ANNOTATION></TIER></ANNOTATION_DOCUMENT>"
    )
    parsed = parse("elan", [_in(tmp_path, "test", "notes.eaf", text)])
    assert rows_of(parsed) == [("clip 1", "test", 1.5, 4.5, "walk"), ("clip 1", "test", 1.5, 4.5, "fast")]
    assert (parsed.classes, dict(parsed.problems.counts)) == (
        ["fast", "walk"],
        {"empty annotation": 1, "not a number": 1},
    )
    for wrong in ("<a/>", "no XML"):
        with pytest.raises(UserError, match=r"ANNOTATION_DOCUMENT"):
            parse("elan", [_in(tmp_path, "test", "wrong.eaf", wrong)])


_LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 9.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "actions 7"
        xmin = 0
        xmax = 9.5
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = "says ""a"" 3"
        intervals [2]:
            xmin = 1.5
            xmax = 9.5
            text = ""
    item [2]:
        class = "TextTier"
        name = "points"
        xmin = 0
        xmax = 9.5
        points: size = 1
        points [1]:
            number = 3
            mark = "x"
"""
_SHORT = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n9.5\n<exists>\n2\n"IntervalTier"\n"actions 7"\n0\n9.5\n'
    '2\n0\n1.5\n"says ""a"" 3"\n1.5\n9.5\n""\n"TextTier"\n"points"\n0\n9.5\n1\n3\n"x"\n'
)


@pytest.mark.parametrize("text", [_LONG, _SHORT], ids=["long", "short"])
def test_textgrid(tmp_path, text):
    parsed = parse("textgrid", [_in(tmp_path, "train", "clip.TextGrid", text)])
    assert rows_of(parsed) == [("clip", "train", 0.0, 1.5, 'says "a" 3')]
    assert parsed.records[0].duration_s == 9.5
    assert dict(parsed.problems.counts) == {"point without length": 1}
    with pytest.raises(UserError, match="ends too early"):
        parse("textgrid", [_in(tmp_path, "train", "cut.TextGrid", text[: len(text) // 2])])


def test_label_studio(tmp_path):
    ranges = {"ranges": [{"start": 11, "end": 30}], "timelinelabels": ["walk", "talk"]}
    sound = {"start": 1.5, "end": 4, "labels": ["music"]}
    box = {"sequence": [], "labels": ["person"]}
    results = [{"value": value} for value in (ranges, sound, box)]
    annotations = [{"result": results}, {"result": results, "was_cancelled": True}]
    task = {"data": {"video": "/data/upload/1/3d3ad63e-a.mp4?x=1"}, "annotations": annotations}
    export = _in(tmp_path, "val", "export.json", [task])
    parsed = parse("label_studio", [export, write(tmp_path, "rates.csv", "video,fps\na.mp4,10\n")])
    assert rows_of(parsed) == [
        ("a", "validation", 1.0, 3.0, "walk"),
        ("a", "validation", 1.0, 3.0, "talk"),
        ("a", "validation", 1.5, 4.0, "music"),
    ]
    assert dict(parsed.problems.counts) == {"label without times": 1}
    with pytest.raises(UserError, match=r"does not tell the frame rate of 'a\.mp4'"):
        parse("label_studio", [export])


def test_cvat(tmp_path):
    box = lambda frame, outside=0: f'<box frame="{frame}" outside="{outside}" xtl="1"/>'
    video = (
        "<annotations><meta><task><id>5</id><name>n</name><source>f/a.mp4</source></task></meta>"
        f'<track id="0" label="walk">{box(10)}{box(20)}{box(30, 1)}{box(50)}{box(59)}</track>'
        f'<track id="1" label="run">{box("x")}{box(4, 1)}</track></annotations>'
    )
    rates = write(tmp_path, "rates.csv", "video,fps\na.mp4,10\nb.mp4,10\n")
    parsed = parse("cvat", [_in(tmp_path, "val", "annotations.xml", video), rates])
    assert rows_of(parsed) == [("a", "validation", 1.0, 3.0, "walk"), ("a", "validation", 5.0, 6.0, "walk")]
    image = lambda number, *tags: f'<image id="{number}">{"".join(tags)}</image>'
    rain = '<tag label="rain"/>'
    images = "".join([image(0, rain), image(1, rain, '<tag label="wind"/>'), image(2), image(7, rain)])
    meta = "<meta><job><source>b.mp4</source></job></meta>"
    export = _in(tmp_path, "test", "b.xml", f"<annotations>{meta}{images}</annotations>")
    assert rows_of(parse("cvat", [export, rates])) == [
        ("b", "test", 0.0, pytest.approx(0.2), "rain"),
        ("b", "test", pytest.approx(0.7), pytest.approx(0.8), "rain"),
        ("b", "test", pytest.approx(0.1), pytest.approx(0.2), "wind"),
    ]
    with pytest.raises(UserError, match=r"does not tell the frame rate of 'b\.mp4'"):
        parse("cvat", [export])
    with pytest.raises(UserError, match="no tracks and no tags"):
        parse("cvat", [_in(tmp_path, "train", "c.xml", "<annotations/>")])


def test_fiftyone(tmp_path):
    content = {
        "classes": ["walk", "run"],
        "labels": {
            "a": [
                {"label": 1, "timestamps": [1.5, 4]},
                {"label": 0, "support": [11, 30], "confidence": 0.5},
                {"label": 2, "timestamps": [1.5, 4]},
                {"label": 0},
            ],
            "b": None,
        },
    }
    export = _in(tmp_path, "val", "labels.json", content)
    parsed = parse("fiftyone", [export, write(tmp_path, "rates.csv", "video,fps\na,10\n")])
    assert rows_of(parsed) == [("a", "validation", 1.5, 4.0, "run"), ("a", "validation", 1.0, 3.0, "walk")]
    assert dict(parsed.problems.counts) == {"unknown class": 1, "label without times": 1}
    with pytest.raises(UserError, match="does not tell the frame rate of 'a'"):
        parse("fiftyone", [export])
    names = {"labels": {"a": [{"label": "sit", "timestamps": [0, 1]}]}}
    assert rows_of(parse("fiftyone", [_in(tmp_path, "train", "l.json", names)])) == [
        ("a", "train", 0.0, 1.0, "sit")
    ]


def test_via(tmp_path):
    project = {
        "file": {"7": {"fname": "folder/a.mp4"}},
        "view": {"1": {"fid_list": ["7"]}},
        "attribute": {"1": {"options": {"0": "walk"}}, "2": {"options": {}}},
        "metadata": {
            "x": {"vid": "1", "z": [1.5, 4], "xy": [], "av": {"1": "0", "2": "4CV"}},
            "y": {"vid": "1", "z": [3], "xy": [], "av": {"1": "0"}},
        },
    }
    parsed = parse("via", [_in(tmp_path, "train", "project.json", project)])
    assert rows_of(parsed) == [("a", "train", 1.5, 4.0, "walk"), ("a", "train", 1.5, 4.0, "4CV")]
    assert dict(parsed.problems.counts) == {"point without length": 1}
