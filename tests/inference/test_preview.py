"""Preview bytes: which files are passed on unchanged, and what a copy looks like."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from tests import timed_video
from tests.timed_video import regular_times_ms, set_matrix
from unloc_jax.errors import UserError
from unloc_jax.inference.preview import preview_bytes
from unloc_jax.video import decode_frames


def write_video(
    path,
    *,
    codec="libx264",
    pix_fmt="yuv420p",
    size=(64, 48),
    fps=10,
    times_s=None,
    gray=None,
    noise=0,
    start_s=0.0,
    options=None,
):
    """A video whose frame at time t is gray(t) with optional noise; times_s makes the frame rate vary."""
    times_s = np.arange(20) / fps if times_s is None else times_s
    gray = gray or (lambda time_s: 128)
    rng = np.random.default_rng(0)
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if len(set(np.diff(times_s).round(6))) > 1:
            stream.codec_context.time_base = Fraction(1, 1000)
        for time_s in times_s:
            array = np.full((height, width, 3), gray(time_s), np.float32)
            array = (array + rng.uniform(-noise, noise, array.shape)).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(array, "rgb24").reformat(format=pix_fmt)
            frame.time_base = stream.codec_context.time_base or Fraction(1, fps)
            frame.pts = round((time_s + start_s) / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read(data: bytes):
    """(properties of the stream, times in seconds, mean gray per frame) of video bytes."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        properties = {
            "codec": stream.codec_context.name,
            "pixels": stream.codec_context.pix_fmt,
            "size": (stream.width, stream.height),
            "duration_s": float(stream.duration * stream.time_base),
            "sound": len(container.streams.audio),
            "fps": float(stream.average_rate),
        }
        frames = list(container.decode(video=0))
    return (
        properties,
        np.array([f.time for f in frames]),
        np.array([f.to_ndarray(format="gray").mean() for f in frames]),
    )


@pytest.mark.parametrize(
    ("name", "codec", "mime"),
    [
        ("h264.mp4", "libx264", "video/mp4"),
        ("vp8.webm", "libvpx", "video/webm"),
        ("vp9.webm", "libvpx-vp9", "video/webm"),
        ("av1.mp4", "libsvtav1", "video/mp4"),
    ],
)
def test_what_browsers_play_is_passed_on_unchanged(tmp_path, name, codec, mime):
    path = write_video(tmp_path / name, codec=codec)
    assert preview_bytes(path) == (path.read_bytes(), mime)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("mpeg4.avi", "mpeg4", "yuv420p"),
        ("mpeg4.mp4", "mpeg4", "yuv420p"),
        ("full_chroma.mp4", "libx264", "yuv444p"),
        ("ten_bit.mp4", "libx264", "yuv420p10le"),
        ("matroska.mkv", "libx264", "yuv420p"),
        ("quicktime.mov", "libx264", "yuv420p"),
        ("stream.ts", "libx264", "yuv420p"),
    ],
)
def test_everything_else_becomes_h264_in_mp4_with_the_index_in_front(tmp_path, name, codec, pix_fmt):
    path = write_video(tmp_path / name, codec=codec, pix_fmt=pix_fmt, gray=lambda t: 20 + 100 * t)
    data, mime = preview_bytes(path)
    properties, times_s, grays = read(data)
    assert mime == "video/mp4" and data != path.read_bytes()
    assert (properties["codec"], properties["pixels"], properties["size"]) == ("h264", "yuv420p", (64, 48))
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    assert properties["duration_s"] == pytest.approx(2.0, abs=0.101)
    assert times_s[0] == 0
    np.testing.assert_allclose(grays, 20 + 100 * times_s, atol=5)


def test_a_mirrored_video_is_mirrored_in_its_copy(tmp_path):
    path = timed_video.write_video(tmp_path / "a.mp4", regular_times_ms(1.0), size=(96, 72))
    assert preview_bytes(path)[0] == path.read_bytes()
    set_matrix(path, -1, 0, 0, 1)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(preview_bytes(path)[0])
    (mirrored, *_), (shown, *_) = (decode_frames(each, fps=5, short_side=72).frames for each in (path, copy))
    assert (
        np.abs(mirrored.astype(int) - shown).mean() < 5 < np.abs(mirrored[:, ::-1].astype(int) - shown).mean()
    )


