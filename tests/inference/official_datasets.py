"""A small file in the format of each dataset, and finders that know the answers or guess them."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from data_pipelines.annotations import parse
from unloc_jax import config as config_lib
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.queries import as_annotated, not_shown_classes
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import SplitPredictions, make_task
from unloc_jax.tasks.action_segmentation import frame_labels
from unloc_jax.tasks.highlight_detection import clip_labels
from unloc_jax.tasks.moment_retrieval import MomentRetrieval


@dataclasses.dataclass(frozen=True)
class Official:
    """One dataset.

    Attributes:
      file, content: the annotation file.
      split: ours, that it holds.
      task, protocol: what is evaluated, and how officially.
      same: printed name → official name of a number.
      best: what perfect predictions get, where it is not 100: official name → percent.
      options: of the protocol.
      more: further annotation files.
      dataset: whether `unloc metrics` needs --dataset, since the protocol does not read the files itself.
    """

    file: str
    content: str
    split: str
    task: str
    protocol: str
    same: dict[str, str]
    best: dict[str, float] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    more: dict[str, str] = dataclasses.field(default_factory=dict)
    dataset: bool = False

    def write(self, folder: Path) -> list[Path]:
        """The files, that of the ground truth first."""
        for name, content in {self.file: self.content, **self.more}.items():
            (folder / name).write_text(content, "utf-8")
        return [folder / name for name in (self.file, *self.more)]


def _lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _table(*rows: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _action(label: str, start: float, end: float, **more: Any) -> dict[str, Any]:
    return {"segment": [start, end], "label": label, **more}


_RECALL = {name: name for name in ("R1@0.3", "R1@0.5", "R1@0.7", "R5@0.3", "R5@0.5", "R5@0.7", "mIoU")}
_QVH = {"MR-mAP": "MR-full-mAP"} | {f"MR-mAP@{t}": f"MR-full-mAP@{t}" for t in ("0.5", "0.75")}
_QVH |= {f"MR-R1@{t}": f"MR-full-R1@{t}" for t in ("0.5", "0.7")}
_QVH |= {
    f"{ours}-{name}": f"HL-min-{name}-{theirs}"
    for name in ("Fair", "Good", "VeryGood")
    for ours, theirs in (("HL-mAP", "mAP"), ("HIT@1", "Hit1"))
}
_FRAMES = {
    "frame_accuracy": "accuracy",
    "frame_accuracy_without_background": "accuracy_without_background",
}
_DOMAINS = {"mAP": "mAP", "mAP_over_videos": "mAP_over_videos"}
_ACTIVITYNET = {"mAP@0.50:0.95": "average_mAP", "mAP@0.50": "mAP@0.50", "mAP@0.95": "mAP@0.95"}
# Double blanks, a line end, a no-break space; a combining accent; a sentence twice, once with the same times; times of
# more digits than are convenient; an end behind the video's.
_CAPTIONS = {
    "v_one": {
        "duration": 30.1,
        "timestamps": [[0.35, 9.7], [10.123456, 20.3], [12, 30.4], [1.1, 5], [1.1, 5], [2, 5]],
        "sentences": [
            "A man  sits down. ",
            " He\nstands\u00a0up.",
            "Cafe\u0301 noise",
            "He waves.",
            "He waves.",
            "He waves.",
        ],
    },
    "v_two": {
        "duration": 12,
        "timestamps": [[0, 6], [6, 12]],
        "sentences": ["A dog runs.", "A man  sits down. "],
    },
}
_EPIC = {
    "EPIC_100_verb_classes.csv": "id,key,instances\n0,take,x\n1,put,x\n2,turn-on,x\n",
    "EPIC_100_noun_classes.csv": "id,key,instances\n0,plate,x\n1,tap:hot,x\n",
    "EPIC_100_video_info.csv": "video_id,duration,fps,resolution\nP01_11,3700.5,50,x\nP01_12,61,50,x\n",
}
_EPIC_ROWS = _table(
    ("video_id", "start_timestamp", "stop_timestamp", "verb", "verb_class", "noun", "noun_class"),
    ("P01_11", "00:00:01.23", "00:00:03.40", "grab", 0, "dish", 0),
    ("P01_11", "01:01:01.23", "01:01:05.00", "put-down", 1, "dish", 0),
    ("P01_11", "00:10:00.00", "00:10:02.50", "turn-on", 2, "tap:hot", 1),
    ("P01_12", "00:00:50.01", "00:00:52.00", "grab", 0, "tap:hot", 1),
)


def _ego4d(*annotations: dict[str, Any]) -> str:
    clips = [
        {
            "clip_uid": f"c{number}",
            "video_start_sec": 30.02,
            "video_end_sec": 510.05,
            "annotations": [annotation],
        }
        for number, annotation in enumerate(annotations)
    ]
    return json.dumps({"version": "1", "videos": [{"video_uid": "v", "split": "val", "clips": clips}]})


def _moment(label: str, start: float, end: float, primary: bool = True) -> dict[str, Any]:
    return {"label": label, "primary": primary, "video_start_time": start, "video_end_time": end}


def _nlq(uid: str, *queries: tuple[str, float, float]) -> dict[str, Any]:
    rows = [{"query": text, "clip_start_sec": start, "clip_end_sec": end} for text, start, end in queries]
    return {"annotation_uid": uid, "language_queries": rows}


_EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT><TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="123"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="4567"/>
</TIME_ORDER><TIER TIER_ID="actions"><ANNOTATION>
<ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
<ANNOTATION_VALUE>walk  on</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>
"""
_PIECES = [[k * 50, k * 50 + 100] for k in range(17)]

