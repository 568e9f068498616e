"""The frame of time t is the one that a player shows at t: one rule for all readers of videos."""

import io
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from data_pipelines.builders.frames import EncodeTask, encode_video
from tests.timed_video import read_time_s, timed_picture, write_video
from unloc_jax.features.embed_videos import embed_frames, embed_videos
from unloc_jax.features.encoder import video_frames
from unloc_jax.features.stream_inputs import DistinctFrames
from unloc_jax.frame_inputs import ArrayFrames
from unloc_jax.frame_times import first_place, shown_frames
from unloc_jax.video import FrameStream, decode_frames


class _Reader:
    """In place of a CLIP: the "embedding" of a frame is the number that it carries."""

    frames_per_input, hears = 1, False

    def open(self, path, fps, *, offset=0.0, threads=0):
        return video_frames(path, fps, offset=offset, threads=threads)

    def inputs(self):
        return DistinctFrames(lambda frame: frame)

    def encode_each(self, frames):
        for tag, frame in frames:
            yield tag, np.array([_number(frame)])

    def encode_stream(self, frames):
        return np.array([[_number(frame)] for frame in frames])


def _number(picture) -> int:
    return round(read_time_s(picture) * 100)


def _built(path, fps):
    made = encode_video(EncodeTask("id", path, fps, 72, 100))
    return [_number(np.asarray(Image.open(io.BytesIO(jpeg)))) for jpeg in made.frames]


def _features(path, fps):
    ((_, made),) = embed_videos(_Reader(), [path], fps)
    np.testing.assert_allclose(made.times_s, (np.arange(len(made.features)) + 0.5) / fps)
    return made.features[:, 0].tolist()


# A way to read a file or its pictures → the numbers of the frames at (k + offset) / fps.
_OF_FILES = {
    "build": (_built, 0),
    "features": (_features, Fraction(1, 2)),
    "prediction": (lambda path, fps: [_number(f) for f in FrameStream(path, fps=fps, short_side=72)], 0),
    "zeroshot": (lambda path, fps: [_number(f) for f in video_frames(path, fps)], 0),
    "decode_frames": (
        lambda path, fps: [_number(f) for f in decode_frames(path, fps=fps, short_side=72).frames],
        0,
    ),
}
_OF_ARRAYS = {
    "array": (
        lambda frames, rate, fps: [
            _number(f) for f in ArrayFrames(frames, frames_fps=rate, fps=fps, short_side=None)
        ],
        0,
    ),
    "features of an array": (
        lambda frames, rate, fps: embed_frames(_Reader(), frames, rate, fps).features[:, 0].tolist(),
        Fraction(1, 2),
    ),
}


def _check(numbers, stamps, fps, offset, end):
    """Of exact times in seconds: what is shown at k is the last that begins by then, a millisecond more or less."""
    places = [(k + offset) / Fraction(fps) for k in range(len(numbers))]
    assert places[-1] < end <= (len(numbers) + offset) / Fraction(fps) + Fraction(1, 1000)
    for place, number in zip(places, numbers):
        begun, soon = (
            max(i for i, stamp in enumerate(stamps) if stamp <= place + more)
            for more in (0, Fraction(1, 1000))
        )
        assert number in (begun, soon), (float(place), number, begun)


_REGULAR = {rate: [k / Fraction(rate) for k in range(2 * rate)] for rate in (30, 24)}


@pytest.mark.parametrize("fps", [30, 24, 10, 5, 2, 7, 60])
@pytest.mark.parametrize("rate", [30, 24])
@pytest.mark.parametrize("name", _OF_ARRAYS)
def test_arrays(name, rate, fps):
    look, offset = _OF_ARRAYS[name]
    frames = np.stack([timed_picture(10 * i, 48, 36) for i in range(2 * rate)])
    _check(look(frames, rate, fps), _REGULAR[rate], fps, offset, Fraction(2))


@pytest.fixture(scope="module", params=["mkv", "mp4", "flv", "ts"])
def regular(request, tmp_path_factory):
    """By rate, a file whose time stamps are whole milliseconds: 0, 33, 67, 100, …"""
    folder = tmp_path_factory.mktemp("regular")
    return {
        rate: write_video(
            folder / f"{rate}.{request.param}",
            [round(1000 * stamp) for stamp in stamps],
            pictures_ms=[10 * i for i in range(len(stamps))],
            options={"bf": "0"},
        )
        for rate, stamps in _REGULAR.items()
    }


@pytest.mark.parametrize("fps", [30, 24, 10, 5, 7])
@pytest.mark.parametrize("name", _OF_FILES)
def test_files_with_time_stamps_in_milliseconds(regular, name, fps):
    look, offset = _OF_FILES[name]
    for rate, path in regular.items():
        numbers = look(path, fps)
        _check(numbers, _REGULAR[rate], fps, offset, Fraction(len(numbers) + offset) / fps)
        assert abs(len(numbers) - 2 * fps) <= 1
        if fps == rate and not offset:  # frame k, not the one before it, where 66.67 became 67
            assert numbers[: 2 * rate] == list(range(2 * rate))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("name", _OF_FILES)
def test_slides(tmp_path, name, suffix):
    stamps_ms = [0, 10_000, 20_000, 25_500, 30_000]
    path = write_video(tmp_path / f"slides.{suffix}", stamps_ms, pictures_ms=[0, 10, 20, 30, 40])
    look, offset = _OF_FILES[name]
    stamps = [Fraction(stamp, 1000) for stamp in stamps_ms]
    for fps in (1, 2):
        numbers = look(path, fps)
        assert len(numbers) >= 30 * fps
        _check(numbers, stamps, fps, offset, Fraction(len(numbers) + offset) / fps)


def test_a_frame_may_be_early_by_a_millisecond_and_no_more():
    assert [first_place(s, 0.04, 10) for s in (0.1, 0.1009, 0.1011, 0.0999)] == [1, 1, 2, 1]
    # Fast frames: by a quarter of their distance.
    np.testing.assert_array_equal(shown_frames(50, 2000, 2000), np.arange(50))
    np.testing.assert_array_equal(shown_frames(50, 2000, 1000), np.arange(0, 50, 2))


def test_there_is_always_a_frame():
    assert shown_frames(1, 10, 2).tolist() == [0]
    assert shown_frames(1, 10, 2, 0.5).tolist() == [0]
