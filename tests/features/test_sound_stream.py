"""Windows of sound: what is streamed is what is read whole; the borders; memory."""

import itertools
import resource
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clicks import write_clicks
from unloc_jax.features.sound_stream import GivenSound, SoundStream
from unloc_jax.sound import SoundBlocks, read_sound
from unloc_jax.sound_windows import Sound
from unloc_jax.video import VideoError

_RATE = 8000


def of_blocks(path) -> tuple[np.ndarray, SoundBlocks]:
    blocks = SoundBlocks(path, _RATE)
    return np.concatenate([np.zeros(0, np.int16), *blocks]), blocks


@pytest.mark.parametrize(
    ("name", "codec", "settings"),
    [
        ("a.mp4", "aac", {}),
        ("a.mkv", "libopus", {"sound_from_s": 0.75}),
        ("a.mp4", "aac", {"missing_s": (1.2, 1.45)}),
        ("a.mp4", "aac", {"seconds": 70.0, "picture_s": 1.0, "missing_s": (31.0, 55.0)}),
        ("a.wav", "pcm_s16le", {"picture": None, "seconds": 75.0}),
        ("a.mp3", "libmp3lame", {"picture": None}),
    ],
)
def test_blocks_are_the_whole_sound(tmp_path, name, codec, settings):
    path = write_clicks(tmp_path / name, codec, **settings)
    whole, (samples, blocks) = read_sound(path, _RATE), of_blocks(path)
    np.testing.assert_array_equal(samples, whole.samples)
    assert list(blocks.notes) == list(whole.notes)
    picture_s = 0.0 if settings.get("picture", True) is None else settings.get("picture_s", 3.0)
    assert blocks.picture_s == pytest.approx(picture_s, abs=0.05)


def test_blocks_of_joined_recordings(tmp_path):
    first = write_clicks(tmp_path / "1.ts", "aac", times_s=(0.52, 1.0))
    second = write_clicks(tmp_path / "2.ts", "aac", seconds=40.0, picture_s=40.0)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes() + first.read_bytes())
    np.testing.assert_array_equal(of_blocks(joined)[0], read_sound(joined, _RATE).samples)


def test_a_file_without_sound(tmp_path):
    path = write_clicks(tmp_path / "a.mp4", ())
    with pytest.raises(VideoError, match="has no sound track") as error:
        of_blocks(path)
    assert error.value.kind == "no sound track"


class Parts(GivenSound):
    """A sound in blocks of given lengths, beside a picture."""

    def __init__(self, samples, cuts, picture_s):
        super().__init__(Sound(samples, 10, np.zeros((0, 2))), picture_s)
        self._cuts = cuts

    def __iter__(self):
        ends = sorted({0, len(self._samples), *(cut % (len(self._samples) + 1) for cut in self._cuts)})
        for start, end in itertools.pairwise(ends):
            yield self._samples[start:end]


@given(
    length=st.integers(0, 90),
    cuts=st.lists(st.integers(0, 90), max_size=6),
    picture_s=st.sampled_from([0.0, 0.3, 4.0, 12.0]),
    window_s=st.sampled_from([0.1, 0.5, 2.0, 5.0]),
    fps=st.sampled_from([0.3, 1.0, 2.0, 7.0]),
    offset=st.sampled_from([0.0, 0.5]),
)
def test_windows_lie_around_their_times(length, cuts, picture_s, window_s, fps, offset):
    samples = np.arange(1, length + 1, dtype=np.int16)
    stream = SoundStream(Parts(samples, cuts, picture_s), window_s=window_s, fps=fps, offset=offset)
    windows = list(stream)
    assert stream.duration_s == max(picture_s, length / 10)
    times_s = (np.arange(len(windows)) + offset) / fps
    assert len(windows) == 1 or times_s[-1] < stream.duration_s
    assert (len(windows) + offset) / fps >= stream.duration_s - 1e-2
    whole = np.concatenate([samples, np.zeros(max(0, round(picture_s * 10) - length), np.int16)])
    size = max(1, round(window_s * 10))
    for time_s, window in zip(times_s, windows):
        begin = round(time_s * 10) - size // 2
        wanted = whole[max(0, begin) : max(0, begin + size)]
        if not len(wanted):  # it ends before its only window
            wanted = whole[-size:] if len(whole) else np.zeros(size, np.int16)
        np.testing.assert_array_equal(window, wanted)


def test_memory_does_not_grow_with_the_recording(tmp_path):
    """Half an hour, of which the whole sound would be 170 MB."""
    path = tmp_path / "long.wav"
    second = (3000 * np.sin(np.arange(8000) / 9)).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        for _ in range(1800):
            file.writeframes(second.tobytes())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stream = SoundStream(SoundBlocks(path, 48000), window_s=2.0, fps=1.0, offset=0.5)
    assert sum(1 for _ in stream) == 1800 and stream.duration_s == pytest.approx(1800, abs=0.01)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024
