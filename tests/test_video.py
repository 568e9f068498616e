"""Frames at the right times from all kinds of files: each picture carries its own time."""

import pickle
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.timed_video import read_time_s, regular_times_ms, set_matrix, timed_picture, write_video
from unloc_jax.errors import UserError
from unloc_jax.video import FrameStream, VideoError, decode_frames, probe

_REAL_VIDEOS = Path(__file__).parents[2] / "shared" / "videos"


def _assert_shown(path: Path, times_ms: list[int], fps: float) -> None:
    """Frame k shows the last picture whose time is not after k / fps."""
    decoded = decode_frames(path, fps=fps, short_side=64)
    times_s = np.array(times_ms) / 1000
    times_s = times_s - times_s[0]
    assert (len(decoded.frames) - 1) / fps < decoded.duration_s <= len(decoded.frames) / fps + 1e-3
    assert decoded.duration_s >= times_s[-1]
    for k, picture in enumerate(decoded.frames):
        shown_s = read_time_s(picture) - times_ms[0] / 1000
        assert shown_s == pytest.approx(times_s[times_s <= k / fps + 1e-3][-1], abs=1e-6), k


@pytest.mark.parametrize("fps", [10.0, 25.0, 7.3, 40.0])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mov", "mpeg4", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.mp4", "libx265", "yuv420p10le"),
        ("a.mkv", "libsvtav1", "yuv420p10le"),
    ],
)
def test_frames_are_those_shown_at_their_times(tmp_path, name, codec, pix_fmt, fps):
    times_ms = regular_times_ms(3.0)
    options = {"x265-params": "log-level=error"} if codec == "libx265" else {}
    path = write_video(tmp_path / name, times_ms, codec=codec, pix_fmt=pix_fmt, options=options)
    _assert_shown(path, times_ms, fps)
    assert decode_frames(path, fps=fps, short_side=32).duration_s == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize("name", ["vfr.mp4", "vfr.mkv"])
def test_variable_frame_rate(tmp_path, name):
    steps_ms = np.random.default_rng(0).choice([10, 20, 40, 130, 400], 60)
    times_ms = [0, *np.cumsum(steps_ms).tolist()]
    times_ms = [t for t in times_ms if t < 10_000]
    path = write_video(tmp_path / name, times_ms)
    for fps in (4.0, 10.0, 30.0):
        _assert_shown(path, times_ms, fps)


def test_b_frames_come_in_presentation_order(tmp_path):
    times_ms = regular_times_ms(2.0)
    path = write_video(tmp_path / "b.mp4", times_ms, options={"bf": "3", "g": "50"})
    _assert_shown(path, times_ms, 25.0)


def test_times_count_from_the_first_frame_if_there_is_nothing_before_it(tmp_path):
    times_ms = [t + 4000 for t in regular_times_ms(2.0)]
    _assert_shown(write_video(tmp_path / "late.mkv", times_ms), times_ms, 10.0)


def test_missing_time_stamps_fall_back_on_the_average_rate(tmp_path):
    # A bare H.264 stream carries no time stamps.
    path = write_video(tmp_path / "bare.h264", regular_times_ms(2.0), options={"bf": "0"})
    decoded = decode_frames(path, fps=5.0, short_side=64)
    shown_s = np.array([read_time_s(shown) for shown in decoded.frames])
    np.testing.assert_allclose(shown_s, np.arange(len(shown_s)) / 5.0, atol=0.0201)


def test_first_and_last_frame_of_a_slow_video_are_repeated(tmp_path):
    path = write_video(tmp_path / "slow.mp4", [0, 1000, 2000])
    stream = FrameStream(path, fps=10.0, short_side=64)
    arrays = list(stream)
    assert [read_time_s(a) for a in arrays[:21]] == [0.0] * 10 + [1.0] * 10 + [2.0]
    assert arrays[0] is arrays[9]
    assert arrays[9] is not arrays[10]
    assert len(arrays) == np.ceil(stream.duration_s * 10 - 0.01)


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((96, 72), 36, (36, 48)),
        ((72, 96), 36, (48, 36)),
        ((98, 74), 37, (37, 49)),
        ((96, 72), 144, (144, 192)),
        ((101, 75), 75, (75, 101)),
    ],
)
def test_short_side_and_aspect(tmp_path, size, short_side, expected):
    # yuv444p allows odd sizes.
    path = write_video(tmp_path / "a.mkv", regular_times_ms(0.4), size=size, pix_fmt="yuv444p")
    decoded = decode_frames(path, fps=10.0, short_side=short_side)
    assert decoded.frames.shape == (4, *expected, 3)
    assert decoded.frames.dtype == np.uint8
    assert read_time_s(decoded.frames[2]) == pytest.approx(0.2)


