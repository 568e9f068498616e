"""Names: which file belongs to which video id, by one rule in build, check, features and feature folders."""

import json
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.annotations import PARSERS, parse
from data_pipelines.build import build
from data_pipelines.builders.feature_files import FeatureError, FeatureSource, read_features
from data_pipelines.builders.source import BuildSource
from data_pipelines.builders.video_files import SeveralFilesError, names_of, video_files
from data_pipelines.check import check
from data_pipelines.extract_features import other_entries, videos_in, videos_of
from data_pipelines.ground_truth import read_ground_truth
from data_pipelines.reading.built import read_build_info
from tests.timed_video import regular_times_ms, write_video
from unloc_jax.errors import UserError
from unloc_jax.metrics.protocols.moment_retrieval import evaluate_moment_retrieval
from unloc_jax.queries import file_id
from unloc_jax.video import FrameStream, probe
from unloc_jax.video_names import VIDEO_ENDINGS, without_ending

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def _table(folder: Path, *names: str, file: str = "train.csv") -> Path:
    path = folder / file
    path.write_text("video,start,end,text\n" + "".join(f'"{name}",0,0.5,text {name}\n' for name in names))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    return write_video(path, regular_times_ms(1.0)).read_bytes()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("ending", VIDEO_ENDINGS)
@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_every_ending_in_any_case_is_found_and_is_no_part_of_an_id(folder, ending, change):
    file = folder / f"a.b{change(ending)}"
    file.touch()
    assert without_ending(file.name) == "a.b"
    assert video_files(folder).find(names_of("a.b")) == file
    assert videos_in(folder) == [file] and videos_of(folder, ["a.b", "a"]) == ([file], ["a"])


def test_a_camera_folder(tmp_path, folder, video, capsys):
    names = ["GX010001.MP4", "IMG_0002.MOV", "clip4.m4v", "ok6.mp4", "sub/deep.Mp4"]
    (folder / "sub").mkdir()
    for name in names:
        (folder / name).write_bytes(video)
    table = _table(tmp_path, *names)
    assert check("csv", [table], folder)["problems"] == {}
    build("csv", [table], folder, tmp_path / "out", fps=5, short_side=32, workers=1)
    assert read_build_info(tmp_path / "out")["splits"]["train"]["videos"] == len(names)
    (folder / "notes.txt").touch()
    files, missing = videos_of(folder, [record.video_id for record in parse("csv", [table]).records])
    assert missing == [] and other_entries(files, folder) == ["notes.txt"]
    assert other_entries(videos_in(folder), folder) == ["notes.txt", "sub/"]


@pytest.mark.parametrize("names", [("a.mov", "a.mp4"), ("a.MP4", "a.mp4"), (f"{NFC}.mp4", f"{NFD}.mp4")])
def test_two_files_of_one_name_are_an_error_that_names_both(tmp_path, folder, video, names):
    for name in names:
        (folder / name).write_bytes(video)
    shown = [
        ascii(name).strip("'") if NFC in names[0] else name for name in sorted(names)
    ]  # else they look alike
    both = "(?s)" + ".*".join(re.escape(name) for name in shown)
    one = names[0].rpartition(".")[0]
    table = _table(tmp_path, one)
    with pytest.raises(UserError, match=both):
        build("csv", [table], folder, tmp_path / "out", workers=1)
    assert not (tmp_path / "out" / "build.json").exists()
    with pytest.raises(SeveralFilesError, match=both):  # as rebuild-shard asks, long after a build
        BuildSource(folder, 5, 32, 95).task(one)
    found = check("csv", [table], folder)
    assert found["problems"] == {"several files of one video": 1}
    assert all(name in found["examples"]["several files of one video"][0]["detail"] for name in shown)
    for make in (videos_in, lambda folder: videos_of(folder, [one])):
        with pytest.raises(UserError, match=both):
            make(folder)
    # Other videos of the folder are none of this build's business.
    (folder / "other.mp4").write_bytes(video)
    assert check("csv", [_table(tmp_path, "other")], folder)["problems"] == {}


def test_two_names_in_a_table_that_would_be_one_video_are_an_error(tmp_path):
    table = _table(tmp_path, "IMG_1.mov", "IMG_2.mp4", "IMG_1.MP4")
    with pytest.raises(
        UserError, match=r"IMG_1\.mov and IMG_1\.MP4 \(in train\.csv:4\) would be one video, IMG_1"
    ):
        parse("csv", [table])
    assert len(parse("csv", [_table(tmp_path, "a.mp4", "a", "a.MP4")]).records) == 1
    content = [
        {"video": name, "description": name, "num_segments": 6, "times": [[0, 0]], "annotation_id": number}
        for number, name in enumerate(["a.mov", "a.mp4", "a.mov"])
    ]
    didemo = tmp_path / "train_data.json"
    didemo.write_text(json.dumps(content))
    parsed = parse("didemo", [didemo])
    assert parsed.records[0].texts == ["a.mov", "a.mov"] and parsed.problems.counts == {"duplicate id": 1}


