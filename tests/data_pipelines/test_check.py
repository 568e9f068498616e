"""`unloc data check`: what it counts, what it finds in videos, and what it prints."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.annotations.statistics import suggest_pyramid
from data_pipelines.check import check, probe_all, to_text
from tests.timed_video import regular_times_ms, write_video
from unloc_jax.cli import _parser
from unloc_jax.config import load

REAL = Path(__file__).parents[3] / "shared" / "annotations"


def _captions(folder: Path, **videos) -> Path:
    path = folder / "train.json"
    content = {
        name: {
            "duration": duration,
            "timestamps": segments,
            "sentences": [f"text {i}" for i in range(len(segments))],
        }
        for name, (duration, segments) in videos.items()
    }
    path.write_text(json.dumps(content))
    return path


def test_what_is_counted(tmp_path):
    path = _captions(
        tmp_path, a=(10, [[0, 1], [0, 1.5], [2, 12], [5, 5], [6, 5]]), b=(20, [[0, 20]]), c=(5, [[3, 3]])
    )
    result = check("activitynet_captions", [path])
    assert (result["videos"], result["segments"], result["texts"], result["classes"]) == (3, 7, 3, 0)
    assert result["usable"] == {"videos": 2, "segments": 4}
    assert result["splits"] == {"train": {"videos": 3, "segments": 7, "texts": 3}}
    assert result["problems"] == {
        "zero length": 2,
        "segment past the end": 1,
        "start >= end": 1,
        "video without usable segments": 1,
    }
    assert result["lengths"]["videos_s"] == {"min": 10.0, "median": 15.0, "mean": 15.0, "max": 20.0}
    assert result["lengths"]["segments_s"] == {"min": 1.0, "median": 4.75, "mean": 7.625, "max": 20.0}
    # 10 % is in the first bin, 15 % in the second, 80 % in the eighth, all of the video in the last.
    assert result["relative_lengths"] == [1, 1, 0, 0, 0, 0, 0, 1, 0, 1]
    assert result["examples"]["start >= end"] == [{"where": "train.json: a", "detail": "segment [6, 5]"}]
    page = to_text(result)
    assert page.startswith(
        "activitynet_captions: 3 videos, 7 segments, 3 texts in train.json\nusable: 2 videos, 4"
    )
    assert re.search(r"^   0 to  10 % +1  #+$", page, re.M)
    assert re.search(r"^ +2  zero length\n +- train.json: a: segment \[5, 5\]$", page, re.M)


def test_nothing_to_draw(tmp_path):
    result = check("activitynet_captions", [_captions(tmp_path, a=(None, [[0, 1]]))])
    assert result["suggested"] is None
    assert result["unknown_durations"] == 1
    assert "duration missing: of 1 videos" in to_text(result)
    empty = check("activitynet_captions", [_captions(tmp_path)])
    assert (empty["videos"], empty["lengths"]["segments_s"]) == (0, None)
    assert "problems: none" in to_text(empty)


@pytest.mark.parametrize(
    ("length", "num_levels"),
    # Three quarters of the length in grid units against 4, 8, 16, …: T = 129 makes the grid 128 long.
    [(0.01, 1), (4 / 96, 1), (4.2 / 96, 2), (8.2 / 96, 3), (0.3, 4), (0.6, 5), (1.0, 6)],
)
def test_suggested_levels(length, num_levels):
    """As many as the longest 5 % need."""
    lengths = np.linspace(0.003, length, 1000) ** 2 / length + 1e-4
    lengths[-100:] = length
    suggested = suggest_pyramid(lengths, num_frames=129)
    assert len(suggested["regression_ranges"]) == suggested["num_levels"] <= num_levels
    assert suggested["num_levels"] >= num_levels - 1  # one less where two would share a grid unit
    assert suggested["regression_ranges"][0][0] == 0
    assert suggested["regression_ranges"][-1][1] is None


def test_no_suggested_level_is_narrower_than_a_frame():
    """DiDeMo has segments of 5 to 30 s of 30 s, most of them 5 s: (15.875, 15.876) was suggested for them."""
    lengths = np.repeat(np.arange(1, 7) / 6, [700, 150, 50, 20, 10, 70])
    ranges = suggest_pyramid(lengths, num_frames=128)["regression_ranges"]
    assert len(ranges) > 1 and all(high is None or high - low >= 1 for low, high in ranges)
    assert len(suggest_pyramid(np.array([0.2, 0.6]), 128)["regression_ranges"]) <= 3  # of two segments


@pytest.mark.parametrize("lengths", [[0.01], [0.2] * 9, [0.2, 0.6], [0.001, 0.01, 0.1, 1.0] * 5], ids=str)
def test_what_is_suggested_can_be_pasted(tmp_path, lengths):
    videos = {f"v{i}": (100, [[0, 100 * length]]) for i, length in enumerate(lengths)}
    result = check("activitynet_captions", [_captions(tmp_path, **videos)])
    pasted = [
        line for line in to_text(result).splitlines() if "--config." in line and "unloc train" not in line
    ]
    (tmp_path / "config.py").write_text("def get_config():\n  return {}\n")
    words = shlex.split(f"train --config={tmp_path / 'config.py'} --workdir=x {' '.join(pasted)}")
    known, rest = _parser().parse_known_args(words)
    assert len(rest) == 3
    config = load(known.config, [word.removeprefix("--config.") for word in rest])
    suggested = result["suggested"]
    assert config.data.num_frames == suggested["num_frames"]
    ranges = [
        [low, high if np.isfinite(high) else None] for low, high in config.model.pyramid.regression_ranges
    ]
    assert ranges == suggested["regression_ranges"]


def test_segments_that_are_answers_of_several_people_are_accounted_for(tmp_path):
    path = tmp_path / "train_data.json"
    entries = [
        {"video": "a.mov", "description": f"text {i}", "num_segments": 6, "times": times, "annotation_id": i}
        for i, times in enumerate([[[0, 0]] * 3 + [[1, 2]], [[1, 1], [2, 2], [2, 2], [3, 2]]])
    ]
    path.write_text(json.dumps(entries))
    result = check("didemo", [path])
    assert (result["segments"], result["usable"]["segments"], result["merged"]) == (8, 4, 3)
    assert result["problems"] == {"start >= end": 1}
    page = to_text(result)
    assert "3 segments are answers that equal another annotator's" in page
    assert "1 segments are left out: see the problems" in page


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ([("a", 0, 9.9, "x"), ("b", 0, 10, "y")], "every segment is its whole video, so there is nothing to localise"),
        ([("a", 0, 5, "x"), ("b", 0, 5, "y")], "every video has one segment, with a text that is never compared"),
        ([("a", 0, 5, "x"), ("a", 5, 9, "x"), ("b", 0, 5, "x")], "there is one text only, 'x'"),
        ([("a", 0, 0.05, "x"), ("a", 5, 5.05, "y"), ("b", 0, 5, "z")], "2 of 3 segments are shorter than the step"),
        ([("a", 0, 5, "x"), ("a", 5, 9, "y"), ("b", 0, 5, "x")], None),
    ],
)  # fmt: skip
def test_notes(tmp_path, rows, note):
    path = tmp_path / "train.csv"
    lines = [f"{video},{start},{end},{text},10" for video, start, end, text in rows]
    path.write_text("\n".join(["video,start,end,text,duration", *lines]))
    result = check("csv", [path])
    assert len(result["notes"]) == (note is not None)
    assert (f"note: {note}" in to_text(result)) if note else ("note:" not in to_text(result))


def test_notes_on_classes(tmp_path):
    path = tmp_path / "all.csv"
    rows = ["a,0,5,run,10,train", "b,0,5,run,10,train", "c,0,5,jump,10,test"]
    path.write_text("\n".join(["video,start,end,label,duration,split", *rows]))
    notes = check("csv", [path])["notes"]
    assert len(notes) == 2 and notes[0].startswith("every video has one segment: a model learns")
    assert notes[1] == "1 of 2 classes have no training video, such as 'jump'"


def test_suggested_ranges_share_the_segments():
    lengths = np.random.default_rng(0).uniform(0.02, 1, 1000)
    ranges = suggest_pyramid(lengths, num_frames=128)["regression_ranges"]
    counts = [
        ((0.75 * 127 * lengths >= low) & (0.75 * 127 * lengths < (high or np.inf))).sum()
        for low, high in ranges
    ]
    np.testing.assert_allclose(counts, 1000 / len(ranges), rtol=0.05)


def test_json_on_standard_output_and_nothing_else(tmp_path, unloc):
    path = _captions(tmp_path, a=(10, [[0, 1], [6, 5]]))
    ran = unloc("data", "check", "--dataset=activitynet_captions", "--annotations", path, "--json").ok()
    result = json.loads(ran.out)
    assert (result["videos"], result["segments"], result["problems"]) == (1, 2, {"start >= end": 1})
    message = unloc("data", "check", "--dataset=coin", "--annotations", path, "--json").error()
    assert re.search(r'train.json: COIN looks like .*; the entry "a" does not, nor does any other', message)


def test_a_missing_folder_is_one_message(tmp_path, unloc):
    path = _captions(tmp_path, a=(10, [[0, 1]]))
    words = ("data", "check", "--dataset=activitynet_captions", "--annotations", path)
    assert "there is no such video folder" in unloc(*words, f"--videos={tmp_path / 'no'}").error()


@pytest.mark.slow
def test_videos(tmp_path, capsys):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("good", "v_long", "unknown"):
        write_video(folder / f"{name}.mp4", regular_times_ms(3.0))
    (folder / "broken.mp4").write_bytes(b"no video")
    path = _captions(
        tmp_path,
        good=(3.0, [[0, 1]]),
        long=(60.0, [[0, 1], [2, 9], [30, 40]]),
        after=(60.0, [[30, 40]]),
        unknown=(None, [[0, 1.5]]),
        broken=(3.0, [[0, 1]]),
        nowhere=(3.0, [[0, 1]]),
    )
    shutil.copy(folder / "good.mp4", folder / "after.mp4")
    result = check("activitynet_captions", [path], folder, workers=2)
    assert result["problems"] == {
        "duration differs from the video": 2,
        "segment after the video's end": 2,
        "segment clipped to the video": 1,
        "missing duration": 1,
        "missing video": 1,
        "undecodable video": 1,
        "video without usable segments": 1,
    }
    assert result["unknown_durations"] == 0
    assert result["usable"] == {"videos": 5, "segments": 6}
    assert "not a video file" in result["examples"]["undecodable video"][0]["detail"]
    assert "nowhere" in result["examples"]["missing video"][0]["detail"]
    shown = capsys.readouterr()
    assert "opening videos: 100%" in shown.err
    assert not shown.out


@pytest.mark.slow
def test_pictures_that_start_late_and_lengths_that_no_header_tells(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    times_ms = regular_times_ms(3.0)
    write_video(folder / "late.mp4", [t + 3000 for t in times_ms], sound_s=6.0)
    write_video(folder / "live.mkv", [*times_ms, 40_000], live=True)
    write_video(folder / "early.mkv", times_ms, sound_s=20.0)
    path = _captions(
        tmp_path,
        late=(6.0, [[0, 1], [4, 6]]),
        live=(40.0, [[0, 1], [38, 40]]),
        early=(20.0, [[0, 1], [1, 5], [6, 7]]),
    )
    result = check("activitynet_captions", [path], folder, workers=1)
    assert result["problems"] == {
        "picture starts later than the sound": 1,
        "picture ends before the sound": 1,
        "duration differs from the video": 1,
        "segment clipped to the video": 1,
        "segment after the video's end": 1,
    }
    (example,) = result["examples"]["picture starts later than the sound"]
    assert example["where"] == "train: late" and "by 3.00 s" in example["detail"]
    assert "picture starts later than the sound\n          - train: late: by 3.00 s" in to_text(result)
    assert result["usable"] == {"videos": 3, "segments": 6}


@pytest.mark.slow
def test_clips_of_kinetics_under_both_names_and_queries_without_segments(tmp_path):
    for name in ("ab_000001_000004", "cd"):
        write_video(tmp_path / f"{name}.mp4", regular_times_ms(3.0))
    table = tmp_path / "train.csv"
    table.write_text(
        "label,youtube_id,time_start,time_end,split\nx,ab,1,4,train\ny,cd,1,4,train\nz,ef,1,4,train\n"
    )
    result = check("kinetics", [table], tmp_path, workers=1)
    assert result["problems"] == {"missing video": 1}
    queries = tmp_path / "test.jsonl"
    queries.write_text('{"qid": 1, "query": "x", "vid": "cd"}\n')
    result = check("qvhighlights", [queries], tmp_path, workers=1)
    assert result["problems"] == {"missing duration": 1}
    assert result["lengths"]["videos_s"]["max"] == pytest.approx(3.0, abs=0.1)
    assert result["usable"] == {"videos": 1, "segments": 0}


def _probe_that_dies(path: Path) -> tuple[float, str]:
    if path.name == "bad":
        os._exit(11)  # what a fault in C code does
    return float(path.name), ""


@pytest.mark.slow
def test_a_file_that_ends_its_process():
    paths = [Path(name) for name in ("1", "2", "bad", "3")]
    found = {path.name: (length, fault) for path, length, fault in probe_all(paths, 2, _probe_that_dies)}
    assert found == {
        "1": (1.0, ""),
        "2": (2.0, ""),
        "3": (3.0, ""),
        "bad": (0.0, "bad: opening it ended the process."),
    }
    assert list(probe_all([], 2)) == []


@pytest.mark.skipif(not REAL.is_dir(), reason="the real annotation files are not here")
def test_real_file(unloc):
    file = REAL / "activitynet13_bmn_anno_action.json"
    result = json.loads(
        unloc("data", "check", "--dataset=activitynet", "--annotations", file, "--json").ok().out
    )
    assert (result["videos"], result["segments"], result["classes"]) == (19228, 22152, 200)
    assert result["problems"]["zero length"] == 12
    assert sum(result["relative_lengths"]) == result["usable"]["segments"]