def test_pixels_that_are_not_square_are_stretched(tmp_path):
    path = tmp_path / "anamorphic.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(timed_picture(0, 96, 72), "rgb24")))
        container.mux(stream.encode(None))
    assert decode_frames(path, fps=25.0, short_side=72).frames.shape[1:3] == (72, 128)
    assert (probe(path).width, probe(path).height) == (128, 72)


# Display matrices (a, b, c, d), and how they show [[0, 1], [2, 3]].
_ORIENTATIONS = {
    "upright": ((1, 0, 0, 1), [[0, 1], [2, 3]]),
    "mirrored": ((-1, 0, 0, 1), [[1, 0], [3, 2]]),
    "upside down, mirrored": ((1, 0, 0, -1), [[2, 3], [0, 1]]),
    "half a turn": ((-1, 0, 0, -1), [[3, 2], [1, 0]]),
    "transposed": ((0, 1, 1, 0), [[0, 2], [1, 3]]),
    "clockwise": ((0, 1, -1, 0), [[2, 0], [3, 1]]),
    "counterclockwise": ((0, -1, 1, 0), [[1, 3], [0, 2]]),
    "transposed along the other diagonal": ((0, -1, -1, 0), [[3, 1], [2, 0]]),
}
_GREYS = np.array([[40, 100], [160, 220]])


