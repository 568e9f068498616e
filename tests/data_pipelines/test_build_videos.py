"""All kinds of videos through the whole pipeline: file → shard → batch. Each picture carries its own time."""

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.build import build
from data_pipelines.builders.encoded_videos import EncodedVideos
from data_pipelines.builders.examples import Findings, example_to_store
from data_pipelines.builders.frames import EncodeTask, encode_video
from data_pipelines.builders.source import BuildSource
from data_pipelines.reading.built import find_dataset, read_build_info
from data_pipelines.reading.dataset import ShardedDataset
from data_pipelines.reading.record_index import iterate_records
from tests.timed_video import read_time_s, regular_times_ms, write_video
from tests.tiny import tiny_config
from unloc_jax.records import VideoRecord

_FPS, _SIZE = 8.0, 64  # of the stored frames


@dataclasses.dataclass(frozen=True)
class _Kind:
    """The encoding of a video; sizes are nearly square, so that the crop leaves all of the painted time."""

    suffix: str = ".mp4"
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = (72, 64)
    times_ms: Sequence[int] = tuple(regular_times_ms(3.0))
    options: tuple[tuple[str, str], ...] = ()
    clockwise: int = 0


_KINDS = {
    "h264": _Kind(options=(("bf", "3"), ("g", "40"))),
    "h264_10_bit": _Kind(suffix=".mkv", pix_fmt="yuv420p10le"),
    "hevc_10_bit": _Kind(
        codec="libx265", pix_fmt="yuv420p10le", options=(("x265-params", "log-level=error"),)
    ),
    "vp9": _Kind(suffix=".webm", codec="libvpx-vp9"),
    "av1": _Kind(suffix=".mkv", codec="libsvtav1", pix_fmt="yuv420p10le"),
    "mpeg4": _Kind(suffix=".avi", codec="mpeg4"),
    "odd_size": _Kind(suffix=".mkv", pix_fmt="yuv444p", size=(77, 71)),
    "odd_size_vp9": _Kind(suffix=".webm", codec="libvpx-vp9", size=(71, 77)),
    "variable_rate": _Kind(
        suffix=".mkv", times_ms=(0, 10, 20, 300, 340, 380, 900, 910, 1500, 1510, 1520, 2000, 2300, 2890)
    ),
    "variable_rate_mp4": _Kind(times_ms=(0, 250, 260, 270, 1000, 1400, 1410, 2200, 2210, 2220, 2960)),
    "late_start": _Kind(suffix=".mkv", times_ms=tuple(t + 4000 for t in regular_times_ms(3.0))),
    "60_fps": _Kind(times_ms=tuple(10 * round(100 * k / 60) for k in range(180))),
    "upside_down": _Kind(clockwise=180),
    "phone": _Kind(clockwise=90),
    "other_phone": _Kind(clockwise=270),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "videos").mkdir()
    for name, kind in _KINDS.items():
        write_video(
            folder / "videos" / f"{name}{kind.suffix}",
            list(kind.times_ms),
            size=kind.size,
            codec=kind.codec,
            pix_fmt=kind.pix_fmt,
            options=dict(kind.options),
            clockwise=kind.clockwise,
        )
    captions = {name: {"duration": 3.0, "timestamps": [[0.75, 1.6]], "sentences": [name]} for name in _KINDS}
    (folder / "train.json").write_text(json.dumps(captions))
    options = {"fps": _FPS, "short_side": _SIZE, "workers": 2}
    build("activitynet_captions", [folder / "train.json"], folder / "videos", folder / "out", **options)
    return folder / "out"


def test_what_there_is_to_say_about_a_video_is_reported(tmp_path):
    path = write_video(tmp_path / "late.mp4", [t + 2000 for t in regular_times_ms(2.0)], sound_s=4.0)
    task, encoded = EncodeTask("late", path, 5.0, 64, 95), EncodedVideos(tmp_path)
    encoded.save(task, encode_video(task))
    video = encoded.load(task)
    segments_s = np.array([[3.0, 4.0]], np.float32)
    record = VideoRecord("late", 4.0, "train", segments_s, ["a text"], [{}])
    example, findings = example_to_store(record, video, {}, BuildSource(tmp_path, 5.0, 64, 95))
    assert [problem.kind for problem in findings.problems] == ["picture starts later than the sound"]
    assert "by 2.00 s" in findings.problems[0].detail
    assert Findings.from_json(findings.to_json()) == findings
    # Second 3 is a player's.
    assert read_time_s(np.asarray(Image.open(io.BytesIO(example["frames"][15])))) == pytest.approx(
        3.0, abs=0.041
    )


def test_findings_travel_as_json():
    findings = Findings("a", "train", rows={"clip": (60, 30.0)}, texts=["x"])
    assert Findings.from_json(findings.to_json()) == findings


@pytest.mark.slow
@pytest.mark.parametrize("num_frames", [24, 10])
def test_sampled_frames_show_their_time(built, num_frames):
    problems = read_build_info(built)["problems"]
    assert problems == {"annotations": {}, "videos": {}}
    data = {"dir": str(built), "num_frames": num_frames, "crop_size": _SIZE}
    dataset = ShardedDataset(tiny_config(data=data, evaluation={"batch_size": len(_KINDS)}))
    (batch,) = dataset.evaluation_batches("train")
    names = [record.video_id for record in dataset.records("train")]
    assert set(names) == set(_KINDS)
    num_stored = [
        len(record.frames) for record in iterate_records(find_dataset(built), "train", with_frames=True)
    ]
    for row, name in enumerate(names):
        source_s = np.array(_KINDS[name].times_ms) / 1000
        source_s = source_s - source_s[0]
        shown_s = (
            np.array([read_time_s(frame) for frame in batch.frames[row]]) - _KINDS[name].times_ms[0] / 1000
        )
        first_s, last_s = batch.span_s[row]
        assert (first_s, last_s) == pytest.approx((0.0, (num_stored[row] - 1) / _FPS))
        stored_s = np.rint(np.linspace(0, num_stored[row] - 1, num_frames)) / _FPS
        begun = np.searchsorted(source_s, stored_s + 1e-3, side="right") - 1
        assert np.abs(shown_s - source_s[begun]).max() <= 1e-3, name
        # The frames are at the batch's times, to half the interval between two stored frames.
        grid_s = np.linspace(first_s, last_s, num_frames)
        assert (np.abs(grid_s - stored_s) <= 0.5 / _FPS + 1e-6).all()
        segment_s = first_s + batch.segments[row, 0] * (last_s - first_s) / (num_frames - 1)
        np.testing.assert_allclose(segment_s, [0.75, 1.6], atol=1e-5)


@pytest.mark.slow
def test_stored_frames_have_the_shape_that_is_shown(built):
    for record in iterate_records(find_dataset(built), "train", with_frames=True):
        width, height = Image.open(io.BytesIO(record.frames[0])).size
        shown_width, shown_height = _KINDS[record.video_id].size
        assert min(width, height) == _SIZE
        assert width / height == pytest.approx(shown_width / shown_height, abs=0.02), record.video_id
