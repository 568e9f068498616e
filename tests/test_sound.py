"""The sound track is read on the clock of the frames, whatever the container, the codec and their quirks."""

import wave

import av
import numpy as np
import pytest

from tests.clicks import CLICKS_S, click_times_s, clicks, write_clicks
from unloc_jax.errors import UserError
from unloc_jax.sound import has_picture, read_sound
from unloc_jax.sound_windows import sound_around
from unloc_jax.video import FrameStream, VideoError

_RATE = 16000
_PAIRS = [
    *((name, codec) for name in ("mp4", "mov", "mkv") for codec in ("aac", "libmp3lame", "ac3")),
    *(("mp4", codec) for codec in ("libopus", "flac")),
    *(("mkv", codec) for codec in ("libopus", "flac", "pcm_s16le", "pcm_s24le")),
    ("mov", "pcm_s16le"),
    ("mov", "pcm_u8"),
    ("webm", "libopus"),
    *(("ts", codec) for codec in ("aac", "libmp3lame", "ac3", "libopus")),
]


def _flash_times_s(path) -> list[float]:
    fps = 200.0
    bright = np.array([picture.mean() > 127 for picture in FrameStream(path, fps=fps, short_side=72)])
    return ((np.flatnonzero(~bright[:-1] & bright[1:]) + 1) / fps).tolist()


@pytest.mark.parametrize(("name", "codec"), _PAIRS)
def test_clicks_are_heard_when_they_were_written_and_when_the_picture_flashes(tmp_path, name, codec):
    picture = "libvpx" if name == "webm" else "libx264"
    path = write_clicks(tmp_path / f"a.{name}", codec, picture=picture)
    sound = read_sound(path, _RATE)
    heard = click_times_s(sound.samples, sound.rate)
    assert sound.samples.dtype == np.int16 and sound.rate == _RATE and not sound.notes
    np.testing.assert_allclose(heard, _flash_times_s(path), atol=0.015)
    if name != "ts":  # a transport stream does not tell how many samples are priming: there all starts later
        np.testing.assert_allclose(heard, CLICKS_S, atol=0.010)
        assert abs(sound.heard[0, 0]) < 0.01


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("wav", "pcm_s16le"),
        ("flac", "flac"),
        ("ogg", "libopus"),
        ("mp3", "libmp3lame"),
        ("m4a", "aac"),
        ("mka", "ac3"),
    ],
)
def test_files_of_sound_alone(tmp_path, name, codec):
    path = write_clicks(tmp_path / f"a.{name}", codec, picture=None)
    sound = read_sound(path, _RATE)
    np.testing.assert_allclose(click_times_s(sound.samples, _RATE), CLICKS_S, atol=0.010)
    assert sound.end_s == pytest.approx(3.0, abs=0.05) and not has_picture(path)


@pytest.mark.parametrize("name", ["mp4", "mov", "mkv", "ts"])
def test_sound_that_starts_late(tmp_path, name):
    path = write_clicks(tmp_path / f"a.{name}", "aac", sound_from_s=0.75, times_s=(1.0, 2.48))
    sound = read_sound(path, _RATE)
    np.testing.assert_allclose(click_times_s(sound.samples, _RATE), _flash_times_s(path), atol=0.015)
    np.testing.assert_allclose(click_times_s(sound.samples, _RATE), (1.0, 2.48), atol=0.010)
    assert sound.heard[0, 0] == pytest.approx(0.75, abs=0.03)
    assert [kind for kind, _ in sound.notes] == ["sound starts later than the picture"]
    assert not sound.samples[: int(0.7 * _RATE)].any()


