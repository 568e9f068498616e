"""Everything a user can get wrong, through the command line: one clear line or a counted, reported skip.

`Ran.error` (tests/tiny_runs.py) asserts exit status 2, exactly one line with the message, and no stack trace.
Damaged checkpoints are in tests/training/checkpoints/test_checkpoints.py, wrong arguments in tests/test_cli.py.
"""

import json
import re
import shutil
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from data_pipelines.reading.built import find_dataset
from tests.timed_video import regular_times_ms, write_video
from tests.tiny_runs import run_child

# --- videos


def _good(path: Path, seconds: float = 3.0) -> Path:
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    return write_video(path, regular_times_ms(seconds), container_options=options)


def _truncated(path: Path) -> None:
    data = _good(path).read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def _without_index(path: Path) -> None:
    data = write_video(path, regular_times_ms(3.0)).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _without_frames(path: Path) -> None:
    """A whole file with its index, but what the index points to is noise."""
    data = bytearray(_good(path).read_bytes())
    start = data.rindex(b"mdat") + 4
    data[start:] = np.random.default_rng(0).bytes(len(data) - start)
    path.write_bytes(data)


def _sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _wrong_duration(path: Path) -> None:
    """The header promises five times the length (Matroska: element 0x4489, a float64 of milliseconds)."""
    matroska = path.with_suffix(".mkv")
    data = bytearray(_good(matroska).read_bytes())
    matroska.unlink()
    at = data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = struct.pack(">d", 5 * struct.unpack(">d", data[at : at + 8])[0])
    path.write_bytes(data.replace(b"DURATION", b"IGNORED_"))


