"""The decoding pool survives what decoding may do to a process."""

import os
from pathlib import Path

import pytest

from data_pipelines.builders import frames
from data_pipelines.builders.frames import EncodedVideo, EncodeTask, UnusableVideo
from data_pipelines.builders.pool import encode_videos
from tests.data_pipelines.killed_parent import assert_workers_end_with_their_parent
from tests.timed_video import regular_times_ms, write_video
from unloc_jax.errors import UserError


class _Deadly:
    """A path whose use ends the process, as a crash inside FFmpeg would."""

    def __fspath__(self) -> str:
        os._exit(1)


def _task(video_id: str, path) -> EncodeTask:
    return EncodeTask(video_id, path, fps=5.0, short_side=64, jpeg_quality=90)


@pytest.fixture
def video(tmp_path) -> Path:
    return write_video(tmp_path / "a.mp4", regular_times_ms(1.0))


@pytest.mark.slow
def test_all_videos_come_back(video, tmp_path):
    tasks = [_task(f"v{i}", video) for i in range(7)] + [_task("none", tmp_path / "none.mp4")]
    results = {task.video_id: result for task, result in encode_videos(tasks, workers=2)}
    assert set(results) == {task.video_id for task in tasks}
    assert results["none"] == UnusableVideo("missing", f"{tmp_path / 'none.mp4'}: there is no such file.")
    assert len(results["v0"].frames) == 5
    assert all(frame.startswith(b"\xff\xd8") for frame in results["v0"].frames)
    assert results["v0"].duration_s == pytest.approx(1.0, abs=0.05)


def test_an_unexpected_exception_makes_one_unusable_video(video, monkeypatch):
    def broken(frame, quality):
        raise ValueError("odd picture")

    monkeypatch.setattr(frames, "encode_jpeg", broken)
    result = frames.encode_video(_task("a", video))
    assert result == UnusableVideo("decoder error", f"{video}: ValueError: odd picture")


@pytest.mark.slow
def test_only_the_deadly_video_is_lost(video):
    tasks = [
        _task("a", video),
        _task("b", video),
        _task("deadly", _Deadly()),
        _task("c", video),
        _task("d", video),
    ]
    results = dict((task.video_id, result) for task, result in encode_videos(tasks, workers=2))
    assert results.pop("deadly").kind == "decoder crashed"
    assert set(results) == {"a", "b", "c", "d"}
    assert all(isinstance(result, EncodedVideo) for result in results.values())


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(video, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing, sys, time\n"
        "from tests.data_pipelines.test_pool import _task, encode_videos\n"
        "if __name__ == '__main__':\n"
        "    results = encode_videos([_task(str(i), sys.argv[1]) for i in range(9)], workers=2)\n"
        "    next(results)\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "    time.sleep(60)\n"
    )
    assert_workers_end_with_their_parent([str(script), str(video)])


@pytest.mark.slow
def test_dying_processes_are_not_blamed_on_the_videos():
    with pytest.raises(UserError, match="3 decoding processes in a row have died"):
        list(encode_videos([_task(str(i), _Deadly()) for i in range(50)], workers=2))
