"""A build that is stopped, in whatever way, continues and gives what it would have given."""

import contextlib
import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import data_pipelines.build
from data_pipelines.build import build
from data_pipelines.builders import local
from data_pipelines.builders.encoded_videos import EncodedVideos
from data_pipelines.builders.frames import EncodedVideo, UnusableVideo
from data_pipelines.builders.local import LocalBuild
from data_pipelines.builders.report import BuildReport
from data_pipelines.builders.source import BuildSource
from data_pipelines.quiet_tensorflow import import_tfds
from data_pipelines.reading.built import find_dataset, read_build_info
from data_pipelines.reading.record_index import RecordIndex
from tests.timed_video import regular_times_ms, write_video
from unloc_jax.errors import UserError
from unloc_jax.records import VideoRecord

_ROOT = Path(__file__).parents[2]
_OPTIONS = {"fps": 10.0, "short_side": 64}
_IDS = [f"v{i}" for i in range(10)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[list[Path], Path]:
    """Eight videos of some seconds, a cut one and a missing one."""
    folder = tmp_path_factory.mktemp("inputs")
    videos = folder / "videos"
    videos.mkdir()
    for i, video_id in enumerate(_IDS[:-1]):
        options = {"movflags": "faststart"}
        write_video(
            videos / f"{video_id}.mp4",
            regular_times_ms(4.0 + i / 2),
            size=(320, 240),
            container_options=options,
        )
    cut = videos / "v3.mp4"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    captions = {
        video_id: {"duration": 4.0, "timestamps": [[0.5, 1.5]], "sentences": [f"what {video_id} shows"]}
        for video_id in _IDS
    }
    splits = {"train": _IDS[:8], "val_1": _IDS[8:9] + _IDS[9:]}
    files = []
    for name, ids in splits.items():
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps({video_id: captions[video_id] for video_id in ids}))
    return files, videos