# What is wrong with a video → (how to make one, its kind in a build's report, the message)
VIDEOS = {
    "missing": (lambda path: None, "missing", "there is no such file"),
    "empty": (lambda path: path.touch(), "empty file", "the file is empty"),
    "text": (
        lambda path: path.write_text("no video " * 50),
        "not a video",
        "not a video file that FFmpeg can read",
    ),
    "sound": (_sound_only, "not a video", "there is no video in this file"),
    "truncated": (_truncated, "truncated", "the file is cut short or damaged"),
    "without_index": (_without_index, "truncated", "moov atom not found"),
    "without_frames": (_without_frames, "no frames", "no frame could be decoded"),
    "wrong_duration": (
        _wrong_duration,
        "truncated",
        r"the header says 15\.0 s, only 3\.0 s could be decoded",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", VIDEOS)
def test_predict_on_a_bad_video(trained, tmp_path, unloc, fault):
    make, _, message = VIDEOS[fault]
    video = tmp_path / "video.mp4"
    make(video)
    error = unloc("predict", f"--checkpoint={trained}", f"--video={video}", "--text=a circle").error()
    assert error.startswith(f"{video}: ") and re.search(message, error)


@pytest.mark.slow
def test_build_skips_and_counts_bad_videos(tmp_path, unloc):
    (tmp_path / "videos").mkdir()
    for fault, (make, _, _) in VIDEOS.items():
        make(tmp_path / "videos" / f"{fault}.mp4")
    _good(tmp_path / "videos" / "good.mp4")
    video = {"duration": 3.0, "timestamps": [[0.5, 1.5]], "sentences": ["it happens"]}
    (tmp_path / "train.json").write_text(json.dumps({name: video for name in [*VIDEOS, "good"]}))
    ran = _build(unloc, tmp_path, tmp_path / "train.json").ok()
    assert re.search(r"^train +1 +1 ", ran.out, re.M)
    reasons = [
        json.loads(line) for line in (tmp_path / "out" / "unusable_videos.jsonl").read_text().splitlines()
    ]
    assert {line["video_id"]: line["kind"] for line in reasons} == {
        fault: kind for fault, (_, kind, _) in VIDEOS.items()
    }
    kinds = [kind for _, kind, _ in VIDEOS.values()]
    for kind in set(kinds):
        assert re.search(rf"^ +{kinds.count(kind)}  video skipped: {kind}$", ran.out, re.M), kind


def _build(unloc, folder: Path, *annotations: Path):
    words = ["data", "build", "--dataset=activitynet_captions", "--annotations", *annotations]
    return unloc(
        *words, f"--videos={folder / 'videos'}", f"--out={folder / 'out'}", "--fps=5", "--short-side=16"
    )


# --- annotations

BAD_CAPTIONS = """{
    "good": {"duration": 3.0, "timestamps": [[0.5, 1.5], [2, 2], [2.5, 2], [1, 9], [0, 1], [7, 8], ["a", 1]],
             "sentences": ["it happens", "no length", "backwards", "past the end", " ", "after the end", "no number"]},
    "nowhere": {"duration": 3.0, "timestamps": [[0, 1]], "sentences": ["a video that does not exist"]},
    "good": {"duration": 3.0, "timestamps": [[0, 3]], "sentences": ["an id that was there before"]}
}"""


@pytest.mark.slow
def test_build_counts_bad_annotations(tmp_path, unloc):
    (tmp_path / "videos").mkdir()
    _good(tmp_path / "videos" / "good.mp4")
    (tmp_path / "train.json").write_text(BAD_CAPTIONS)
    ran = _build(unloc, tmp_path, tmp_path / "train.json").ok()
    assert re.search(r"^train +1 +2 ", ran.out, re.M)  # the good segment and the one that was clipped
    for line in (
        "1  start >= end",
        "1  zero length",
        "2  segment past the end",
        "1  empty sentence",
        "1  not a number",
        "1  duplicate id",
        "1  video skipped: missing",
    ):
        assert re.search(rf"^ +{re.escape(line)}$", ran.out, re.M), line
    assert "train.json: good: segment [2.5, 2]" in ran.out  # where it is and what is there


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": {"duration": 3.0,', r"not valid JSON at line 1, column \d+: .* Is the file complete\?"),
        ("{}", r"No usable video in train\.json: no video at all"),
        ('{"a": {"timestamps": [[2, 1]], "sentences": ["b"]}}', "No usable video in .*start >= end"),
    ],
)
def test_annotation_files_that_cannot_be_used(tmp_path, unloc, content, message):
    """All that a parser refuses is in tests/data_pipelines/test_annotations.py."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "train.json").write_text(content)
    assert re.search(message, _build(unloc, tmp_path, tmp_path / "train.json").error())


# --- datasets


def _train(unloc, config_file, dataset, workdir, *settings):
    return unloc(
        "train",
        f"--config={config_file}",
        f"--workdir={workdir}",
        f"--config.data.dir={dataset}",
        *(f"--config.{setting}" for setting in settings),
    )


def _cut(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])


def _flip_a_bit(shard: Path) -> None:
    """In the frames of the record in the middle: its length and its annotations still look right."""
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)


SHARDS = {
    "cut": (_cut, r"the shard is truncated (inside|after) record \d+"),
    "corrupted": (_flip_a_bit, r"record \d+ is corrupted \(checksum\)"),
    "missing": (Path.unlink, r"the shard is missing"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", SHARDS)
def test_damaged_shards(trained, config_file, captions_dataset, tmp_path, unloc, fault):
    damage, message = SHARDS[fault]
    for split in ("train", "test"):
        dataset = shutil.copytree(captions_dataset, tmp_path / split)
        (shard,) = find_dataset(dataset).glob(f"*-{split}.tfrecord*")
        damage(shard)
        if split == "train":
            error = _train(unloc, config_file, dataset, tmp_path / "run").error()
        else:
            words = [f"--checkpoint={trained}", f"--data-dir={dataset}", f"--out={tmp_path / 'evaluation'}"]
            error = unloc("evaluate", *words).error()
        assert re.search(message, error) and str(dataset) in error
        assert f"`unloc data rebuild-shard {shard}`" in error
    assert not (tmp_path / "evaluation" / "metrics.json").exists()


def test_no_dataset(config_file, tmp_path, unloc):
    for directory, message in (
        ("", "holds no dataset .*--config.data.dir=DIR"),
        (tmp_path / "nowhere", "nowhere' holds no dataset"),
        (tmp_path, "no finished dataset here"),
    ):
        assert re.search(message, _train(unloc, config_file, directory, tmp_path / "run").error())
    assert not (tmp_path / "run").exists()


# --- settings


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("batch_sise=3", r"config\.batch_sise is not a setting\. Did you mean config\.batch_size\?"),
        (
            "data.crop_size=24",
            r"crop_size = 24 is larger than the stored frames.*Use 16 or less, or build again",
        ),
        ("mesh.data=3", r"config\.mesh = data 3 × context 1 × model 1 does not fit 1 devices"),
        ("task=temporal_action_localization", r"needs a dataset with classes"),
        ("seed.x=1", r"config\.seed must be of type int, got \{'x': 1\}"),
    ],
)
def test_settings_that_cannot_be(config_file, captions_dataset, tmp_path, unloc, setting, message):
    """All that a config refuses is in tests/config; here, what depends on the data and the devices."""
    error = _train(unloc, config_file, captions_dataset, tmp_path / "run", setting).error()
    assert re.search(message, error), error
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_a_batch_that_eight_devices_cannot_share(config_file, captions_dataset, tmp_path):
    words = [
        "train",
        f"--config={config_file}",
        f"--workdir={tmp_path}",
        f"--config.data.dir={captions_dataset}",
    ]
    error = run_child(*words, devices=8).error()
    assert error == (
        "config.batch_size = 4 is not divisible by the data axis of 8 devices. "
        "Use 8, or put devices on config.mesh.context (8 × 1 now)."
    )
    error = run_child(*words, "--config.batch_size=8", devices=8).error()
    assert error.startswith(
        "config.evaluation.batch_size = 4 is not divisible by the data axis of 8 devices."
    )


def test_a_config_file_that_cannot_be_used(tmp_path, unloc):
    (tmp_path / "broken.py").write_text("def get_config(:")
    words = ("train", f"--config={tmp_path / 'broken.py'}", f"--workdir={tmp_path / 'run'}")
    assert "SyntaxError" in unloc(*words).error()


# --- workdirs and checkpoints


def test_a_workdir_that_cannot_be_written(config_file, captions_dataset, tmp_path, unloc):
    (tmp_path / "file").touch()
    error = _train(unloc, config_file, captions_dataset, tmp_path / "file" / "run").error()
    assert error.startswith(f"--workdir={tmp_path / 'file' / 'run'} cannot be written: ")


@pytest.mark.slow
def test_a_workdir_of_another_experiment(trained, config_file, captions_dataset, activities_dataset, unloc):
    before = sorted(trained.rglob("*"))
    error = _train(unloc, config_file, captions_dataset, trained, "train.learning_rate=0.5", "seed=3").error()
    assert "holds checkpoints of another experiment" in error
    assert "seed: 0 there, 3 now; train.learning_rate: 0.001 there, 0.5 now" in error
    assert "Use another --workdir, or delete it" in error
    # The same settings with another dataset are another experiment as well.
    error = _train(unloc, config_file, activities_dataset, trained).error()
    assert "dataset name: 'activitynet_captions' there, 'activitynet' now" in error
    assert sorted(trained.rglob("*")) == before


@pytest.mark.slow
def test_a_checkpoint_that_does_not_match(trained, tiny_videos, tmp_path, unloc):
    """The config in the checkpoint was edited: it asks for a wider model than the one that was saved."""
    step = shutil.copytree(trained / "checkpoints" / "10", tmp_path / "10")
    file = step / "metadata" / "metadata"
    content = json.loads(file.read_text())
    content["config"]["model"]["fusion"]["width"] = 32
    del content["checksum"]  # as in a checkpoint of an older version; with it, an edit is damage
    file.write_text(json.dumps(content))
    words = [
        "predict",
        f"--checkpoint={step}",
        f"--video={tiny_videos / 'videos' / 'test_00000.mp4'}",
        "--text=a",
    ]
    error = unloc(*words).error()
    assert re.search(
        r"does not match the model of its config.* has the shape .* there and .* in the model", error
    )


@pytest.mark.slow
def test_predict_without_what_it_needs(trained, tiny_videos, tmp_path, unloc):
    video = tiny_videos / "videos" / "test_00000.mp4"
    predict = ["predict", f"--checkpoint={trained}", f"--video={video}"]
    (tmp_path / "folder.json").mkdir()
    for words, message in (
        ([*predict], "give at least one text, such as --text="),
        ([*predict, "--text= "], "text 1 of 1 has no words"),
        ([*predict, "--text=a", "--out=report.pdf"], "write a report.html or a result.json"),
        ([*predict, "--text=a", f"--out={tmp_path}/no/report.html"], "is missing or cannot be written"),
        ([*predict, "--text=a", f"--out={tmp_path}/folder.json"], "is a folder: name a file in it"),
        (["predict", f"--checkpoint={tmp_path}", f"--video={video}", "--text=a"], "holds no checkpoint"),
        (["evaluate", f"--checkpoint={tmp_path}"], "holds no checkpoint"),
    ):
        assert message in unloc(*words).error()
    assert [p.name for p in tmp_path.iterdir()] == ["folder.json"]


def test_a_workdir_in_a_cloud(unloc, config_file, captions_dataset, tmp_path, monkeypatch):
    """It would become a folder "gs:" on this machine."""
    monkeypatch.chdir(tmp_path)
    error = _train(unloc, config_file, captions_dataset, "gs://bucket/run").error()
    assert error.startswith("--workdir=gs:/bucket/run: training writes to a folder. Mount the bucket as one")
    assert not list(tmp_path.iterdir())