@pytest.mark.parametrize(("written", "stored"), [(NFC, NFD), (NFD, NFC)])
def test_a_name_is_found_in_whichever_form_of_unicode(tmp_path, folder, video, written, stored):
    (folder / f"{stored}.mp4").write_bytes(video)
    table = _table(tmp_path, f"{written}.mp4")
    assert parse("csv", [table]).records[0].video_id == written  # ids stay as they are in the file
    assert check("csv", [table], folder)["problems"] == {}
    features = tmp_path / "features"
    features.mkdir()
    np.save(features / f"{stored}.npy", np.ones((3, 4), np.float32))
    assert read_features(FeatureSource("x", features), written).shape == (3, 4)


def test_one_id_in_two_forms_of_unicode_is_one_video(tmp_path):
    table = _table(tmp_path, NFC, NFD)
    table.write_text(table.read_text() + f"{NFD},0.5,1,text\n")
    parsed = parse("csv", [table])
    (record,) = parsed.records
    # The first two rows are the same, as their texts are compared.
    assert record.video_id == NFC and record.segments_s.tolist() == [[0, 0.5], [0.5, 1]]
    assert parsed.problems.counts == {"duplicate segment": 1}
    captions = tmp_path / "train.json"
    entry = {"duration": 2, "timestamps": [[0, 1]], "sentences": ["a"]}
    captions.write_text(json.dumps({NFC: entry, NFD: entry}))
    assert parse("activitynet_captions", [captions]).problems.counts == {"duplicate id": 1}


@pytest.mark.parametrize("written", [" a", "a ", "\u00a0a.mp4 "])
def test_blanks_around_an_id_are_no_part_of_it(tmp_path, folder, video, written):
    """In JSON; the cells of a CSV have none. Files, features and predictions are found all the same."""
    (folder / "a.mp4").write_bytes(video)
    row = {"video": written, "start": 0, "end": 0.5, "text": "text"}
    truth = tmp_path / "test.jsonl"
    truth.write_text(json.dumps(row) + "\n")
    (record,) = parse("jsonl", [truth]).records
    assert (record.video_id, file_id(record)) == ("a", written)
    assert check("jsonl", [truth], folder, 1)["problems"] == {}
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    assert read_features(FeatureSource("i3d", tmp_path), record.video_id).shape == (2, 3)
    line = {
        "vid": "a",
        "query": "text",
        "relevant_windows": [[0, 0.5]],
        "pred_relevant_windows": [[0, 0.5, 1]],
    }
    (tmp_path / "predictions.jsonl").write_text(json.dumps(line) + "\n")
    ground_truth, _ = read_ground_truth("moment-retrieval", [truth])
    assert evaluate_moment_retrieval(ground_truth, tmp_path / "predictions.jsonl")["R1@0.5"] == 100


def test_blanks_around_the_name_of_a_file_are_no_part_of_it(tmp_path, folder):
    h5py = pytest.importorskip("h5py")
    (folder / " a .mp4").touch()
    assert video_files(folder).find(names_of("a")) == folder / " a .mp4"
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file[" a.mp4 "] = np.zeros((2, 3), np.float32)
    assert read_features(FeatureSource("i3d", tmp_path / "f.h5"), "a").shape == (2, 3)


OUTSIDE = ["../a", "../../a", "sub/../../a", "/tmp/a", "..", ".", "v_/tmp/a", "v_../a", "\u2003/tmp/a"]


@pytest.mark.parametrize("video_id", OUTSIDE)
def test_no_id_leads_out_of_the_folders(tmp_path, folder, video, video_id):
    outside = tmp_path / "a.mp4"
    outside.write_bytes(video)
    np.save(tmp_path / "a.npy", np.ones((3, 4), np.float32))
    video_id = video_id.replace("/tmp", str(tmp_path))
    table = _table(tmp_path, "b", video_id)
    (folder / "b.mp4").write_bytes(video)
    # "v_../a" is a name in a folder v_.., of which there is none; without v_ it would lead out.
    kind = "missing video" if video_id.startswith("v_") else "unusable video id"
    assert check("csv", [table], folder)["problems"] == {kind: 1}
    assert video_files(folder).find(names_of(video_id)) is None
    with pytest.raises(FeatureError, match="no such file"):
        read_features(FeatureSource("x", folder), video_id)


