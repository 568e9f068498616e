"""Times of files whose time stamps leap, fall back, begin late, or are broken."""

from pathlib import Path

import numpy as np
import pytest

from tests.timed_video import read_time_s, regular_times_ms, write_video
from unloc_jax.video import FrameStream, decode_frames, probe
from unloc_jax.video_clock import VideoClock

# Two pictures per second; it stands still from 4.5 to 35 s, and again from 36 to 60 s.
_STILL_MS = [*range(0, 5000, 500), *range(35_000, 36_500, 500), 60_000, 60_500]


@pytest.mark.parametrize("sound_s", [0.0, 61.0])
@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("name", ["a.webm", "a.mkv", "a.mp4", "a.flv", "a.ts"])
def test_a_picture_that_stands_still(tmp_path, name, live, sound_s):
    if name == "a.webm" and sound_s:
        pytest.skip("this sound is AAC")
    path = write_video(
        tmp_path / name,
        _STILL_MS,
        pictures_ms=[10 * i for i in range(len(_STILL_MS))],
        codec="libvpx" if name == "a.webm" else "libx264",
        options={"bf": "0"} if name != "a.webm" else {},
        container_options={"movflags": "frag_keyframe+empty_moov"} if live and name == "a.mp4" else {},
        sound_s=sound_s,
        live=live,
    )
    # In the middle of the pictures: AAC begins 64 ms before second 0.
    stream = FrameStream(path, fps=2.0, short_side=72, offset=0.5)
    shown = [round(100 * read_time_s(picture)) for picture in stream]
    assert 60.5 < stream.duration_s < 61.1
    middles_ms = 500 * np.arange(len(shown)) + 250
    np.testing.assert_array_equal(shown, np.searchsorted(_STILL_MS, middles_ms, side="right") - 1)
    assert len(shown) >= 121


