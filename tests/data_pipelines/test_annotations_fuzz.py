"""Whatever is in an annotation file, a parser returns or raises UserError, in time, and its result can be reported."""

import copy
import json
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_pipelines.annotations import PARSERS, parse
from data_pipelines.annotations.statistics import statistics
from unloc_jax.errors import UserError

_ANNOTATIONS = [
    {"segment": [1, 2.5], "label": "x", "sentence": "s", "id": 3},
    {"segment": [0, 9], "label": "y"},
]
_VIDEO = {"duration": 9.5, "subset": "train", "class": "AB", "annotations": _ANNOTATIONS}
_DATABASE = {"database": {"a": _VIDEO, "video_test_01": {**_VIDEO, "subset": "test"}}}
_CAPTIONS = {
    "a": {"duration": 9, "timestamps": [[0, 1], [2, 9]], "sentences": ["x", "y"], "fps": 25, "num_frames": 90}
}
_SCORED = {
    "qid": 1,
    "vid": "a",
    "query": "x",
    "duration": 6,
    "relevant_windows": [[0, 2], [4, 6]],
    "relevant_clip_ids": [0, 2],
    "saliency_scores": [[1, 2], [3, 4]],
}
_LABELLED = {
    **{"vid": "a", "query": "x", "duration": 6, "label": [[0], [1], [1]]},
    **{"clip": [[0, 20], [10, 40], [40, 60]], "fps": 10.0, "frames": 60},
}
_OWN = {"video": "a.mp4", "start": 1, "end": 2, "text": "x", "split": "train", "duration": 5}
_DIDEMO = {
    "video": "a.mov",
    "description": "x",
    "num_segments": 6,
    "times": [[0, 0], [1, 2]],
    "annotation_id": 4,
}
_TABLE = "label,youtube_id,time_start,time_end,split\nx,a,1,11,train\ny,b,2,12,val\n"
_EPIC = {
    "EPIC_100_train.csv": "video_id,start_timestamp,stop_timestamp,verb,verb_class,noun,noun_class\n"
    'P01_01,00:00:01.5,00:00:02.5,put-down,1,plate,0\nP01_01,00:01:00,00:01:02.5,"take, up",0,plate,0\n',
    "EPIC_100_verb_classes.csv": "id,key,instances\n0,take,\"['a', 'b']\"\n1,put,x\n",
    "EPIC_100_noun_classes.csv": "id,key,instances\n0,board:chopping,x\n",
    "EPIC_100_video_info.csv": "video_id,duration,fps\nP01_01,90.5,50\n",
    "EPIC_100_test_timestamps.csv": "video_id,start_timestamp,stop_timestamp\nP02_01,00:00:01,00:00:02\n",
}


def _ego4d(**annotation: Any) -> dict[str, Any]:
    clip = {"clip_uid": "c", "video_start_sec": 1.5, "video_end_sec": 9.5, "annotations": [annotation]}
    return {"videos": [{"video_uid": "v", "split": "val", "clips": [clip]}]}


_QUERY = {"query": "x", "template": "t", "clip_start_sec": 1, "clip_end_sec": 2.5}
_MOMENT = {"label": "x", "primary": True, "video_start_time": 2, "video_end_time": 3.5}
_MAD = {"movie": "m", "movie_duration": 99.5, "sentence": "x", "timestamps": [1, 2.5]}

_EAF = """<ANNOTATION_DOCUMENT><HEADER><MEDIA_DESCRIPTOR MEDIA_URL="file:///d/a%20b.mp4"/></HEADER><TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="100"/><TIME_SLOT TIME_SLOT_ID="t2" TIME_VALUE="2500"/></TIME_ORDER>
<TIER TIER_ID="one"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2">
<ANNOTATION_VALUE>walk</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="two"><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a2" ANNOTATION_REF="a1">
<ANNOTATION_VALUE>fast</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"""
_TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.5
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "one"
        xmin = 0
        xmax = 2.5
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 1
            text = "say ""a"" now"
        intervals [2]:
            xmin = 1
            xmax = 2.5
            text = ""