@pytest.fixture(scope="module")
def uninterrupted(inputs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    with contextlib.redirect_stdout(io.StringIO()):
        build("activitynet_captions", *inputs, out, **_OPTIONS, workers=1)
    return out


class _Child:
    """`unloc data build` in a separate process."""

    def __init__(self, inputs, out: Path, workers: int = 2):
        files, videos = inputs
        self.out = out
        command = [sys.executable, "-m", "unloc_jax.cli", "data", "build", "--dataset=activitynet_captions"]
        command += ["--annotations", *map(str, files), f"--videos={videos}", f"--out={out}"]
        command += [f"--workers={workers}", "--fps=10", "--short-side=64"]
        self.process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_when(self, reached: Callable[[], bool], how: int = signal.SIGKILL) -> tuple[str, str]:
        """Sends a signal as soon as something is so; returns what was printed to both outputs."""
        deadline = time.monotonic() + 300
        while not reached():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        self.process.send_signal(how)
        return self.process.communicate(timeout=300)

    def encoded(self) -> set[Path]:
        with contextlib.suppress(FileNotFoundError):
            return {file for file in (self.out / "encoded_videos").iterdir() if not file.suffix}
        return set()


def _assert_same(a: Path, b: Path) -> None:
    for split in ("train", "validation"):
        old, new = (RecordIndex.from_dir(find_dataset(out), split) for out in (a, b))
        assert [old.read(i) for i in range(len(old))] == [new.read(i) for i in range(len(new))]
        assert [file.read_bytes() for file in old.files] == [file.read_bytes() for file in new.files]
    assert read_build_info(a) == read_build_info(b)
    assert (a / "unusable_videos.jsonl").read_text() == (b / "unusable_videos.jsonl").read_text()
    assert {path.name for path in a.iterdir()} == {path.name for path in b.iterdir()}


@pytest.mark.slow
def test_killed_again_and_again(inputs, uninterrupted, tmp_path):
    out = tmp_path / "out"
    child = _Child(inputs, out)
    child.kill_when(lambda: len(child.encoded()) >= 2)
    done = child.encoded()
    assert 2 <= len(done) < 9
    written = {file: file.stat().st_mtime_ns for file in done}

    child = _Child(inputs, out)
    child.kill_when(lambda: len(child.encoded()) >= len(done) + 2)
    # What was done is not done again.
    assert {file: file.stat().st_mtime_ns for file in done} == written
    done = child.encoded()

    child = _Child(inputs, out)  # while TFDS writes
    printed, _ = child.kill_when((out / "unloc_data").is_dir)
    assert len(child.encoded()) == 9  # the cut one is remembered, too
    match = re.search(r"(\d+) of (\d+) videos were encoded before", printed)
    # Of 10 videos, one is not there. A worker that outlived its parent for a moment may have finished one more.
    assert match and len(done) <= int(match[1]) < 9 and match[2] == "9"
    with pytest.raises(UserError, match="no finished dataset here"):
        find_dataset(out)

    child = _Child(inputs, out, workers=1)
    printed, errors = child.process.communicate(timeout=300)
    assert child.process.returncode == 0, errors
    assert "9 of 9 videos were encoded before" in printed
    _assert_same(uninterrupted, out)


@pytest.mark.slow
def test_ctrl_c(inputs, uninterrupted, tmp_path):
    out = tmp_path / "out"
    child = _Child(inputs, out)
    _, errors = child.kill_when(lambda: len(child.encoded()) >= 1, signal.SIGINT)
    assert child.process.returncode == 130
    assert "Traceback" not in errors and "the same command continues where it can" in errors
    build("activitynet_captions", *inputs, out, **_OPTIONS, workers=1)
    _assert_same(uninterrupted, out)


@pytest.fixture
def unfinished(inputs, tmp_path, monkeypatch) -> Path:
    """The `out` of a build that was stopped when all videos were encoded and nothing was written."""
    out = tmp_path / "out"

    def stopped(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalBuild, "prepare", stopped)
        with pytest.raises(KeyboardInterrupt):
            build("activitynet_captions", *inputs, out, **_OPTIONS, workers=2)
    return out


@pytest.mark.slow
def test_damaged_and_foreign_files_among_the_encoded_ones(inputs, uninterrupted, unfinished, capsys):
    files = sorted((unfinished / "encoded_videos").iterdir(), key=lambda file: file.stat().st_size)
    cut, flipped = files[-2:]
    cut.write_bytes(cut.read_bytes()[:-1])
    contents = bytearray(flipped.read_bytes())
    contents[-5] ^= 1  # is only found when the frames are read
    flipped.write_bytes(contents)
    (unfinished / "encoded_videos" / "0123.99.partial").write_bytes(b"half")
    capsys.readouterr()
    build("activitynet_captions", *inputs, unfinished, **_OPTIONS, workers=1)
    assert "8 of 9 videos were encoded before" in capsys.readouterr().out
    _assert_same(uninterrupted, unfinished)


@pytest.mark.slow
def test_videos_that_were_encoded_are_not_needed_any_more(inputs, uninterrupted, unfinished):
    files, videos = inputs
    kept = videos.with_name("kept")
    videos.rename(kept)
    try:
        videos.mkdir()  # a mount point without its mount
        build("activitynet_captions", files, videos, unfinished, **_OPTIONS, workers=1)
    finally:
        videos.rmdir()
        kept.rename(videos)
    _assert_same(uninterrupted, unfinished)


@pytest.mark.slow
def test_an_unfinished_build_with_other_arguments(inputs, unfinished, tmp_path):
    files, videos = inputs
    for changed, message in (
        ({"fps": 4.0}, r"holds an unfinished dataset .*fps was 10.0, now 4.0.*choose another --out"),
        ({"short_side": 48}, "short_side was 64, now 48"),
        ({"jpeg_quality": 80}, "jpeg_quality was 95, now 80"),
    ):
        with pytest.raises(UserError, match=message):
            build("activitynet_captions", files, videos, unfinished, **{**_OPTIONS, **changed})
    with pytest.raises(UserError, match="other annotation files"):
        build("activitynet_captions", files[:1], videos, unfinished, **_OPTIONS)


@pytest.mark.slow
def test_stopped_before_its_last_line(inputs, uninterrupted, unfinished, tmp_path, capsys):
    out = tmp_path / "finished"
    shutil.copytree(uninterrupted, out)
    shutil.copytree(unfinished / "encoded_videos", out / "encoded_videos")
    shutil.copy(unfinished / "unfinished_build.json", out)
    build("activitynet_captions", *inputs, out, **_OPTIONS)
    assert "reusing" in capsys.readouterr().out
    _assert_same(uninterrupted, out)


@pytest.mark.slow
def test_a_dataset_directory_that_was_deleted(inputs, uninterrupted, tmp_path, capsys):
    """Follows the advice in the error of a damaged dataset_info.json."""
    out = tmp_path / "out"
    shutil.copytree(uninterrupted, out)
    shutil.rmtree(find_dataset(out))
    build("activitynet_captions", *inputs, out, **_OPTIONS, workers=2)
    assert "reusing" not in capsys.readouterr().out
    _assert_same(uninterrupted, out)


class FullDisk(EncodedVideos):
    """Has room for three videos."""

    def save(self, task, result):
        if sum(not file.suffix for file in self.folder.iterdir()) >= 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))
        return super().save(task, result)


