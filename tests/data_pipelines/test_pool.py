"""The decoding pool survives what decoding may do to a process."""

import dataclasses
import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from data_pipelines.builders import frames, pool
from data_pipelines.builders.encoded_videos import EncodedVideos
from data_pipelines.builders.frames import EncodedVideo, EncodeTask, UnusableVideo
from data_pipelines.builders.pool import encode_videos
from tests.data_pipelines.killed_parent import assert_workers_end_with_their_parent
from tests.timed_video import regular_times_ms, write_video
from unloc_jax.errors import UserError


class Deadly:
    """A path whose use ends the process, as a crash inside FFmpeg would."""

    def __fspath__(self) -> str:
        os._exit(1)


class Endless:
    """A path whose use never ends."""

    def __fspath__(self) -> str:
        time.sleep(600)
        return ""


class FullDisk(EncodedVideos):
    """A folder on a disk that is full."""

    def save(self, task, result):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))


def _task(video_id: str, path) -> EncodeTask:
    return EncodeTask(video_id, path, fps=5.0, short_side=64, jpeg_quality=90)


@pytest.fixture
def video(tmp_path) -> Path:
    return write_video(tmp_path / "a.mp4", regular_times_ms(1.0))


@pytest.fixture
def encoded(tmp_path) -> EncodedVideos:
    (tmp_path / "encoded").mkdir()
    return EncodedVideos(tmp_path / "encoded")


def _verdicts(tasks, encoded, workers=2) -> dict[str, UnusableVideo | None]:
    return {task.video_id: verdict for task, verdict in encode_videos(tasks, encoded, workers)}


@pytest.mark.slow
def test_all_videos_come_back(video, tmp_path, encoded):
    tasks = [_task(f"v{i}", video) for i in range(7)] + [_task("none", tmp_path / "none.mp4")]
    verdicts = _verdicts(tasks, encoded)
    assert verdicts.pop("none") == UnusableVideo(
        "missing", f"{tmp_path / 'none.mp4'}: there is no such file."
    )
    assert verdicts == {task.video_id: None for task in tasks[:-1]}
    for task in tasks[:-1]:
        result = encoded.load(task)
        assert isinstance(result, EncodedVideo)
        assert len(result.frames) == 5
        assert all(frame.startswith(b"\xff\xd8") for frame in result.frames)
        assert result.duration_s == pytest.approx(1.0, abs=0.05)


def test_an_unexpected_exception_makes_one_unusable_video(video, monkeypatch):
    def broken(frame, quality):
        raise ValueError("odd picture")

    monkeypatch.setattr(frames, "encode_jpeg", broken)
    result = frames.encode_video(_task("a", video))
    assert result == UnusableVideo("decoder error", f"{video}: ValueError: odd picture")


def test_a_bad_disk_is_not_a_bad_video(video, monkeypatch):
    def fails(self, *args, **kwargs):
        raise OSError(errno.EIO, "Input/output error", str(self))

    video.write_bytes(video.read_bytes()[:-500])
    assert frames.encode_video(_task("a", video)).kind == "truncated"
    monkeypatch.setattr(Path, "open", fails)
    result = frames.encode_video(_task("a", video))
    assert result == UnusableVideo("cannot be opened", f"{video}: Input/output error")


def test_a_picture_too_wide_for_jpeg_is_not_a_bad_disk(tmp_path, encoded):
    file = tmp_path / "strip.mkv"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("ffv1", rate=5, width=2052, height=8, pix_fmt="yuv420p")
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame(2052, 8, "yuv420p")))
        container.mux(stream.encode())
    task = EncodeTask("strip", file, fps=5.0, short_side=256, jpeg_quality=90)
    result = frames.encode_video(task)
    assert isinstance(result, UnusableVideo)
    assert result.kind == "too wide for JPEG"
    assert "65664×256 pixels; JPEG holds 65500 at most" in result.reason
    assert encoded.save(task, result) and encoded.load(task) == result  # it is not decoded again
    assert isinstance(frames.encode_video(dataclasses.replace(task, short_side=255)), EncodedVideo)


@pytest.mark.slow
def test_only_the_deadly_video_is_lost(video, encoded):
    tasks = [
        _task("a", video),
        _task("b", video),
        _task("deadly", Deadly()),
        _task("c", video),
        _task("d", video),
    ]
    verdicts = _verdicts(tasks, encoded)
    assert verdicts.pop("deadly").kind == "decoder crashed"
    assert verdicts == dict.fromkeys("abcd")
    # Next time it may go better: memory may have been short.
    assert not encoded.known(tasks[2])