def _write_quarters(path: Path, bitstream_filter: str = "") -> Path:
    """96×48 pixels, four quarters of different grey."""
    picture = np.repeat(np.kron(_GREYS, np.ones((24, 48))).astype(np.uint8)[..., None], 3, axis=2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        packets = [p for _ in range(3) for p in stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24"))]
        packets += stream.encode(None)
        if bitstream_filter:
            through = av.BitStreamFilterContext(bitstream_filter, stream)
            packets = [made for packet in [*packets, None] for made in through.filter(packet)]
        for packet in packets:
            packet.stream = stream
            container.mux(packet)
    return path


def _assert_oriented(path: Path, expected: list[list[int]], *, transposed: bool) -> None:
    (picture, *_) = decode_frames(path, fps=25.0, short_side=48).frames
    height, width = (96, 48) if transposed else (48, 96)
    assert picture.shape == (height, width, 3)
    assert (probe(path).width, probe(path).height) == (width, height)
    centres = picture[height // 4 :: height // 2, width // 4 :: width // 2, 0].astype(int)
    assert np.abs(centres - _GREYS.ravel()[expected]).max() < 15


@pytest.mark.parametrize("name", _ORIENTATIONS)
def test_a_display_matrix_turns_and_mirrors(tmp_path, name):
    matrix, expected = _ORIENTATIONS[name]
    path = _write_quarters(tmp_path / "a.mp4")
    set_matrix(path, *matrix)
    _assert_oriented(path, expected, transposed=matrix[0] == 0)


def test_a_message_in_the_stream_turns_and_mirrors(tmp_path):
    path = _write_quarters(
        tmp_path / "a.h264", "h264_metadata=display_orientation=insert:rotate=90:flip=horizontal"
    )
    with av.open(str(path)) as container:  # FFmpeg gives such a message as a matrix as well
        assert next(container.decode(video=0)).side_data.get("DISPLAYMATRIX") is not None
    # Flipped, then turned counterclockwise (ITU-T H.264, D.2.27).
    _assert_oriented(path, np.rot90(np.fliplr([[0, 1], [2, 3]])).tolist(), transposed=True)


def test_a_picture_with_exif_is_turned(tmp_path):
    """PyAV does not know this kind of side data, and then shows none."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(timed_picture(500, 96, 72))))
    stored.save(tmp_path / "a.jpg", exif=exif)
    (picture,) = decode_frames(tmp_path / "a.jpg", fps=1.0, short_side=72).frames
    assert picture.shape == (72, 96, 3) and read_time_s(picture) == 0.5


def test_animated_pictures(tmp_path):
    pictures = [Image.fromarray(timed_picture(500 * i, 96, 72)) for i in range(4)]
    for suffix in ("gif", "png", "webp"):
        path = tmp_path / f"a.{suffix}"
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=500)
        if suffix == "webp" and "webp_anim" not in av.codecs_available:
            kind, message = _kind(path)
            assert kind == "not a video" and "animated WebP" in message and "pip install 'av>=19'" in message
        else:
            decoded = decode_frames(path, fps=2.0, short_side=72)
            assert [read_time_s(frame) for frame in decoded.frames] == [0.0, 0.5, 1.0, 1.5]


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG"), (1, "")])
def test_hdr_is_told(tmp_path, transfer, name):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=error"})
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p10le"
        stream.codec_context.color_trc = transfer
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(timed_picture(0, 96, 72), "rgb24")))
        container.mux(stream.encode(None))
    stream = FrameStream(path, fps=25.0, short_side=72)
    assert list(stream)
    for notes in (stream.notes, probe(path).notes):
        assert [note.kind for note in notes] == (["HDR is not tone-mapped"] if name else [])
        assert all(name in note.detail for note in notes)


@pytest.mark.parametrize("clockwise", [90, 180, 270])
def test_rotation_metadata_is_honoured(tmp_path, clockwise):
    path = write_video(tmp_path / "phone.mp4", regular_times_ms(1.0), size=(72, 96), clockwise=clockwise)
    decoded = decode_frames(path, fps=5.0, short_side=48)
    assert decoded.frames.shape == (5, 64, 48, 3)
    assert [read_time_s(p) for p in decoded.frames] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    assert (probe(path).width, probe(path).height) == (72, 96)


def test_probe(tmp_path):
    info = probe(write_video(tmp_path / "a.mp4", regular_times_ms(2.0)))
    assert (info.codec, info.width, info.height) == ("h264", 96, 72)
    assert info.duration_s == pytest.approx(2.0, abs=0.05)
    assert info.avg_fps == pytest.approx(25.0, rel=0.03)


def _kind(path: Path) -> tuple[str, str]:
    with pytest.raises(VideoError) as caught:
        decode_frames(path, fps=10.0, short_side=64)
    assert str(path) in str(caught.value)
    return caught.value.kind, str(caught.value)


def test_missing_empty_and_foreign_files(tmp_path):
    assert _kind(tmp_path / "nothing.mp4")[0] == "missing"
    assert _kind(tmp_path)[0] == "missing"
    (tmp_path / "empty.mp4").touch()
    assert _kind(tmp_path / "empty.mp4")[0] == "empty file"
    (tmp_path / "text.mp4").write_text("<html>404 Not Found</html>\n" * 50)
    assert _kind(tmp_path / "text.mp4")[0] == "not a video"
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    assert _kind(tmp_path / "noise.mp4")[0] in ("not a video", "no frames")


@pytest.mark.parametrize(
    "name, text",
    [
        ("list.mp4", "ffconcat version 1.0\nfile secret.mp4\n"),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{folder}/secret.mp4\n#EXT-X-ENDLIST\n"),
        (
            "list.sdp",
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        ),
    ],
)
def test_a_list_of_other_files_is_no_video(tmp_path, name, text):
    """FFmpeg would open what it names: another visitor's video, or an address in the network."""
    write_video(tmp_path / "secret.mp4", regular_times_ms(2.0))
    (tmp_path / name).write_text(text.format(folder=tmp_path))
    assert _kind(tmp_path / name)[0] == "not a video"


def test_audio_only(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for i in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, 1024 * i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    kind, message = _kind(path)
    assert kind == "not a video"
    assert "no video in this file" in message


def _without_decoder(path: Path) -> Path:
    """Gives the first video stream of a Matroska file a codec that FFmpeg does not know."""
    data = path.read_bytes()
    assert b"V_MPEG4/ISO/AVC" in data
    path.write_bytes(data.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ", 1))
    return path


def test_unknown_codec(tmp_path):
    path = _without_decoder(write_video(tmp_path / "a.mkv", regular_times_ms(1.0)))
    kind, message = _kind(path)
    assert kind == "not a video"
    assert "no decoder" in message
    with pytest.raises(VideoError, match="no decoder"):
        probe(path)


def test_a_stream_without_decoder_before_the_video_is_passed_over(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        other = container.add_stream("libx264", rate=25)
        stream = container.add_stream("libx264", rate=25)
        for each, (width, height) in ((other, (192, 144)), (stream, (96, 72))):
            each.width, each.height, each.pix_fmt = width, height, "yuv420p"
            each.codec_context.time_base = Fraction(1, 1000)
        for time_ms in regular_times_ms(1.0):
            for each in (other, stream):
                picture = timed_picture(time_ms, each.width, each.height)
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
                container.mux(each.encode(frame))
        for each in (other, stream):
            container.mux(each.encode(None))
    assert probe(path).width == 192
    _without_decoder(path)
    assert probe(path).width == 96
    _assert_shown(path, regular_times_ms(1.0), 10.0)


@pytest.mark.parametrize("fraction", [0.002, 0.2, 0.5, 0.95])
def test_mp4_cut_before_its_index(tmp_path, fraction):
    data = write_video(tmp_path / "a.mp4", regular_times_ms(4.0)).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: round(len(data) * fraction)])
    kind, message = _kind(cut)
    assert kind == ("not a video" if len(cut.read_bytes()) < 8 else "truncated")
    assert "moov atom not found" in message or fraction < 0.01


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4")],
)
@pytest.mark.parametrize("fraction", [0.55, 0.8])
def test_cut_after_the_header(tmp_path, name, codec, fraction):
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    data = write_video(
        tmp_path / name,
        regular_times_ms(4.0),
        codec=codec,
        time_base=Fraction(1, 25),
        container_options=options,
    ).read_bytes()
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(data[: round(len(data) * fraction)])
    kind, message = _kind(cut)
    assert kind == "truncated"
    assert "the header says 4.0 s, only" in message


_LONG_LAST = [
    ("a.mp4", "libx264", 14.0),
    ("a.mp4", "libvpx-vp9", 14.0),
    ("a.avi", "mpeg4", 14.0),
    ("a.mkv", "libx264", 14.0),
    ("a.webm", "libvpx-vp9", 14.0),
    ("a.flv", "libx264", 4.0),  # only its header has more
]


@pytest.mark.parametrize(("name", "codec", "ends_s"), _LONG_LAST)
def test_a_whole_file_whose_header_is_longer_than_its_pictures(tmp_path, name, codec, ends_s):
    """The last picture stands still; a file that lacks its end is told from it."""
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    base = Fraction(1, 25) if name.endswith("avi") else Fraction(1, 1000)
    times_ms = regular_times_ms(4.0)
    path = write_video(
        tmp_path / name, times_ms, codec=codec, time_base=base, container_options=options, last_s=10.0
    )
    decoded = decode_frames(path, fps=5.0, short_side=64)
    stream = FrameStream(path, fps=5.0, short_side=64)
    assert len(list(stream)) == len(decoded.frames) == pytest.approx(5 * ends_s, abs=1)
    assert decoded.duration_s == pytest.approx(ends_s, abs=0.1)
    assert probe(path).duration_s == pytest.approx(decoded.duration_s, abs=0.1)
    assert read_time_s(decoded.frames[-1]) == pytest.approx(times_ms[-1] / 1000, abs=0.2)
    notes = [note.kind for note in stream.notes]
    assert notes == [note.kind for note in probe(path).notes]
    assert notes == (["picture ends before the header's length"] if ends_s == 4.0 else [])
    data = path.read_bytes()
    pictures_end = data.rindex(b"idx1") if name.endswith("avi") else len(data)
    pictures_start = data.index(b"movi") if name.endswith("avi") else 0
    for fraction in (0.55, 0.8):
        at = round(pictures_start + fraction * (pictures_end - pictures_start))
        path.write_bytes(data[:at])
        assert _kind(path)[0] == "truncated"
        path.write_bytes(data[:at] + bytes(len(data) - at))
        assert _kind(path)[0] == "truncated"  # the rest was never downloaded


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.flv", "a.ts", "a.avi"])
@pytest.mark.parametrize(("sound_s", "told"), [(4.1, False), (20.0, True)])
def test_a_picture_that_ends_before_the_sound(tmp_path, name, sound_s, told):
    """The header, of whatever it is, and the frames give one length and one note."""
    base = Fraction(1, 25) if name.endswith("avi") else Fraction(1, 1000)
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = write_video(tmp_path / name, regular_times_ms(4.0), codec=codec, time_base=base, sound_s=sound_s)
    stream = FrameStream(path, fps=5.0, short_side=64)
    frames = list(stream)
    info = probe(path)
    assert len(frames) == pytest.approx(20, abs=1)
    assert (info.duration_s, stream.duration_s) == pytest.approx((4.0, 4.0), abs=0.15)
    for notes in (info.notes, stream.notes):
        assert [note.kind for note in notes] == (["picture ends before the sound"] if told else [])


@pytest.mark.parametrize("after_mdat", [100, -100])
def test_cut_before_the_end_of_the_first_frame(tmp_path, after_mdat):
    path = write_video(tmp_path / "a.mp4", regular_times_ms(1.0), container_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"mdat") + after_mdat])
    kind, message = _kind(path)
    assert kind == "truncated"
    assert "before its first whole frame" in message


def test_a_little_missing_at_the_end_is_no_fault(tmp_path):
    data = write_video(
        tmp_path / "a.mp4",
        regular_times_ms(6.0),
        container_options={"movflags": "faststart"},
        options={"bf": "0"},
    ).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: round(len(data) * 0.97)])
    decoded = decode_frames(cut, fps=10.0, short_side=64)
    assert 5.5 < decoded.duration_s < 6.0
    assert read_time_s(decoded.frames[50]) == pytest.approx(5.0, abs=0.021)


