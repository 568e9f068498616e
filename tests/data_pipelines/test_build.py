"""The whole build: annotation files and videos in, a TFDS dataset and its report out."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.build import build
from data_pipelines.builders.video_files import names_of, video_files
from data_pipelines.quiet_tensorflow import import_tfds
from data_pipelines.reading.built import find_dataset, read_build_info
from data_pipelines.reading.record_index import RecordIndex, iterate_records, read_record
from tests.timed_video import read_time_s, regular_times_ms, write_video
from unloc_jax.errors import UserError

_REAL_VIDEOS = Path(__file__).parents[3] / "shared" / "videos"


def _captions(path: Path, duration_s: dict[str, float]) -> Path:
    """Two sentences per video: [0.5, 1.5] and the last second."""
    videos = {
        video_id: {
            "duration": duration,
            "timestamps": [[0.5, 1.5], [duration - 1, duration]],
            "sentences": [f"first of {video_id}", "the last second"],
            "attributes": [{"object": "ball"}, {}],
        }
        for video_id, duration in duration_s.items()
    }
    path.write_text(json.dumps(videos))
    return path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[list[Path], Path]:
    """Annotation files and videos: some good, one cut, one empty, one absent, one too long."""
    folder = tmp_path_factory.mktemp("inputs")
    videos = folder / "videos"
    videos.mkdir()
    for name in ("v_a.mp4", "b.mkv", "v_c.webm", "long.mp4", "cut.mp4"):
        codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
        options = {"movflags": "faststart"} if name.endswith("mp4") else {}
        seconds = 6.0 if name == "long.mp4" else 3.0
        write_video(videos / name, regular_times_ms(seconds), codec=codec, container_options=options)
    (videos / "cut.mp4").write_bytes((videos / "cut.mp4").read_bytes()[:-1000])
    (videos / "empty.mp4").touch()
    train = ("v_a", "v_b", "long", "cut", "empty", "absent")
    files = [
        _captions(folder / "train.json", dict.fromkeys(train, 3.0)),
        _captions(folder / "val_1.json", {"c": 3.0}),
    ]
    return files, videos


@pytest.fixture(scope="module")
def built(inputs, tmp_path_factory) -> tuple[Path, str]:
    """The `out` of a build, and what it printed."""
    out = tmp_path_factory.mktemp("built") / "out"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        directory = build("activitynet_captions", *inputs, out, fps=5.0, short_side=48, workers=2)
    assert directory == find_dataset(out) == find_dataset(directory)
    return out, printed.getvalue()


@pytest.mark.slow
def test_records_hold_annotations_and_frames(built):
    out, _ = built
    records = {record.video_id: record for record in iterate_records(find_dataset(out), "train", True)}
    assert set(records) == {"v_a", "v_b", "long"}
    record = records["v_b"]
    assert (record.split, record.duration_s, record.fps) == ("train", 3.0, 5.0)
    np.testing.assert_array_equal(record.segments_s, np.array([[0.5, 1.5], [2, 3]], np.float32))
    assert record.texts == ["first of v_b", "the last second"]
    assert record.attributes == [{"object": "ball"}, {}]
    assert records["long"].duration_s == 3.0
    assert len(records["long"].frames) == 30


@pytest.mark.slow
def test_stored_frames_show_their_time(built):
    out, _ = built
    for split in ("train", "validation"):
        for record in iterate_records(find_dataset(out), split, True):
            for k, jpeg in enumerate(record.frames):
                frame = np.asarray(Image.open(io.BytesIO(jpeg)))
                assert frame.shape == (48, 64, 3)
                # Half of the 40 ms between source frames, and 10 ms for the precision of the picture.
                assert abs(read_time_s(frame) - k / 5.0) <= 0.03, (record.video_id, k)


@pytest.mark.slow
def test_without_frames_is_the_same_but_for_the_frames(built):
    directory = find_dataset(built[0])
    full = list(iterate_records(directory, "train", True))
    light = list(iterate_records(directory, "train", False))
    for i, (a, b) in enumerate(zip(full, light, strict=True)):
        assert b.frames == []
        assert (a.video_id, a.duration_s, a.fps, a.texts, a.attributes) == (
            b.video_id,
            b.duration_s,
            b.fps,
            b.texts,
            b.attributes,
        )
        np.testing.assert_array_equal(a.segments_s, b.segments_s)
        assert read_record(directory, "train", i).frames == a.frames


@pytest.mark.slow
def test_unusable_videos_are_listed_and_counted(built):
    out, printed = built
    lines = [json.loads(line) for line in (out / "unusable_videos.jsonl").read_text().splitlines()]
    assert {(line["video_id"], line["split"], line["kind"]) for line in lines} == {
        ("cut", "train", "truncated"),
        ("empty", "train", "empty file"),
        ("absent", "train", "missing"),
    }
    assert all(line["reason"] for line in lines)
    info = read_build_info(out)
    assert info["problems"]["videos"] == {
        "video skipped: truncated": 1,
        "video skipped: empty file": 1,
        "video skipped: missing": 1,
        "duration differs from the video": 1,
    }
    assert info["problems"]["annotations"] == {}
    for kind in info["problems"]["videos"]:
        assert f"1  {kind}" in printed
    assert str(out / "unusable_videos.jsonl") in printed
    assert "annotated 3.00 s, measured 6.00 s" in printed


@pytest.mark.slow
def test_build_info_and_summary(built):
    out, printed = built
    info = read_build_info(out)
    assert info == read_build_info(find_dataset(out))
    assert (info["dataset"], info["fps"], info["short_side"], info["classes"]) == (
        "activitynet_captions",
        5.0,
        48,
        None,
    )
    train = info["splits"]["train"]
    assert {key: train[key] for key in ("videos", "segments", "texts", "frames")} == {
        "videos": 3,
        "segments": 6,
        "texts": 4,
        "frames": 60,
    }
    jpeg_bytes = sum(len(f) for r in iterate_records(find_dataset(out), "train", True) for f in r.frames)
    assert train["megabytes"] == pytest.approx(jpeg_bytes / 1e6)
    assert "7 videos, 14 segments\n  train.json → train\n  val_1.json → validation\n" in printed
    row = next(line for line in printed.splitlines() if line.startswith("train"))
    assert row.split()[1:5] == ["3", "6", "4", "60"]


@pytest.mark.slow
def test_tfds_reads_it(built):
    pytest.importorskip("tensorflow")
    tfds = import_tfds()

    directory = find_dataset(built[0])
    builder = tfds.builder_from_directory(directory)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 3,
        "validation": 1,
    }
    examples = {
        example["video_id"].decode(): example
        for example in tfds.as_numpy(builder.as_dataset(split="train", shuffle_files=False))
    }
    example = examples["v_a"]
    assert example["frames"].shape == (15, 48, 64, 3)
    assert [read_time_s(frame) for frame in example["frames"]] == pytest.approx(np.arange(15) / 5, abs=0.03)
    np.testing.assert_array_equal(example["segments_s"], np.array([[0.5, 1.5], [2, 3]], np.float32))
    assert [json.loads(text) for text in example["attributes"]] == [{"object": "ball"}, {}]
    # The index goes through the shards in the order in which TFDS reads them.
    assert list(examples) == [r.video_id for r in iterate_records(directory, "train", False)]


@pytest.mark.slow
def test_the_same_arguments_reuse_the_dataset(built, inputs, capsys):
    out, _ = built
    before = (out / "build.json").stat().st_mtime_ns
    build("activitynet_captions", *inputs, out, fps=5, short_side=48, workers=1)
    assert "reusing" in capsys.readouterr().out
    assert (out / "build.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_other_arguments_are_refused(built, inputs, tmp_path):
    out, _ = built
    files, videos = inputs
    for changed, message in (
        ({"fps": 4.0}, r"fps was 5.0, now 4.0"),
        ({"short_side": 64}, r"short_side was 48, now 64"),
        ({"jpeg_quality": 80}, r"jpeg_quality was 95, now 80"),
    ):
        with pytest.raises(UserError, match=message + r".*choose another --out"):
            build("activitynet_captions", files, videos, out, **{"fps": 5.0, "short_side": 48, **changed})
    with pytest.raises(UserError, match="other annotation files"):
        build("activitynet_captions", files[:1], videos, out, fps=5.0, short_side=48)


@pytest.mark.slow
def test_activitynet_stores_its_classes(inputs, tmp_path, capsys):
    database = {
        "v_a": {
            "duration": 3.0,
            "subset": "training",
            "annotations": [{"segment": [0, 1], "label": "Run"}, {"segment": [1, 2], "label": "Jump"}],
        }
    }
    (tmp_path / "anet.json").write_text(json.dumps({"database": database}))
    build(
        "activitynet",
        [tmp_path / "anet.json"],
        inputs[1],
        tmp_path / "out",
        fps=2.0,
        short_side=32,
        workers=1,
    )
    assert read_build_info(tmp_path / "out")["classes"] == ["Jump", "Run"]
    (record,) = iterate_records(find_dataset(tmp_path / "out"), "train", False)
    assert record.texts == ["Run", "Jump"]


@pytest.mark.slow
def test_a_split_without_usable_videos(inputs, tmp_path):
    files = [inputs[0][1], _captions(tmp_path / "train.json", {"empty": 3.0, "cut": 3.0, "absent": 3.0})]
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"None of the 3 videos of the split 'train' can be used: ") as caught:
        build("activitynet_captions", files, inputs[1], out, workers=1)
    for part in ("missing (1)", "truncated (1)", "empty file (1)", str(out / "unusable_videos.jsonl")):
        assert part in str(caught.value)
    with pytest.raises(UserError, match="no finished dataset here"):
        find_dataset(out)


@pytest.mark.slow
def test_a_killed_build_is_done_again(built, inputs, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(built[0], out)
    # The state right before the last step: shards are there, but nobody can know whether all are.
    (out / "build.json").unlink()
    (out / "unloc_data" / "activitynet_captions" / "1.0.0.incompleteABC").mkdir()
    with pytest.raises(UserError, match="no finished dataset here"):
        find_dataset(out)
    build("activitynet_captions", *inputs, out, fps=5.0, short_side=48, workers=1)
    assert "reusing" not in capsys.readouterr().out
    # The shards are the same to the last bit, although another number of workers finished in another order.
    for split in ("train", "validation"):
        old, new = (RecordIndex.from_dir(find_dataset(folder), split) for folder in (built[0], out))
        assert [file.read_bytes() for file in old.files] == [file.read_bytes() for file in new.files]
    assert not list(out.rglob("*incomplete*"))


@pytest.mark.slow
def test_two_builds_in_one_folder(inputs, tmp_path):
    import fcntl

    with (tmp_path / ".build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another build is writing there"):
            build("activitynet_captions", *inputs, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0.0}, "fps"),
        ({"fps": float("inf")}, "fps"),
        ({"short_side": 8}, "short_side"),
        ({"jpeg_quality": 101}, "jpeg_quality"),
        ({"workers": 0}, "workers"),
    ],
)
def test_bad_options(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        build("activitynet_captions", [], tmp_path, tmp_path / "out", **options)


def test_bad_paths(tmp_path):
    train = _captions(tmp_path / "train.json", {"a": 3.0})
    with pytest.raises(UserError, match="there is no such video folder"):
        build("activitynet_captions", [train], tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UserError, match=r"cannot write there"):
        build("activitynet_captions", [train], tmp_path, train)
    with pytest.raises(UserError, match=r"no finished dataset here.*unloc data build"):
        find_dataset(tmp_path)


@pytest.mark.parametrize(
    ("file", "video_id", "found"),
    [
        ("v_abc.mp4", "v_abc", True),
        ("abc.webm", "v_abc", True),
        ("v_abc.mkv", "abc", True),
        ("abc.avi", "abc", True),
        ("v_v_abc.mov", "v_abc", False),
        ("abc.txt", "abc", False),
        ("abcd.mp4", "abc", False),
    ],
)
def test_the_file_of_a_video(tmp_path, file, video_id, found):
    (tmp_path / file).touch()
    assert video_files(tmp_path).find(names_of(video_id)) == (tmp_path / file if found else None)


def test_workers_and_readers_import_neither_tensorflow_nor_jax():
    code = (
        "import sys, unloc_jax.video, data_pipelines.build, data_pipelines.reading.record_index;"
        "import data_pipelines.annotations, data_pipelines.builders.frames, data_pipelines.builders.pool;"
        "heavy = ('tensorflow', 'tensorflow_datasets', 'jax', 'torch');"
        "sys.exit(any(name.split('.')[0] in heavy for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not _REAL_VIDEOS.is_dir(), reason="real videos are not here")
def test_real_videos(tmp_path, capfd):
    train = _captions(tmp_path / "train.json", {"arm_wrestling_kinetics": 10.0, "real_test": 10.0})
    directory = build("activitynet_captions", [train], _REAL_VIDEOS, tmp_path / "out", fps=2.0, workers=1)
    records = list(iterate_records(directory, "train", True))
    assert [len(record.frames) for record in records] == [20, 20]
    assert all(min(Image.open(io.BytesIO(f)).size) == 256 for record in records for f in record.frames)
    output, errors = capfd.readouterr()
    assert "problems in the videos: none" in output
    # Progress goes to standard error, and nothing else does: no TensorFlow messages.
    lines = [line for line in errors.replace("\r", "\n").split("\n") if line.strip()]
    assert lines and all(line.strip().startswith(("decoding:", "writing train:")) for line in lines)