def _run(script: Path, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """A script of a user's, with the repository on its path."""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, *map(str, (script, *arguments))],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_a_stuck_decoder_is_ended(video, encoded, tmp_path):
    # The limit is a constant of the module, which workers import anew: they get theirs from a file of that name.
    script = tmp_path / "stuck.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from data_pipelines.builders import pool\n"
        "pool._STUCK_S = 5\n"
        "from tests.data_pipelines.test_pool import *\n"
        "from tests.data_pipelines.test_pool import _task\n"
        "if __name__ == '__main__':\n"
        "    encoded = EncodedVideos(Path(sys.argv[2]))\n"
        "    tasks = [_task('a', Path(sys.argv[1])), _task('stuck', Endless())]\n"
        "    for task, verdict in encode_videos(tasks, encoded, workers=2):\n"
        "        print(task.video_id, verdict and verdict.kind)\n"
    )
    done = _run(script, video, encoded.folder)
    assert sorted(done.stdout.splitlines()) == ["a None", "stuck decoder crashed"], done.stderr


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(video, tmp_path, encoded):
    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing, sys, time\n"
        "from pathlib import Path\n"
        "from tests.data_pipelines.test_pool import EncodedVideos, _task, encode_videos\n"
        "if __name__ == '__main__':\n"
        "    tasks = [_task(str(i), Path(sys.argv[1])) for i in range(9)]\n"
        "    results = encode_videos(tasks, EncodedVideos(Path(sys.argv[2])), workers=2)\n"
        "    next(results)\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "    time.sleep(600)\n"
    )
    assert_workers_end_with_their_parent([str(script), str(video), str(encoded.folder)])


@pytest.mark.slow
def test_dying_processes_are_not_blamed_on_the_videos(encoded, monkeypatch):
    monkeypatch.setattr(pool, "_MAX_CRASHES_IN_A_ROW", 3)
    tasks = [_task(str(i), Deadly()) for i in range(50)]
    with pytest.raises(UserError, match=r"3 decoding processes in a row have died.*continues where"):
        _verdicts(tasks, encoded)


@pytest.mark.slow
def test_a_script_without_main_guard(video, encoded, tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.data_pipelines.test_pool import EncodedVideos, _task, encode_videos\n"
        "tasks = [_task('a', Path(sys.argv[1]))]\n"
        "list(encode_videos(tasks, EncodedVideos(Path(sys.argv[2])), workers=1))\n"
    )
    done = _run(script, video, encoded.folder)
    assert 'does your script lack `if __name__ == "__main__":`?' in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_full_disk_ends_the_build_at_once(video, tmp_path):
    """Nobody waits for the other worker."""
    began = time.monotonic()
    tasks = [_task("a", video), _task("endless", Endless())]
    with pytest.raises(OSError) as caught:
        _verdicts(tasks, FullDisk(tmp_path))
    assert caught.value.errno == errno.ENOSPC
    assert time.monotonic() - began < pool._STUCK_S


def test_what_is_saved_is_loaded(video, encoded):
    task = _task("a", video)
    assert not encoded.known(task) and encoded.load(task) is None
    result = EncodedVideo([b"one", b"", b"three\n{}"], 1.25)
    encoded.save(task, result)
    assert encoded.known(task) and encoded.load(task) == result
    # Other settings make other frames.
    for other in (
        EncodeTask("b", video, 5.0, 64, 90),
        EncodeTask("a", video, 5.5, 64, 90),
        EncodeTask("a", video, 5.0, 65, 90),
        EncodeTask("a", video, 5.0, 64, 91),
    ):
        assert not encoded.known(other)
    # The frames are good when the video is gone, and not when it is another one.
    contents = video.read_bytes()
    video.unlink()
    assert encoded.known(task) and encoded.load(task) == result
    video.write_bytes(contents + b"more")
    assert not encoded.known(task) and encoded.load(task) is None


def test_only_verdicts_about_the_file_are_remembered(video, encoded):
    task = _task("a", video)
    for kind in ("missing", "cannot be opened", "cannot be read", "decoder crashed", "decoder error"):
        encoded.save(task, UnusableVideo(kind, "why"))
        assert not encoded.known(task)
    encoded.save(task, UnusableVideo("truncated", "why"))
    assert encoded.known(task) and encoded.load(task) == UnusableVideo("truncated", "why")
    os.utime(video, (0, 0))  # got again
    assert not encoded.known(task)


@pytest.mark.parametrize("damage", ["cut", "flipped", "header", "empty"])
def test_damaged_files_count_as_absent(video, encoded, damage):
    task = _task("a", video)
    encoded.save(task, EncodedVideo([b"frame one", b"frame two"], 1.0))
    (file,) = encoded.folder.iterdir()
    contents = bytearray(file.read_bytes())
    if damage == "flipped":
        contents[-1] ^= 1
    file.write_bytes({"cut": contents[:-1], "header": contents[5:], "empty": b""}.get(damage, contents))
    assert encoded.load(task) is None
    if damage != "flipped":
        assert not encoded.known(task)


def test_nothing_is_left_of_a_failed_write(video, encoded, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        encoded.save(_task("a", video), EncodedVideo([b"frame"], 1.0))
    assert not list(encoded.folder.iterdir())