def test_a_late_first_frame_is_moved_to_second_0(tmp_path):
    path = write_video(tmp_path / "late.mp4", start_s=1.5, gray=lambda t: 20 + 100 * t, options={"bf": "0"})
    with av.open(str(path)) as container:
        assert container.streams.video[0].start_time > 0, "the test video does not start late"
    _, times_s, grays = read(preview_bytes(path)[0])
    np.testing.assert_allclose(grays, 20 + 100 * times_s, atol=5)


def test_variable_frame_rate_keeps_its_times(tmp_path):
    # One frame per 0.5 s, then 30 per second, then a long still: brightness tells a frame's original time.
    times_s = np.concatenate([np.arange(0, 2, 0.5), np.arange(2, 4, 1 / 30), [4.0, 6.0]]).round(3)
    path = write_video(tmp_path / "vfr.mov", fps=30, times_s=times_s, gray=lambda t: 20 + 35 * t)
    _, source_times_s, source_grays = read(path.read_bytes())
    np.testing.assert_allclose(source_times_s, times_s, atol=1e-3)
    properties, copy_times_s, grays = read(preview_bytes(path)[0])
    shown = np.searchsorted(times_s, copy_times_s + 1e-3, side="right") - 1
    np.testing.assert_allclose(grays, source_grays[shown], atol=2.5)  # 2.5 levels: 0.07 s
    assert properties["duration_s"] >= 6


def test_copies_are_scaled_down_to_even_sizes_and_never_up(tmp_path):
    large = write_video(tmp_path / "large.avi", codec="mpeg4", size=(1000, 750), times_s=np.arange(3) / 10)
    assert read(preview_bytes(large)[0])[0]["size"] == (640, 480)
    assert read(preview_bytes(large, max_height=101)[0])[0]["size"] == (134, 100)
    upright = write_video(tmp_path / "upright.avi", codec="mpeg4", size=(360, 640), times_s=np.arange(3) / 10)
    assert read(preview_bytes(upright)[0])[0]["size"] == (270, 480)
    odd = write_video(tmp_path / "odd.mkv", pix_fmt="yuv444p", size=(61, 47), times_s=np.arange(3) / 10)
    assert read(preview_bytes(odd)[0])[0]["size"] == (60, 46)


@pytest.mark.parametrize(("fps", "expected"), [(60, 30), (50, 25), (25, 25), (24, 24), (10, 10), (5, 15)])
def test_frame_rates_of_copies_are_whole_parts_or_multiples(tmp_path, fps, expected):
    path = write_video(tmp_path / "rate.avi", codec="mpeg4", fps=fps)
    assert read(preview_bytes(path)[0])[0]["fps"] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("max_bytes", [300_000, 60_000, 16_000])
def test_noise_is_squeezed_into_max_bytes(tmp_path, max_bytes):
    path = write_video(
        tmp_path / "noise.mp4", size=(320, 240), fps=30, times_s=np.arange(150) / 30, noise=120
    )
    assert path.stat().st_size > 1_000_000
    data, mime = preview_bytes(path, max_bytes=max_bytes)
    properties, _, _ = read(data)
    assert mime == "video/mp4" and len(data) <= max_bytes
    assert properties["duration_s"] == pytest.approx(5.0, abs=1 / properties["fps"] + 0.01)


def test_a_size_that_cannot_be_met_is_an_error_with_the_way_out(tmp_path):
    path = write_video(tmp_path / "long.avi", codec="mpeg4", fps=1, times_s=np.arange(100))
    with pytest.raises(UserError, match=r"long\.avi: 100 s .* 4000 bytes\. Allow more bytes or cut"):
        preview_bytes(path, max_bytes=4000)


def test_unusable_files_are_user_errors(tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    with pytest.raises(UserError, match=r"notes\.mp4"):
        preview_bytes(text)
    with pytest.raises(UserError, match=r"nothing\.mp4"):
        preview_bytes(tmp_path / "nothing.mp4")