OFFICIAL = {
    "activitynet": Official(
        "activity_net.json",
        json.dumps(
            {
                "database": {
                    "one": {
                        "duration": 80.5,
                        "subset": "validation",
                        "annotations": [
                            _action("Long  jump", 1.123456, 20.3),
                            _action("Long  jump", 1.123456, 20.3),
                            _action(" Ballet", 30, 90),
                            _action("Ballet", 40, 40),
                        ],
                    },
                    "two": {
                        "duration": 20,
                        "subset": "validation",
                        "annotations": [_action("Ballet", 0, 9.3), _action("Long  jump", 12, 15)],
                    },
                    "three": {"duration": 9, "subset": "training", "annotations": [_action("Ballet", 0, 3)]},
                }
            }
        ),
        "validation",
        "temporal_action_localization",
        "activitynet",
        _ACTIVITYNET,
    ),
    "activitynet_captions": Official(
        "val_1.json", json.dumps(_CAPTIONS), "validation", "moment_retrieval", "moment-retrieval", _RECALL
    ),
    "assembly101": Official(
        "assembly_a.txt",
        "000000007\t000000100\tattach  wheel\n000000100\t000000250\tscrew wheel\n",
        "validation",
        "action_segmentation",
        "segmentation",
        _FRAMES,
        more={
            "disassembly_a.txt": "000000010\t000000100\tunscrew wheel\n",
            "val_coarse_assembly.txt": "assembly_a.txt\tshared\ta30\tsuv\n",
            "val_coarse_disassembly.txt": "disassembly_a.txt\tshared\ta30\tsuv\n",
        },
        dataset=True,
    ),
    "charades_sta": Official(
        "charades_sta_test.txt",
        "AAAAA 0.0 6.9##person opens  the door.\nAAAAA 12.3 24.4##person sits. \nBBBBB 1.1 7##person opens  the door.\n"
        "BBBBB 1.1 7##person opens  the door.\n",
        "test",
        "moment_retrieval",
        "moment-retrieval",
        _RECALL,
        more={"Charades_v1_test.csv": _table(("id", "length"), ("AAAAA", 21.5), ("BBBBB", 30))},
    ),
    "coin": Official(
        "COIN.json",
        json.dumps(
            {
                "database": {
                    "one": {
                        "duration": 63,
                        "subset": "testing",
                        "class": "MakeTea",
                        "annotation": [
                            _action("boil  water", 0, 12.4, id="1"),
                            _action("cut", 10, 20, id="2"),
                            _action("pour", 30, 63, id="3"),
                        ],
                    },
                    "two": {
                        "duration": 21,
                        "subset": "testing",
                        "class": "MakeSalad",
                        "annotation": [_action("cut", 3, 20.5, id="4")],
                    },
                }
            }
        ),
        "test",
        "action_segmentation",
        "segmentation",
        _FRAMES,
    ),
    "crosstask": Official(
        "16815_a_b.csv",
        "1,39.9,42.1\n2,50,55.5\n1,60,61.25\n",
        "validation",
        "temporal_action_localization",
        "activitynet",
        _ACTIVITYNET,
        more={
            "23521_c.csv": "1,0.5,9\n",
            "tasks_primary.txt": "16815\nA\nhttp://x\n2\nadd  salt,stir\n\n23521\nB\nhttp://y\n1\nstir\n",
            "videos_val.csv": "16815,a_b,http://z\n23521,c,http://z\n",
        },
        dataset=True,
    ),
    "csv": Official(
        "own_test.csv",
        _table(
            ("video", "start", "end", "text", "duration"),
            ("a.mp4", 0.5, 3.3, "somebody  runs", 20),
            ("a.mp4", 5, 9, "a dog", 20),
            ("0012", 1, 3, "a dog", 20),
        ),
        "test",
        "moment_retrieval",
        "moment-retrieval",
        _RECALL,
    ),
    "didemo": Official(
        "test_data.json",
        json.dumps(
            [
                {
                    "video": video,
                    "description": text,
                    "num_segments": 6,
                    "times": times,
                    "annotation_id": number,
                }
                for number, (video, text, times) in enumerate(
                    [
                        ("1@N01_1_a.mov", "a red  circle", [[0, 0], [0, 1], [0, 1], [2, 2]]),
                        ("1@N01_1_a.mov", "a blue square", [[3, 3]] * 4),
                        ("1@N01_1_a.mov", "a red  circle", [[4, 5], [4, 5], [4, 4], [5, 5]]),
                        ("2@N02_2_b.avi", "a red  circle", [[1, 1], [1, 1], [1, 2], [1, 1]]),
                    ]
                )
            ]
        ),
        "test",
        "moment_retrieval",
        "moment-retrieval",
        _RECALL,
    ),
    "elan": Official(
        "a_test.eaf",
        _EAF,
        "test",
        "temporal_action_localization",
        "activitynet",
        _ACTIVITYNET,
        dataset=True,
    ),
    "ego4d_mq": Official(
        "moments_val.json",
        _ego4d(
            {"labels": [_moment("use_phone", 31.1, 40.33), _moment("use_phone", 41, 42, False)]},
            {"labels": [_moment("wash_dishes", 100.123, 140.33), _moment("use_phone", 300, 302.5)]},
        ),
        "validation",
        "temporal_action_localization",
        "activitynet",
        _ACTIVITYNET,
        dataset=True,
    ),
    "ego4d_nlq": Official(
        "nlq_val.json",
        _ego4d(
            _nlq("u1", ("where is  my phone?", 31.123, 33.3), ("where is  my phone?", 400, 410)),
            _nlq("u2", ("where is my phone?", 1.123, 13.3), ("what did I put on the table?", 40, 41)),
        ),
        "validation",
        "moment_retrieval",
        "moment-retrieval",
        _RECALL,
        dataset=True,
    ),
    **{
        name: Official(
            "EPIC_100_validation.csv",
            _EPIC_ROWS,
            "validation",
            "temporal_action_localization",
            "activitynet",
            _ACTIVITYNET,
            more=_EPIC,
            dataset=True,
        )
        for name in ("epic_kitchens", "epic_kitchens_nouns", "epic_kitchens_verbs")
    },
    "epic_sounds": Official(
        "EPIC_Sounds_validation.csv",
        _table(
            ("video_id", "start_timestamp", "stop_timestamp", "description", "class", "class_id"),
            ("P01_11", "00:00:01.235", "00:00:03.4", "rustle, paper", "rustle", 4),
            ("P01_11", "00:30:01.235", "00:30:03.4", "clang", "metal / wood collision", 1),
            ("P01_12", "00:00:10.001", "00:00:13.4", "clang", "metal / wood collision", 1),
        ),
        "validation",
        "temporal_action_localization",
        "activitynet",
        _ACTIVITYNET,
        more={"EPIC_100_video_info.csv": _EPIC["EPIC_100_video_info.csv"]},
        dataset=True,
    ),
    "jsonl": Official(
        "own_test.jsonl",
        _lines(
            {"video": 12, "duration": 9, "segments": [{"start": 0.1, "end": 2, "text": "rain  falls"}]},
            {
                "video": "12.5",
                "duration": 9,
                "segments": [
                    {"start": 3, "end": 8.7, "text": "rain falls"},
                    {"start": 0, "end": 1, "text": "snow"},
                ],
            },
        ),
        "test",
        "moment_retrieval",
        "moment-retrieval",
        _RECALL,
    ),
    "kinetics": Official(
        "validate.csv",
        _table(
            ("label", "youtube_id", "time_start", "time_end", "split"),
            *((f"class  {i % 7}", f"id{i}", i, i + 10, "validate") for i in range(9)),
        ),
        "validation",
        "classification",
        "classification",
        {"top1": "top1", "top5": "top5"},
    ),
    "cvat": Official(
        "test.xml",
        "<annotations><meta><project><tasks>"
        "<task><id>1</id><source>a.mp4</source></task><task><id>2</id><source>b.mp4</source></task>"
        "</tasks></project></meta>"
        '<track id="0" task_id="1" label="walk  on"><box frame="4" outside="0"/><box frame="35" outside="1"/></track>'
        '<track id="1" task_id="2" label="walk  on"><box frame="4" outside="0"/><box frame="77" outside="1"/></track>'
        "</annotations>",
        "test",
        "temporal_action_localization",
        "activitynet",
        _ACTIVITYNET,
        more={"rates.csv": _table(("video", "fps"), ("a.mp4", 29.97), ("b.mp4", 30))},
        dataset=True,
    ),
    "fiftyone": Official(
        "test.json",
        json.dumps(
            {
                "classes": ["walk", "run"],
                "labels": {
                    "a": [{"label": 0, "timestamps": [1.5, 4.25]}, {"label": 1, "support": [4, 35]}],
                    "b": [{"label": 0, "timestamps": [0.1, 3]}],
                },
            }
        ),
        "test",
        "temporal_action_localization",
        "activitynet",
        _ACTIVITYNET,
        more={"rates.csv": _table(("video", "fps"), ("a", 29.97))},
        dataset=True,
    ),
    "label_studio": Official(
        "test.json",
        json.dumps(
            [
                {
                    "data": {"video": f"/data/upload/1/3d3ad63e-{name}.mp4"},
                    "annotations": [
                        {
                            "result": [
                                {
                                    "value": {
                                        "ranges": [{"start": 4, "end": end}],
                                        "timelinelabels": ["walk  on"],
                                    }
                                }
                            ]
                        }
                    ],
                }
                for name, end in (("a", 35), ("b", 77))
            ]
        ),
        "test",
        "temporal_action_localization",
        "activitynet",
        _ACTIVITYNET,
        more={"rates.csv": _table(("video", "fps"), ("a.mp4", 29.97), ("b.mp4", 30))},
        dataset=True,
    ),
    "mad": Official(
        "MAD_test.json",
        json.dumps(
            {
                str(number): {
                    "movie": movie,
                    "movie_duration": 5409.04,
                    "sentence": sentence,
                    "timestamps": [0, 1],
                    "ext_timestamps": times,
                }
                for number, (movie, sentence, times) in enumerate(
                    [
                        ("0001_A_FILM", "She  runs.", [3000.12, 3003.4]),
                        ("0001_A_FILM", "She  runs.", [10.5, 12.0]),
                        ("1002_B", "She  runs.", [5400, 5409.04]),
                    ]
                )
            }
        ),
        "test",
        "moment_retrieval",
        "moment-retrieval",
        _RECALL,
        dataset=True,
    ),
    "ms_tcn": Official(
        "rgb-01-1.txt",
        "action_start\n" * 17 + "cut_tomato\n" * 250 + "place_tomato\n" * 31 + "cut_tomato\n" * 77,
        "test",
        "action_segmentation",
        "segmentation",
        _FRAMES,
        more={
            "rgb-02-1.txt": "cut_tomato\n" * 101 + "background\n" * 50,
            "rgb-02-2.txt": "cut_tomato\n" * 9,
            "mapping.txt": "0 cut_tomato\n1 place_tomato\n2 action_start\n3 background\n4 peel\n",
            "test.split2.bundle": "rgb-01-1.txt\nrgb-02-1.txt\n",
            "train.split2.bundle": "rgb-02-2.txt\n",
        },
        dataset=True,
    ),
    "nextgqa": Official(
        "test.csv",
        _table(
            ("video_id", "frame_count", "question", "answer", "qid", "type"),
            (12, 300, "why did the boy  jump", "to play, with it", 3, "CW"),
            (12, 300, "what did he do", "run", 8, "TN"),
            (13, 300, "why did the boy  jump", "happy", 3, "CW"),
        ),
        "test",
        "moment_retrieval",
        "moment-retrieval",
        _RECALL,
        # Two moments of one question: with one prediction the mean IoU takes the better one.
        more={
            "gsub_test.json": json.dumps(
                {
                    "12": {"duration": 35, "location": {"3": [[0.5, 12.6], [20, 23.3]], "8": [[0.5, 12.6]]}},
                    "13": {"duration": 19, "location": {"3": [[15.1, 19]]}},
                }
            )
        },
        dataset=True,
    ),
    "qvhighlights": Official(
        "highlight_val_release.jsonl",
        _lines(
            *(
                {
                    "qid": qid,
                    "query": query,
                    "duration": 30,
                    "vid": vid,
                    "relevant_windows": windows,
                    "relevant_clip_ids": clips,
                    "saliency_scores": [[4, 4, 4]] * len(clips),
                }
                for qid, query, vid, windows, clips in [
                    (8737, "a  cat", "a_0.0_30.0", [[0, 4], [10, 16]], [0, 1, 5, 6, 7]),
                    ("0012", "a dog", "a_0.0_30.0", [[20, 30]], [10, 11, 12, 13, 14]),
                    ("12", "a dog", "b_0.0_30.0", [[2, 6]], [1, 2]),
                ]
            )
        ),
        "validation",
        "highlight_detection",
        "qvhighlights",
        _QVH,
    ),
    "subtitles": Official(
        "a_test.vtt",
        "WEBVTT\n\n00:01.500 --> 00:04.250\nHe  <b>runs</b>.\n\n00:07.123 --> 00:08.000\nHe sits.\n",
        "test",
        "moment_retrieval",
        "moment-retrieval",
        _RECALL,
        more={"b_test.srt": "1\n01:00:01,100 --> 01:00:02,000\nHe  runs.\n"},
        dataset=True,
    ),
    "tacos": Official(
        "test.json",
        json.dumps(
            {
                "s30-d52.avi": {
                    "timestamps": [[141, 354], [361, 732], [141, 354], [600, 800]],
                    "sentences": ["She took  out kiwi", "He cut", "She took  out kiwi", "He cut"],
                    "fps": 29.4,
                    "num_frames": 790,
                },
                "s31-d1.avi": {
                    "timestamps": [[30, 90]],
                    "sentences": ["He cut"],
                    "fps": 29.4,
                    "num_frames": 900,
                },
            }
        ),
        "test",
        "moment_retrieval",
        "moment-retrieval",
        _RECALL,
    ),
    "textgrid": Official(
        "a_test.TextGrid",
        'File type = "ooTextFile"\nObject class = "TextGrid"\n0\n9.5\n<exists>\n1\n"IntervalTier"\n"one"\n0\n9.5\n2\n'
        '0\n1.234\n"walk  on"\n1.234\n9.5\n"run"\n',
        "test",
        "temporal_action_localization",
        "activitynet",
        _ACTIVITYNET,
        dataset=True,
    ),
    "thumos14": Official(
        "thumos14.json",
        json.dumps(
            {
                "database": {
                    "video_test_0000004": {
                        "subset": "Test",
                        "duration": 33.83,
                        "annotations": [
                            _action("CricketBowling", 0.2, 1.1),
                            _action("Diving", 5.5, 9.3),
                            _action("Diving", 35, 40),
                            _action("Ambiguous", 20, 22),
                        ],
                    },
                    "video_test_0000006": {
                        "subset": "Test",
                        "duration": 60,
                        "annotations": [
                            _action("Diving", 1.1, 3.7),
                            _action("CricketBowling", 40.25, 50),
                        ],
                    },
                }
            }
        ),
        "test",
        "temporal_action_localization",
        "thumos14",
        {"mAP@0.30:0.70": "average_mAP", "mAP@0.30": "mAP@0.30", "mAP@0.70": "mAP@0.70"},
    ),
    "timelens": Official(
        "charades-timelens.json",
        json.dumps(
            {
                "3MSZA": {
                    "duration": 30.96,
                    "spans": [[1.23, 4], [5, 30.96]],
                    "queries": ["He  sits.", "He runs."],
                },
                "AMT7R": {"duration": 21, "spans": [[0, 3.3]], "queries": ["He  sits."]},
            }
        ),
        "test",
        "moment_retrieval",
        "moment-retrieval",
        _RECALL,
        dataset=True,
    ),
    "tvr": Official(
        "tvr_val_release.jsonl",
        _lines(
            *(
                {
                    "vid_name": vid,
                    "duration": 61.46,
                    "ts": times,
                    "desc": text,
                    "type": kind,
                    "desc_id": number,
                }
                for number, (vid, times, text, kind) in enumerate(
                    [
                        ("friends_s01e03", [16.48, 33.87], "Phoebe  sits.", "v"),
                        ("friends_s01e03", [0, 2.29], "Monica tells Ross.", "vt"),
                        ("house_s02e01", [10, 12], "Phoebe  sits.", "t"),
                    ]
                )
            )
        ),
        "validation",
        "moment_retrieval",
        "moment-retrieval",
        _RECALL,
        dataset=True,
    ),
    "tvsum": Official(
        "tvsum_val.jsonl",
        _lines(
            *(
                {
                    "qid": vid,
                    "query": f"title  {vid}",
                    "duration": 10,
                    "vid": vid,
                    "label": [[float(value)] * 3 for value in values],
                    "domain": domain,
                }
                for vid, values, domain in [
                    ("-x", [1, 2, 5, 5, 1, 5, 5, 5, 1, 1], "BK"),
                    ("31", [5, 5, 4, 4, 1, 1, 4, 1, 2, 1], "PR"),
                    ("z", [1, 1, 1, 3, 1, 3, 3, 3, 1, 4], "PR"),
                ]
            )
        ),
        "validation",
        "highlight_detection",
        "tvsum",
        _DOMAINS,
    ),
    "via": Official(
        "test.json",
        json.dumps(
            {
                "file": {"1": {"fname": "a.mp4"}, "2": {"fname": "b.mp4"}},
                "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
                "attribute": {"1": {"options": {"0": "walk", "1": "run"}}},
                "metadata": {
                    "1_a": {"vid": "1", "z": [251.98692, 255.21135], "av": {"1": "0"}},
                    "1_b": {"vid": "1", "z": [1, 2.5], "av": {"1": "1"}},
                    "2_a": {"vid": "2", "z": [1.5, 4], "av": {"1": "0"}},
                },
            }
        ),
        "test",
        "temporal_action_localization",
        "activitynet",
        _ACTIVITYNET,
        dataset=True,
    ),
    "youcook2": Official(
        "youcookii_annotations_trainval.json",
        json.dumps(
            {
                "database": {
                    "x1": {
                        "duration": 100.5,
                        "subset": "validation",
                        "annotations": [
                            {"segment": [10, 20.3], "id": 0, "sentence": "rub  flour onto it"},
                            {"segment": [30, 41], "id": 1, "sentence": "fry"},
                            {"segment": [50, 61], "id": 2, "sentence": "fry"},
                        ],
                    },
                    "x2": {
                        "duration": 50,
                        "subset": "training",
                        "annotations": [{"segment": [1, 9], "id": 0, "sentence": "fry"}],
                    },
                }
            }
        ),
        "validation",
        "moment_retrieval",
        "moment-retrieval",
        _RECALL,
    ),
    "youtube_highlights": Official(
        "youtube_highlight_val.jsonl",
        _lines(
            {
                "qid": "own1",
                "vid": "own1",
                "query": "dog",
                "domain": "dog",
                "duration": 30.0,
                "frames": 900,
                "fps": 30.0,
                "clip": _PIECES,
                "label": [[int(k in (3, 4, 10, 11, 12))] for k in range(17)],
            },
            {
                "qid": 7,
                "vid": "own2",
                "query": "surfing",
                "domain": "surfing",
                "duration": 31.3,
                "label": [[1], [0], [-1], [1], [1], [0]],
            },
        ),
        "validation",
        "highlight_detection",
        "youtube-highlights",
        _DOMAINS,
    ),
}