"""
_RANGES = {"ranges": [{"start": 5, "end": 15}], "timelinelabels": ["walk"]}
_STUDIO = {
    "data": {"video": "/data/upload/1/3d3ad63e-a.mp4", "fps": 25},
    "annotations": [{"result": [{"value": _RANGES}, {"value": {"start": 1, "end": 2, "labels": ["run"]}}]}],
}
_VIA = {
    "file": {"1": {"fname": "a.mp4"}},
    "view": {"1": {"fid_list": ["1"]}},
    "attribute": {"1": {"options": {"0": "walk"}}},
    "metadata": {"1_a": {"vid": "1", "z": [1.5, 4], "av": {"1": "0"}}},
}

_CVAT = """<annotations><meta><task><id>1</id><source>b.mp4</source></task></meta><track id="0" label="walk">
<box frame="3" outside="0"/><box frame="9" outside="1"/></track><image id="4" name="x"><tag label="run"/></image>
</annotations>"""
_FIFTYONE = {
    "classes": ["walk"],
    "labels": {"b": [{"label": 0, "timestamps": [1.5, 4]}, {"label": 0, "support": [3, 30]}]},
}

# Per dataset the files it is given: name → content; text, or an object that becomes JSON, or a list: JSON Lines.
_FILES: dict[str, dict[str, Any]] = {
    "activitynet": {"a.json": _DATABASE, "subsets.csv": "video,subset\na,training\n"},
    "activitynet_captions": {"train.json": _CAPTIONS},
    "assembly101": {
        "assembly_a.txt": "0\t30\tattach wheel\n30\t75\tscrew\n",
        "train_coarse_assembly.txt": "assembly_a.txt\tshared\ta30\tsuv\n",
        "test_coarse_assembly.txt": "assembly_b.txt\tshared\n",
    },
    "charades_sta": {"train.txt": "AB 0.0 5.5##x y\nAB 1 2##z\n", "lengths.csv": "id,length\nAB,9.5\n"},
    "coin": {
        "COIN.json": _DATABASE,
        "taxonomy.json": {"steps": [{"action_id": 3, "label": "x", "task": "AB"}]},
    },
    "crosstask": {
        "11_vid_1.csv": "1,0.5,2\n2,3,4.5\n",
        "tasks_primary.txt": "11\nMake tea\nhttp://x\n2\nboil water,pour\n\n",
        "videos_val.csv": "11,other,http://y\n",
    },
    "csv": {"train.csv": "video,start,end,text,split,duration\na.mp4,1,2,x,train,5\nb,0,1,y,test,\n"},
    "cvat": {"train.xml": _CVAT, "rates.csv": "video,fps\nb.mp4,25\n"},
    "fiftyone": {"train.json": _FIFTYONE, "rates.csv": "video,fps\nb,25\n"},
    "didemo": {"train.json": {"list": [_DIDEMO, _DIDEMO]}},
    "ego4d_mq": {"moments_val.json": _ego4d(labels=[_MOMENT, {**_MOMENT, "primary": False}])},
    "ego4d_nlq": {"nlq_val.json": _ego4d(annotation_uid="u", language_queries=[_QUERY, _QUERY])},
    "elan": {"train.eaf": _EAF},
    "epic_kitchens": _EPIC,
    "epic_kitchens_nouns": _EPIC,
    "epic_kitchens_verbs": _EPIC,
    "epic_sounds": {
        "train.csv": "video_id,start_timestamp,stop_timestamp,class,class_id\nP01_01,00:00:01.5,00:00:02.5,clang,3\n",
        "lengths.csv": "video_id,duration,fps\nP01_01,90.5,50\n",
    },
    "jsonl": {"train.jsonl": [_OWN, {"video": "b", "segments": [{"start": 1, "end": 2, "text": "x"}]}]},
    "kinetics": {"train.csv": _TABLE},
    "label_studio": {"train.json": {"list": [_STUDIO, _STUDIO]}, "rates.csv": "video,fps\nb.mp4,25\n"},
    "mad": {"MAD_val.json": {"7": _MAD, "8": {**_MAD, "sentence": "y"}}},
    "ms_tcn": {
        "rgb-01-1.txt": "cut\ncut\npour\nbackground\n",
        "rgb-02-1.txt": "pour\n" * 3,
        "mapping.txt": "0 cut\n1 pour\n2 background\n",
        "train.split1.bundle": "rgb-01-1.txt\n",
        "test.split1.bundle": "rgb-02-1.txt\n",
        "rates.csv": "video,fps\nrgb-01-1,15\n",
    },
    "nextgqa": {
        "val.csv": "video_id,question,answer,qid,type\n11,what is it,a dog,3,TN\n11,who,he,4,CW\n",
        "gsub_val.json": {"11": {"duration": 9, "location": {"3": [[1, 2], [3, 4.5]], "4": [[0, 9]]}}},
        "map_vid_vidorID.json": {"11": "0101/11"},
    },
    "qvhighlights": {"val.jsonl": [_SCORED, {"vid": "a", "query": "y", "duration": 6}]},
    "subtitles": {
        "train.vtt": "WEBVTT\n\n1\n00:01.500 --> 00:00:04.000 align:left\nHe <i>runs</i>\naway\n",
        "val.srt": "1\n00:00:01,5 --> 00:00:04,000\nHe runs\n",
    },
    "tacos": {"train.json": _CAPTIONS},
    "textgrid": {"train.TextGrid": _TEXTGRID},
    "thumos14": {"a.json": _DATABASE, "Diving_val.txt": "b 1 2\nc 0.5 9\n", "Ambiguous_val.txt": "b 1 2\n"},
    "timelens": {
        "charades-timelens.json": {"a": {"duration": 9, "spans": [[0, 1], [2, 9]], "queries": ["x", "y"]}},
        "100k.jsonl": [
            {"video_path": "v/b.mp4", "duration": 9, "events": [{"query": "x", "span": [[1, 2]]}]}
        ],
    },
    "tvr": {
        "train.jsonl": [
            {"vid_name": "a", "duration": 9, "ts": [1, 2.5], "desc": "x", "type": "vt", "desc_id": 4},
            {"vid_name": "a", "duration": 9, "ts": [0, 2.5], "desc": "y", "type": "v", "desc_id": 5},
        ]
    },
    "tvsum": {"train.jsonl": [_LABELLED, {**_LABELLED, "vid": "b", "clip": None}]},
    "via": {"train.json": _VIA},
    "youcook2": {"a.json": _DATABASE, "train.json": _CAPTIONS},
    "youtube_highlights": {"train.jsonl": [_LABELLED], "val.json": {"c": _LABELLED}},
}

_odd_text = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", " ", "-1", "1e999", "nan", "0x1", "9" * 400, "\x00", "a\nb", "../a", "Ambiguous", "é" * 300]
    ),
)
_odd_numbers = st.one_of(
    st.sampled_from([0, -1, 10**30, 10**400, 604800, 604801, 1e-320, 1e308, -1e308, float("nan")]),
    st.integers(),
    st.floats(),
)
_odd_values = st.recursive(
    st.one_of(st.none(), st.booleans(), _odd_numbers, _odd_text),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["segment", "label", "start", "vid", "a"]), inner, max_size=4),
    ),
    max_leaves=6,
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside a JSON value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *_places(value[key])]]


@st.composite
def _mutated_json(draw, value: Any) -> Any:
    root = [copy.deepcopy(value)]
    for _ in range(draw(st.integers(1, 4))):
        action = draw(st.sampled_from(["change", "change", "change", "replace", "delete", "insert", "copy"]))
        leaves = [(into, key) for into, key in _places(root) if not isinstance(into[key], dict | list)]
        if action == "change" and leaves:  # most faults hide behind what looks right
            container, key = draw(st.sampled_from(leaves))
            container[key] = draw(_odd_text if isinstance(container[key], str) else _odd_numbers)
            continue
        container, key = draw(st.sampled_from(_places(root)))
        if action == "delete" and container is not root:
            del container[key]
        elif action == "insert" and isinstance(container[key], list):
            container[key].append(draw(_odd_values))
        elif action == "copy":
            source, at = draw(st.sampled_from(_places(root)))
            container[key] = copy.deepcopy(source[at])
        else:
            container[key] = draw(_odd_values)
    return root[0]


@st.composite
def _mutated_bytes(draw, data: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 3))):
        cells = [match.span() for match in re.finditer(rb"[^\s,:#]+", data)]
        if cells and draw(st.booleans()):
            start, end = draw(st.sampled_from(cells))
        else:
            start = draw(st.integers(0, len(data)))
            end = draw(st.integers(start, min(len(data), start + 12)))
        new = draw(
            st.one_of(
                st.binary(max_size=4),
                _odd_text.map(lambda text: text.encode("utf-8", "replace")),
                _odd_numbers.map(lambda number: str(number).encode()),
                st.sampled_from(
                    [b",", b'"', b"\n", b"\r", b"##", b"[", b"{", b"\\ud800", b"\xff", b"1e9", data[:40]]
                ),
            )
        )
        data = data[:start] + new + data[end:]
    return data


def _encoded(name: str, content: Any) -> bytes:
    if isinstance(content, str):
        return content.encode()
    if name.endswith(".jsonl"):
        rows = content if isinstance(content, list) else [content]
        return "\n".join(json.dumps(row) for row in rows).encode("utf-8", "replace")
    if isinstance(content, dict) and content.keys() & {"list", "steps"}:  # a list at the top of a JSON file
        (content,) = content.values()
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")


@pytest.mark.parametrize("dataset", sorted(PARSERS))
def test_the_files_are_good_before_they_are_mutated(tmp_path, dataset):
    parsed = _parse(
        tmp_path, dataset, {name: _encoded(name, content) for name, content in _FILES[dataset].items()}
    )
    assert parsed.records


@pytest.mark.parametrize("dataset", sorted(PARSERS))
def test_mutated_files(dataset):
    _fuzz(dataset)


def _fuzz(dataset: str) -> None:
    @settings(max_examples=150, deadline=60_000, database=None, derandomize=True)
    @given(st.data())
    @example(None)
    def run(data):
        files = {name: _encoded(name, content) for name, content in _FILES[dataset].items()}
        if data is not None:
            name = data.draw(st.sampled_from(sorted(files)))
            content = _FILES[dataset][name]
            if not isinstance(content, str):
                files[name] = _encoded(name, data.draw(_mutated_json(content)))
            if isinstance(content, str) or data.draw(st.integers(0, 3)) == 0:
                files[name] = data.draw(_mutated_bytes(files[name]))
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                parsed = _parse(Path(folder), dataset, files)
            except UserError as error:
                str(error).encode()
                return
            json.dumps(statistics(parsed), allow_nan=False)
            parsed.problems.table().encode()
            for record in parsed.records:
                assert record.segments_s.dtype == "float32"
                assert record.segments_s.shape[1:] == (2,)
                assert (record.segments_s[:, 0] < record.segments_s[:, 1]).all()
                if record.texts:
                    assert len(record.texts) == len(record.attributes) >= len(record.segments_s)
                else:  # what cannot be shown may stand alone, as may a video of a hidden split
                    assert all(each.keys() <= {"not_shown", "vid"} for each in record.attributes)
                    assert len(record.segments_s) == 0
                assert all(scores.ndim == 2 for scores in record.saliency.values())

    run()


def _parse(folder: Path, dataset: str, files: dict[str, bytes]):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return parse(dataset, [folder / name for name in files])