@pytest.mark.slow
def test_a_full_disk_while_decoding(inputs, uninterrupted, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(data_pipelines.build, "EncodedVideos", FullDisk)
        with pytest.raises(
            UserError, match=r"the disk is full\. Free some space; then the same command continues"
        ):
            build("activitynet_captions", *inputs, out, **_OPTIONS, workers=1)
    capsys.readouterr()
    build("activitynet_captions", *inputs, out, **_OPTIONS, workers=1)
    assert "3 of 9 videos were encoded before" in capsys.readouterr().out
    _assert_same(uninterrupted, out)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["write", "finalize"])
def test_a_full_disk_while_tfds_writes(inputs, uninterrupted, unfinished, monkeypatch, method):
    tfds = import_tfds()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(unfinished))

    with monkeypatch.context() as patch:
        patch.setattr(tfds.core.writer.Writer, method, full)
        with pytest.raises(UserError, match="the disk is full"):
            build("activitynet_captions", *inputs, unfinished, **_OPTIONS)
    build("activitynet_captions", *inputs, unfinished, **_OPTIONS)
    _assert_same(uninterrupted, unfinished)


def _local(tmp_path: Path, ids: list[str], monkeypatch, verdicts: Callable) -> LocalBuild:
    """A LocalBuild of existing (empty) files whose decoding is played: `verdicts(task)` is its outcome."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for video_id in ids:
        (videos / f"{video_id}.mp4").touch()

    def played(tasks, encoded, workers):
        for task in tasks:
            verdict = verdicts(task)
            if verdict is None:
                encoded.save(task, EncodedVideo([b"jpeg"], 1.0))
            yield task, verdict

    monkeypatch.setattr(local, "encode_videos", played)
    records = [VideoRecord(video_id, 1.0, "train", [], [], []) for video_id in ids]
    return LocalBuild(
        BuildSource(videos, 1.0, 16, 90),
        records,
        EncodedVideos(tmp_path / "encoded"),
        workers=1,
        report=BuildReport(tmp_path / "report.jsonl"),
    )


def test_a_video_folder_that_goes_away(tmp_path, monkeypatch):
    def unmounted_at_3(task):
        if task.video_id < "v3":
            return None
        for file in (tmp_path / "videos").iterdir():
            file.unlink()
        return UnusableVideo("missing", f"{task.path}: there is no such file.")

    build = _local(tmp_path, _IDS, monkeypatch, unmounted_at_3)
    with pytest.raises(
        UserError, match=r"cannot be read any more .*v3.mp4.*still mounted\?.*continues"
    ) as caught:
        build.start()
    assert str(tmp_path / "videos") in str(caught.value)
    assert len(list((tmp_path / "encoded").iterdir())) == 3


def test_many_files_in_a_row_that_cannot_be_opened(tmp_path, monkeypatch):
    ids = [f"v{i:02}" for i in range(40)]
    tried = []

    def bad_disk(task):
        tried.append(task.video_id)
        return (
            None if len(tried) <= 5 else UnusableVideo("cannot be opened", f"{task.path}: Stale file handle")
        )

    build = _local(tmp_path, ids, monkeypatch, bad_disk)
    with pytest.raises(UserError, match=r"cannot be read any more .*v24\.mp4: Stale file handle"):
        build.start()
    assert len(tried) == 25


@pytest.mark.parametrize("kind", ["too wide for JPEG", "cannot be read", "decoder error"])
def test_many_files_in_a_row_that_can_be_opened(tmp_path, monkeypatch, kind):
    ids = [f"v{i:02}" for i in range(40)]
    unusable = lambda task: UnusableVideo(kind, f"{task.path}: …") if task.video_id < "v35" else None
    _local(tmp_path, ids, monkeypatch, unusable).start()
    assert len(list((tmp_path / "encoded").iterdir())) == 5


def test_a_file_that_comes_back_and_one_that_does_not(tmp_path, monkeypatch):
    tried: dict[str, int] = {}

    def flaky(task):
        tried[task.video_id] = tried.get(task.video_id, 0) + 1
        gone = task.video_id == "v2" or (task.video_id == "v5" and tried["v5"] == 1)
        return UnusableVideo("cannot be read", f"{task.path}: Input/output error") if gone else None

    build = _local(tmp_path, _IDS, monkeypatch, flaky)
    splits = build.start()
    assert {video_id for video_id, number in tried.items() if number > 1} == {"v2", "v5"}
    monkeypatch.setattr(local, "example_to_store", lambda record, video, *rest: _stored(record, video))
    assert [video_id for video_id, _ in splits["train"]] == [i for i in _IDS if i != "v2"]
    (line,) = (tmp_path / "report.jsonl").read_text().splitlines()
    assert (json.loads(line)["video_id"], json.loads(line)["kind"]) == ("v2", "cannot be read")


def _stored(record, video):
    from data_pipelines.builders.examples import Findings

    if isinstance(video, UnusableVideo):
        return None, Findings(record.video_id, record.split, video)
    return {}, Findings(record.video_id, record.split)