def _scale_matroska_duration(path: Path, factor: float) -> None:
    """Matroska: Duration is element 0x4489, a float64 of milliseconds; the per-track tag is blanked."""
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = struct.pack(">d", struct.unpack(">d", data[at : at + 8])[0] * factor)
    path.write_bytes(data.replace(b"DURATION", b"IGNORED_"))


@pytest.mark.parametrize(("factor", "fault"), [(3.0, True), (0.3, False)])
def test_wrong_duration_in_the_header(tmp_path, factor, fault):
    path = write_video(tmp_path / "a.mkv", regular_times_ms(4.0))
    _scale_matroska_duration(path, factor)
    if fault:
        kind, message = _kind(path)
        assert kind == "truncated"
        assert "the header says 12.0 s, only 4.0 s could be decoded" in message
    else:
        assert decode_frames(path, fps=10.0, short_side=64).duration_s == pytest.approx(4.0, abs=0.05)


def test_a_leap_of_the_clock_does_not_make_days_of_frames(tmp_path):
    times_ms = [t + (100_000_000 if t >= 1000 else 0) for t in regular_times_ms(2.0)]
    path = write_video(tmp_path / "leap.mkv", times_ms, options={"bf": "0"})
    _scale_matroska_duration(path, 2e-5)
    decoded = decode_frames(path, fps=10.0, short_side=64)
    assert decoded.duration_s == pytest.approx(2.0, abs=0.1)
    assert len(decoded.frames) == pytest.approx(20, abs=1)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_audio_longer_than_the_video_is_no_fault(tmp_path, name):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 72, "yuv420p"
        audio = container.add_stream("aac", rate=16000, layout="mono")
        for t in regular_times_ms(2.0):
            container.mux(video.encode(av.VideoFrame.from_ndarray(timed_picture(t, 96, 72), "rgb24")))
        for i in range(80):  # 5.1 s
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, 1024 * i
            container.mux(audio.encode(frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    assert decode_frames(path, fps=10.0, short_side=64).duration_s == pytest.approx(2.0, abs=0.05)


def test_damage_in_the_middle_leaves_the_rest_in_place(tmp_path):
    times_ms = regular_times_ms(6.0)
    path = write_video(
        tmp_path / "a.mp4",
        times_ms,
        options={"g": "10", "bf": "0"},
        container_options={"movflags": "faststart"},
    )
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = np.random.default_rng(1).bytes(400)
    path.write_bytes(data)
    decoded = decode_frames(path, fps=5.0, short_side=64)
    assert decoded.duration_s == pytest.approx(6.0, abs=0.5)
    for k in (0, 5, 24, 27):
        assert read_time_s(decoded.frames[k]) == pytest.approx(k / 5.0, abs=0.021)


def test_bad_arguments(tmp_path):
    for bad in (
        {"fps": 0.0, "short_side": 64},
        {"fps": float("nan"), "short_side": 64},
        {"fps": 5.0, "short_side": 0},
    ):
        with pytest.raises(UserError, match=r"fps|short_side"):
            decode_frames(tmp_path / "a.mp4", **bad)


def test_error_survives_the_way_from_another_process(tmp_path):
    error = pickle.loads(pickle.dumps(VideoError("truncated", "a.mp4: cut")))
    assert (error.kind, str(error)) == ("truncated", "a.mp4: cut")


@pytest.mark.skipif(not _REAL_VIDEOS.is_dir(), reason="real videos are not here")
@pytest.mark.parametrize(("name", "source_fps"), [("arm_wrestling_kinetics.mp4", 28), ("real_test.mp4", 30)])
def test_real_videos(name, source_fps):
    path = _REAL_VIDEOS / name
    assert probe(path).avg_fps == source_fps
    decoded = decode_frames(path, fps=4.0, short_side=128)
    assert decoded.duration_s == pytest.approx(10.0, abs=1e-3)
    assert len(decoded.frames) == 40
    # Independently: decode everything and take the frames by their number (the rate is constant).
    with av.open(str(path)) as container:
        everything = list(container.decode(video=0))
    for k in (0, 7, 39):
        plain = everything[k * source_fps // 4].reformat(
            width=decoded.frames.shape[2], height=128, format="rgb24"
        )
        difference = np.abs(plain.to_ndarray().astype(int) - decoded.frames[k])
        assert difference.mean() < 1.0, k