@pytest.mark.parametrize("name", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("missing_s", [(1.2, 1.45), (1.2, 1.23)])
def test_gaps_are_silent_and_move_nothing(tmp_path, name, missing_s):
    path = write_clicks(tmp_path / f"a.{name}", "aac", missing_s=missing_s)
    sound = read_sound(path, _RATE)
    np.testing.assert_allclose(click_times_s(sound.samples, _RATE), _flash_times_s(path), atol=0.015)
    if missing_s[1] == 1.45:
        (_, start), (end, _) = sound.heard
        assert [start, end] == pytest.approx(missing_s, abs=0.06)
        assert [kind for kind, _ in sound.notes] == ["gaps in the sound"]


@pytest.mark.parametrize("offset_s", [0.0, 5000.0, 2**33 / 90_000 - 1.6])
def test_joined_recordings_keep_the_clock_of_the_picture(tmp_path, offset_s):
    first = write_clicks(
        tmp_path / "1.ts",
        "aac",
        options={"output_ts_offset": str(offset_s)},
        picture_s=2.0,
        times_s=(0.52, 1.0),
    )
    second = write_clicks(tmp_path / "2.ts", "aac", picture_s=3.0)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    sound = read_sound(joined, _RATE)
    flashes = _flash_times_s(joined)
    assert len(flashes) == 5
    np.testing.assert_allclose(click_times_s(sound.samples, _RATE), flashes, atol=0.025)


def test_sound_may_last_longer_or_shorter_than_the_picture(tmp_path):
    longer = write_clicks(tmp_path / "a.mp4", "aac", picture_s=1.2)
    assert read_sound(longer).end_s == pytest.approx(3.0, abs=0.05)
    shorter = write_clicks(tmp_path / "b.mp4", "aac", picture_s=6.0)
    assert read_sound(shorter).end_s == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize("rate", [8000, 44100, 96000, 192000])
@pytest.mark.parametrize("layout", ["mono", "5.1", "7.1"])
def test_rates_and_channels(tmp_path, rate, layout):
    path = write_clicks(tmp_path / "a.wav", "pcm_s16le", rate=rate, layout=layout, picture=None)
    sound = read_sound(path, _RATE)
    np.testing.assert_allclose(click_times_s(sound.samples, _RATE), CLICKS_S, atol=0.010)
    assert 0.6 < np.abs(sound.samples).max() / 2**15 < 0.95


@pytest.mark.parametrize(("channels", "width"), [(1, 1), (8, 1), (8, 2), (9, 2), (24, 3), (3, 4)])
def test_channels_without_places_are_averaged(tmp_path, channels, width):
    samples = np.repeat(clicks(CLICKS_S, 3.0, 48000)[:, None], channels, 1)
    whole = np.rint(samples * (2 ** (8 * width - 1) - 1)).astype(np.int64)
    whole = whole + 128 if width == 1 else whole
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((channels, width, 48000, len(samples), "NONE", ""))
        file.writeframes(whole.astype("<i8").reshape(-1, 1).view(np.uint8)[:, :width].tobytes())
    sound = read_sound(tmp_path / "a.wav")
    np.testing.assert_allclose(click_times_s(sound.samples, _RATE), CLICKS_S, atol=0.010)
    assert np.abs(sound.samples).max() / 2**15 == pytest.approx(0.8, abs=0.12)


def test_the_rate_may_change_inside_a_stream(tmp_path):
    parts = [
        write_clicks(tmp_path / f"{rate}.aac", "aac", rate=rate, picture=None) for rate in (48000, 22050)
    ]
    path = tmp_path / "a.aac"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    heard = click_times_s(read_sound(path).samples, _RATE)
    single = [read_sound(part) for part in parts]
    second = [single[0].end_s + t for t in click_times_s(single[1].samples, _RATE)]
    np.testing.assert_allclose(heard, click_times_s(single[0].samples, _RATE) + second, atol=0.010)


def test_damaged_packets_are_silent_counted_and_move_nothing(tmp_path):
    path = write_clicks(tmp_path / "a.mkv", "aac", seconds=6.0, times_s=(0.52, 5.0))
    with av.open(str(path)) as container:
        spots = [
            (packet.pos, packet.size)
            for packet in container.demux(audio=0)
            if packet.pts and 1.0 < packet.pts * packet.time_base < 3.0
        ]
    data = bytearray(path.read_bytes())
    for position, size in spots[::3]:
        start = data.index(b"\xa3", position) + 8
        data[start : start + size - 10] = bytes([255]) * (size - 10)
    path.write_bytes(data)
    sound = read_sound(path)
    np.testing.assert_allclose(
        [t for t in click_times_s(sound.samples, _RATE) if not 0.9 < t < 3.1], (0.52, 5.0), atol=0.010
    )
    assert sound.end_s == pytest.approx(6.0, abs=0.05)


def test_tracks(tmp_path):
    path = write_clicks(tmp_path / "a.mkv", ["aac", "flac"])
    assert len(click_times_s(read_sound(path).samples, _RATE)) == 3
    assert "several sound tracks" in [kind for kind, _ in read_sound(path).notes]
    assert not read_sound(path, track=1).samples.any() and not read_sound(path, track=0).notes
    for track in (2, -1):
        with pytest.raises(VideoError, match=r"no sound track .*2 sound tracks, 0 to 1"):
            read_sound(path, track=track)


def test_no_sound_and_no_use(tmp_path):
    path = write_clicks(tmp_path / "a.mp4", [])
    assert read_sound(path) is None and has_picture(path)
    for content, kind in ((b"", "empty file"), (b"RIFF of nothing", "not a video")):
        (tmp_path / "b.wav").write_bytes(content)
        with pytest.raises(VideoError) as error:
            read_sound(tmp_path / "b.wav")
        assert error.value.kind == kind
    with pytest.raises(VideoError, match="no such file"):
        read_sound(tmp_path / "c.wav")
    with pytest.raises(UserError, match="rate must be"):
        read_sound(path, 0)


def test_files_of_sound_alone_that_lack_their_sound(tmp_path):
    with wave.open(str(tmp_path / "empty.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
    with pytest.raises(VideoError, match="no sample") as error:
        read_sound(tmp_path / "empty.wav")
    assert error.value.kind == "no sound"
    path = write_clicks(tmp_path / "a.mka", "ac3", picture=None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match=r"says 3.0 s of sound"):
        read_sound(path)


def test_windows_hold_the_samples_around_their_times(tmp_path):
    sound = read_sound(
        write_clicks(tmp_path / "a.mp4", "aac", sound_from_s=0.4, times_s=(1.0,), picture_s=4.0)
    )
    times_s = np.array([0.0, 0.25, 0.5, 1.0, 2.9, 3.5, 100.0])
    windows, there = sound_around(sound, times_s, 0.5)
    assert windows.shape == (7, 8000) and windows.dtype == np.int16
    assert there.tolist() == [False, False, True, True, True, False, False]
    assert click_times_s(windows[3], _RATE) == pytest.approx([0.25], abs=0.01)
    padded = np.pad(sound.samples, 8000)
    for window, time_s in zip(windows[:-1], times_s):
        first = round(time_s * _RATE) - 4000 + 8000
        np.testing.assert_array_equal(window, np.pad(padded, (0, 20000))[first : first + 8000])
    windows, there = sound_around(None, times_s, 0.5, 8000)
    assert windows.shape == (7, 4000) and not windows.any() and not there.any()