class KnowingPredictor:
    """Finds the records' segments: all of them, or at random, as a model that has learnt nothing would."""

    def __init__(
        self,
        name: str,
        task: str,
        records: list[VideoRecord],
        split: str,
        classes: Sequence[str] | None,
        rng: np.random.Generator | None = None,
    ):
        metadata = DatasetMetadata(name, 5.0, 16, list(classes or []), [], "x")
        self.step_dir = None
        settings = {"task": task, "data": {"dir": name}}
        self.dataset = SimpleNamespace(
            metadata=metadata, splits=(split,), left_out={}, records=lambda _: records
        )
        self.task = make_task(config_lib.from_mapping(settings), metadata)
        self.task_name, self.metadata, self._records, self._rng = task, {}, records, rng

    def predict(self, split: str, texts: Sequence[Sequence[str]]) -> SplitPredictions:
        found = SplitPredictions([list(of_video) for of_video in texts])
        for record, of_video in zip(self._records, texts):
            self._add(found, record, list(of_video))
        return found

    def _add(self, found: SplitPredictions, record: VideoRecord, texts: list[str]) -> None:
        rng, kind = self._rng, self.task.config.task
        span_s = np.array([0.0, record.duration_s], np.float32)
        if kind == "classification":
            scores = np.array([text == record.texts[0] if record.texts else 0 for text in texts], np.float32)
            found.video_scores.append(scores if rng is None else rng.random(len(texts)).astype(np.float32))
        elif kind == "action_segmentation":
            number = {name: i for i, name in enumerate(texts)}
            own = frame_labels(record, span_s, 64, number)
            shown = np.where(own.any(1), own.argmax(1), -1)
            found.frame_classes.append(shown if rng is None else rng.integers(-1, len(texts), 64))
        else:
            answers = [np.reshape(of_text, (-1, 2)) for of_text in self._answers(record, texts)]
            count = max([1, *map(len, answers)]) if rng is None else 7
            segments_s = np.zeros((len(texts), count, 2), np.float32)
            scores = np.zeros((len(texts), count), np.float32)
            for row, of_text in enumerate(answers):
                segments_s[row, : len(of_text)] = of_text
                scores[row, : len(of_text)] = np.linspace(1, 0.9, count)[: len(of_text)]
            if rng is not None:
                segments_s = np.sort(rng.uniform(0, record.duration_s, segments_s.shape)).astype(np.float32)
                scores = -np.sort(-rng.random(scores.shape).astype(np.float32))
                # Near the truth at times, so that thresholds are crossed.
                for row, of_text in enumerate(answers):
                    at = rng.integers(0, 7 - len(of_text))
                    segments_s[row, at : at + len(of_text)] = np.sort(
                        of_text + rng.uniform(-1, 1, of_text.shape)
                    )
            found.segments_s.append(segments_s)
            found.scores.append(scores)
            if kind == "highlight_detection":
                self._add_curve(found, record, span_s, len(texts))
                return
        found.spans_s.append(span_s)

    def _answers(self, record: VideoRecord, texts: list[str]) -> list[list[Any]]:
        if isinstance(self.task, MomentRetrieval):
            own = [query.windows_s.tolist() for query in self.task.queries([record])[0]]
            return own + [[]] * (len(texts) - len(own))
        every = [*zip(record.texts, as_annotated(record).tolist())]
        every += [(text, [start, end]) for text, start, end in not_shown_classes(record)]
        return [[segment for name, segment in every if name == text] for text in texts]

    def _add_curve(
        self, found: SplitPredictions, record: VideoRecord, span_s: np.ndarray, count: int
    ) -> None:
        if self._rng is not None:
            found.curves.append(self._rng.random((count, 40)).astype(np.float32))
            found.spans_s.append(span_s)
            return
        labels = [clip_labels(record, query) for query in self.task.queries([record])[0]]
        if any(of_query is None for of_query in labels):
            found.curves.append(np.zeros((count, 8), np.float32))
            found.spans_s.append(span_s)
            return
        # One value in the middle of every piece; pieces of these files have equal distances.
        pieces = json.loads(record.attributes[0].get("pieces", "[]"))
        middles_s = [(start + end) / 2 for start, end, *_ in pieces] or [1.0, 2 * len(labels[0]) - 1.0]
        found.curves.append(np.stack([of_query.mean(axis=1) for of_query in labels]).astype(np.float32))
        found.spans_s.append(np.array([middles_s[0], middles_s[-1]], np.float32))


def records_of(name: str, files: list[Path], split: str) -> tuple[list[VideoRecord], Sequence[str] | None]:
    """The records that a build of these files stores (a length they lack: the end of the last segment)."""
    parsed = parse(name, files)
    records = [record for record in parsed.records if record.split == split]
    for record in records:
        record.duration_s = record.duration_s or float(record.segments_s.max(initial=1.0))
    return records, parsed.classes