@pytest.mark.parametrize("sound_s", [0.0, 20.0])
@pytest.mark.parametrize("b_frames", ["0", "3"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_a_picture_that_stands_still_at_the_end(tmp_path, name, b_frames, sound_s):
    if name == "a.mkv" and b_frames != "0":
        pytest.skip("there the last picture has the duration, not the last packet")
    times_ms = [*range(0, 10_000, 500)]
    path = write_video(tmp_path / name, times_ms, options={"bf": b_frames}, sound_s=sound_s, last_s=10.5)
    stream = FrameStream(path, fps=2.0, short_side=72, offset=0.5)
    shown = [round(100 * read_time_s(picture)) for picture in stream]
    assert 19.4 < stream.duration_s < 20.1  # the packet before it is the last picture with B frames
    assert stream.duration_s == pytest.approx(probe(path).duration_s, abs=0.1)
    assert shown == [min(50 * k, 950) for k in range(len(shown))] and len(shown) >= 39


def _shift_ts(path: Path, after_s: float, by_s: float, *, only_one: bool = False) -> None:
    """Moves the time stamps of the pictures of an MPEG-TS from a time on (ISO/IEC 13818-1, 2.4.3.7)."""
    data = bytearray(path.read_bytes())
    first = None
    for start in range(0, len(data), 188):
        if not data[start + 1] & 0x40:
            continue
        at = start + 4 + (1 + data[start + 4] if data[start + 3] & 0x20 else 0)
        if bytes(data[at : at + 4]) != b"\x00\x00\x01\xe0":
            continue
        for field in (at + 9, at + 14)[: 1 + (data[at + 7] >> 6 == 3)]:
            a, b, c, d, e = data[field : field + 5]
            ticks = (a >> 1 & 7) << 30 | b << 22 | c >> 1 << 15 | d << 7 | e >> 1
            first = ticks if first is None else first
            if ticks - first < 90_000 * after_s or (only_one and ticks - first >= 90_000 * (after_s + 0.039)):
                continue
            ticks = (ticks + round(90_000 * by_s)) % 2**33
            data[field : field + 5] = (
                a & 0xF1 | ticks >> 30 << 1,
                ticks >> 22 & 0xFF,
                ticks >> 14 & 0xFE | 1,
                ticks >> 7 & 0xFF,
                ticks << 1 & 0xFE | 1,
            )
    path.write_bytes(data)


def _write_ts(path: Path, seconds: float, *, offset_s: float = 0.0, **options) -> Path:
    return write_video(
        path,
        regular_times_ms(seconds),
        options={"bf": "0", "g": "10"},
        container_options={"output_ts_offset": str(offset_s)},
        **options,
    )


@pytest.mark.parametrize("sound_s", [0.0, 4.0])
@pytest.mark.parametrize("by_s", [3.0, 40.0, -1.5, 50_000.0])
def test_one_broken_time_stamp(tmp_path, by_s, sound_s):
    path = _write_ts(tmp_path / "a.ts", 4.0, sound_s=sound_s)
    _shift_ts(path, 2.0, by_s, only_one=True)
    decoded = decode_frames(path, fps=5.0, short_side=72)
    assert decoded.duration_s == pytest.approx(4.0, abs=0.1)
    for k, picture in enumerate(decoded.frames):
        # AAC begins 64 ms before second 0.
        assert read_time_s(picture) == pytest.approx(k / 5, abs=0.1101 if sound_s else 0.0501)


@pytest.mark.parametrize(("sound_s", "believed"), [(0.0, True), (6.0, False), (1.9, True)])
def test_sound_that_continues_contradicts_a_leap(tmp_path, sound_s, believed):
    path = _write_ts(tmp_path / "a.ts", 6.0, sound_s=sound_s)
    _shift_ts(path, 2.0, 30.0)
    decoded = decode_frames(path, fps=5.0, short_side=72)
    assert decoded.duration_s == pytest.approx(36.0 if believed else 6.0, abs=0.15)


@pytest.mark.parametrize("sound_s", [0.0, 3.0])
@pytest.mark.parametrize("offset_s", [0.0, 5000.0, 2**33 / 90_000 - 1.6])
def test_joined_recordings(tmp_path, offset_s, sound_s):
    """The second begins with the clock at about 1 s; in the last case the first runs over the end of the clock."""
    first = _write_ts(tmp_path / "1.ts", 3.0, offset_s=offset_s, sound_s=sound_s)
    second = _write_ts(tmp_path / "2.ts", 2.0, sound_s=sound_s and 2.0)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    decoded = decode_frames(joined, fps=5.0, short_side=72)
    assert decoded.duration_s == pytest.approx(5.0, abs=0.2)
    shown = [read_time_s(picture) for picture in decoded.frames]
    assert shown[:14] == pytest.approx((np.arange(14) / 5).tolist(), abs=0.0901)
    assert shown[17:24] == pytest.approx((np.arange(17, 24) / 5 - 3).tolist(), abs=0.1301)


def test_a_clock_that_begins_again(tmp_path):
    path = _write_ts(tmp_path / "a.ts", 5.0, offset_s=2**33 / 90_000 - 2.5, sound_s=5.0)
    decoded = decode_frames(path, fps=5.0, short_side=72)
    assert decoded.duration_s == pytest.approx(5.0, abs=0.1)
    for k, picture in enumerate(decoded.frames):
        assert read_time_s(picture) == pytest.approx(k / 5, abs=0.0801)


@pytest.mark.parametrize("name", ["late.mkv", "late.mp4"])
def test_times_are_those_of_a_player_where_the_picture_starts_late(tmp_path, name):
    times_ms = [t + 3000 for t in regular_times_ms(3.0)]
    path = write_video(tmp_path / name, times_ms, options={"bf": "0"}, sound_s=6.0)
    stream = FrameStream(path, fps=5.0, short_side=72)
    shown = [read_time_s(picture) for picture in stream]
    assert stream.duration_s == pytest.approx(6.0, abs=0.07)
    assert shown[:15] == [3.0] * 15
    assert shown[16:] == pytest.approx((np.arange(16, len(shown)) / 5).tolist(), abs=0.0401)
    for notes in (stream.notes, probe(path).notes):
        assert [note.kind for note in notes] == ["picture starts later than the sound"]
    assert probe(path).duration_s == pytest.approx(6.0, abs=0.1)


_FRAME_S = 0.04


def _times(stamps, *, origin_s=None, header_s=None, sound_goes_on=False):
    clock = VideoClock(origin_s, _FRAME_S, lambda: header_s, lambda before, after: sound_goes_on)
    following = [*stamps[1:], None]
    return [clock.time_s(stamp, after, _FRAME_S) for stamp, after in zip(stamps, following)]


def _line(start, seconds):
    return (start + np.arange(round(seconds / _FRAME_S)) * _FRAME_S).tolist()


@pytest.mark.parametrize("start", [0.0, 1.4, -3.0, 95_440.0])
@pytest.mark.parametrize("still_s", [0.5, 9.0, 30.0, 3600.0])
def test_whatever_is_not_contradicted_is_believed(start, still_s):
    stamps = [*_line(start, 2), *_line(start + 2 + still_s, 2)]
    np.testing.assert_allclose(_times(stamps), np.array(stamps) - start, atol=1e-9)
    np.testing.assert_allclose(_times(stamps, header_s=4 + still_s), np.array(stamps) - start, atol=1e-9)


@pytest.mark.parametrize(
    "said", [{"header_s": 5.0}, {"sound_goes_on": True}, {"origin_s": 0.0, "header_s": 4.0}]
)
def test_a_leap_that_is_contradicted_is_none(said):
    stamps = [*_line(0, 2), *_line(32, 2)]
    np.testing.assert_allclose(_times(stamps, **said), _line(0, 4), atol=1e-9)


def test_a_header_that_the_frames_have_outrun_says_nothing():
    stamps = [*_line(0, 20), *_line(50, 1)]
    np.testing.assert_allclose(_times(stamps, header_s=1.0), stamps, atol=1e-9)


@pytest.mark.parametrize("broken", [1e6, 25.0, 3.0, -2.0, -1e6])
@pytest.mark.parametrize("place", [0, 1, 20, 48])
def test_one_broken_time_stamp_moves_no_other_frame(broken, place):
    stamps = _line(0, 2)
    stamps[place] += broken
    times = _times(stamps)
    others = [i for i in range(50) if i != place]
    if place == 0 and broken < 0:  # then there is a leap from it to the second
        assert np.ptp([times[i] - stamps[i] for i in others]) < 1e-9
        return
    np.testing.assert_allclose([times[i] for i in others], [stamps[i] for i in others], atol=_FRAME_S)


def test_a_step_back_begins_another_recording():
    for start in (0.0, -5.0, 1.0):
        stamps = [*_line(0, 2), *_line(start, 2)]
        np.testing.assert_allclose(_times(stamps), _line(0, 4), atol=1e-9)


def test_frames_without_time_stamps_follow_each_other():
    np.testing.assert_allclose(_times([None] * 5), _line(0, 0.2), atol=1e-9)
    np.testing.assert_allclose(_times([0.0, None, 0.08, None]), _line(0, 0.16), atol=1e-9)


@pytest.mark.parametrize(("origin_s", "first"), [(0.0, 3.0), (None, 0.0), (2.99, 0.01), (4.0, 0.0)])
def test_second_0_is_where_the_file_begins(origin_s, first):
    np.testing.assert_allclose(_times(_line(3, 1), origin_s=origin_s), _line(first, 1), atol=1e-9)


def test_a_picture_that_would_begin_hours_late_begins_at_once():
    np.testing.assert_allclose(_times(_line(1e5, 1), origin_s=0.0), _line(0, 1), atol=1e-9)
    np.testing.assert_allclose(_times(_line(60, 1), origin_s=0.0, header_s=2.0), _line(0, 1), atol=1e-9)
    np.testing.assert_allclose(_times(_line(60, 1), origin_s=0.0, header_s=61.0), _line(60, 1), atol=1e-9)