def test_links_that_lead_out_are_followed(tmp_path, folder, video):
    (tmp_path / "elsewhere.mp4").write_bytes(video)
    os.symlink(tmp_path / "elsewhere.mp4", folder / "a.mp4")
    os.symlink(folder, tmp_path / "linked")
    assert check("csv", [_table(tmp_path, "a")], tmp_path / "linked")["problems"] == {}


@pytest.mark.parametrize(
    "dataset", ["activitynet", "activitynet_captions", "jsonl", "qvhighlights", "tacos", "kinetics"]
)
def test_every_parser_counts_an_id_that_leads_out(tmp_path, dataset):
    entry = {"duration": 2, "timestamps": [[0, 1]], "sentences": ["a"], "fps": 1, "num_frames": 2}
    video = {"duration": 2, "subset": "training", "annotations": [{"segment": [0, 1], "label": "x"}]}
    content = {
        "activitynet": {"database": {"../a": video}},
        "activitynet_captions": {"../a": entry},
        "tacos": {"../a.avi": entry},
        "jsonl": {"video": "../a", "start": 0, "end": 1, "text": "a"},
        "qvhighlights": {"qid": 1, "query": "a", "duration": 10, "vid": "../a", "relevant_windows": [[0, 2]]},
    }  # fmt: skip
    path = tmp_path / ("train.csv" if dataset == "kinetics" else "train.json")
    if dataset == "kinetics":
        path.write_text("label,youtube_id,time_start,time_end,split\nx,../a,0,1,train\n")
    else:
        path.write_text(json.dumps(content[dataset]))
    parsed = PARSERS[dataset]([path])
    assert parsed.records == [] and parsed.problems.counts["unusable video id"] == 1


@pytest.mark.parametrize("endings", [(".npy", ".npz"), (".h5", ".hdf5"), (".pt", ".pth"), (".npy", ".NPY")])
def test_two_files_of_features_are_an_error_that_names_both(tmp_path, endings):
    features = tmp_path / "features"
    features.mkdir()
    for ending in endings:
        (features / f"a{ending}").touch()
    with pytest.raises(UserError, match=rf"1 videos have several files.*a{endings[0]}|a{endings[1]}"):
        build("csv", [_table(tmp_path, "a")], None, tmp_path / "out", features=[FeatureSource("x", features)])


def test_features_in_folders_and_in_any_case(tmp_path):
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "sub" / "a.npy", np.ones((3, 4), np.float32))
    (tmp_path / "sub" / "a.npy").rename(tmp_path / "sub" / "a.NPY")
    assert read_features(FeatureSource("x", tmp_path), "sub/a").shape == (3, 4)


def test_names_in_an_hdf5_file_in_whichever_form_of_unicode(tmp_path):
    h5py = pytest.importorskip("h5py")
    for number, stored in enumerate(((NFD,), (NFC, NFD))):
        file = tmp_path / f"{number}.h5"
        with h5py.File(file, "w") as opened:
            for name in stored:
                opened[name] = np.ones((3, 4), np.float32)
    assert read_features(FeatureSource("x", tmp_path / "0.h5"), NFC).shape == (3, 4)
    with pytest.raises(FeatureError, match="have one name"):
        read_features(FeatureSource("x", tmp_path / "1.h5"), NFC)


@pytest.mark.parametrize(
    "name",
    [
        "concat:a|b.mp4", "a:b.mp4", "http:x.mp4", "file:x.mp4", "data:,.mp4", "subfile,,start,0,end,9,,:x.mp4",
        "-x.mp4", "--fps.mp4", "img%03d.mp4", "a*b?.mp4", "%41.mp4", " a .mp4", "~a.mp4", "$HOME.mp4", "a\\b.mp4",
    ],
)  # fmt: skip
def test_whatever_a_file_is_called_it_is_opened(tmp_path, folder, video, name, monkeypatch):
    monkeypatch.chdir(folder)
    Path(name).write_bytes(video)
    assert probe(name).width == 96
    assert len(list(FrameStream(name, fps=5, short_side=32))) == 5
    row = tmp_path / "train.jsonl"
    row.write_text(json.dumps({"video": name, "start": 0, "end": 0.5, "text": "a"}))
    assert check("jsonl", [row], Path())["problems"] == {}


def test_a_picture_whose_name_is_a_pattern_is_that_picture(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    Image.new("RGB", (32, 32), (255, 0, 0)).save(tmp_path / "img%03d.png")
    Image.new("RGB", (32, 32), (0, 0, 255)).save(tmp_path / "img001.png")
    (frame,) = list(FrameStream(tmp_path / "img%03d.png", fps=1, short_side=32))
    assert tuple(frame[0, 0]) == (255, 0, 0)
