"""Models that hear: files of video and of sound, and arrays, give the same numbers; what they refuse."""

import re
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.inference.test_embedded_video import close, untrained
from tests.timed_video import regular_times_ms, timed_picture
from unloc_jax.errors import UserError
from unloc_jax.inference import localizer as localizer_module
from unloc_jax.inference.localizer import Localizer
from unloc_jax.sound import read_sound
from unloc_jax.video import VideoError, decode_frames

pytestmark = pytest.mark.slow

TEXTS = ["a dog barks", "somebody claps"]
RATE = 8000
AUDIO = {"sample_rate": RATE, "width": 16, "num_layers": 1, "num_heads": 2, "mlp_dim": 32}
HEARS = {"modalities": {"audio": {"encoder": "audio"}}, "audio": AUDIO}
BOTH = {"modalities": {"rgb": {}, "audio": {"encoder": "audio"}}, "audio": AUDIO}


def tones(seconds: float = 6.0, rate: int = RATE, first_hz: float = 300.0) -> np.ndarray:
    """int16 [S]: another tone in every second, and a pause in the third."""
    times_s = np.arange(round(seconds * rate)) / rate
    second = times_s.astype(int)
    return np.where(second == 2, 0, 9000 * np.sin(2 * np.pi * first_hz * (1 + second) * times_s)).astype(
        np.int16
    )


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def write_film(
    path: Path, *tracks: np.ndarray, codec: str = "pcm_s16le", seconds: float = 6.0, rate: int = RATE
) -> Path:
    """Pictures that show their time, and sound tracks of samples at RATE, stored at `rate`."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=5)
        pictures.width, pictures.height, pictures.pix_fmt = 96, 72, "yuv420p"
        sounds = [container.add_stream(codec, rate=rate, layout="mono") for _ in tracks]
        for number, time_ms in enumerate(regular_times_ms(seconds, 5)):
            frame = av.VideoFrame.from_ndarray(timed_picture(time_ms, 96, 72), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 5)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        for stream, samples in zip(sounds, tracks):
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


def differ(found, other) -> bool:
    return bool(np.abs(found[0].relevance - other[0].relevance).max() > 1e-3)


@pytest.fixture(scope="module")
def hears() -> Localizer:
    return Localizer(untrained("moment_retrieval", model=HEARS))


@pytest.fixture(scope="module")
def sees_and_hears() -> Localizer:
    return Localizer(untrained("moment_retrieval", model=BOTH))


def test_sound_of_any_file_and_of_arrays(hears, tmp_path, monkeypatch):
    """No frame is decoded for it."""
    monkeypatch.setattr(localizer_module, "FrameStream", None)
    samples = tones()
    found = hears(write_wav(tmp_path / "a.wav", samples), TEXTS)
    assert found.duration_s == pytest.approx(6.0) and found.notes == ()
    assert found.model["hears"] == "8 windows of 1 s at 8 kHz" and "sees" not in found.model
    close(hears(write_film(tmp_path / "a.mkv", samples), TEXTS), found)
    stereo = np.stack([samples, samples], 1)
    for array in (samples, stereo, samples / 32768.0, (stereo / 32768.0).astype(np.float32)):
        close(hears(array, TEXTS, rate=RATE), found)
    assert hears(samples, TEXTS, rate=RATE).video == "samples"
    assert differ(hears(tones(first_hz=700.0), TEXTS, rate=RATE), found)
    embedded = hears.embed_video(samples, rate=RATE)
    close(hears(embedded, TEXTS), found)


def test_arrays_of_other_rates_are_resampled_as_files_are(hears, tmp_path):
    for rate in (22050, 44100, 48000):
        samples = tones(rate=rate)
        close(
            hears(samples, TEXTS, rate=rate), hears(write_wav(tmp_path / f"{rate}.wav", samples, rate), TEXTS)
        )


def test_windows_of_long_sounds(tmp_path):
    localizer = Localizer(
        untrained("moment_retrieval", model=HEARS, data={"sampling": "window", "window_stride": 2})
    )
    video = localizer.embed_video(tones(30.0), rate=RATE)
    # Places 0.4 s apart, 2.8 s in a window, half of each in the next one.
    spans_s = np.array([window.span_s for window in video.windows])
    assert len(spans_s) > 15 and spans_s[0, 0] == 0 and spans_s[-1, 1] == pytest.approx(29.8, abs=0.01)
    found = localizer(video, TEXTS)
    assert found.duration_s == pytest.approx(30.0)
    assert all(0 <= s.start_s <= s.end_s <= 30.0 for text in found for s in text.segments)
    # The pauses sound alike, and nothing else does.
    alone = localizer.embed_video(np.zeros(30 * RATE, np.int16), rate=RATE)
    assert not np.allclose(alone.windows[0].tokens, video.windows[0].tokens, atol=1e-3)


def test_picture_and_sound(sees_and_hears, tmp_path):
    heard = sees_and_hears(write_film(tmp_path / "a.mkv", tones()), TEXTS)
    assert heard.notes == () and set(heard.model) >= {"sees", "hears"}
    assert differ(sees_and_hears(write_film(tmp_path / "b.mkv", tones(first_hz=700.0)), TEXTS), heard)
    silent = sees_and_hears(write_film(tmp_path / "silent.mkv"), TEXTS)
    assert differ(silent, heard) and silent.waveform is None
    assert [str(note) for note in silent.notes] == ["no sound track (found by picture alone)"]

    frames = decode_frames(tmp_path / "a.mkv", fps=5, short_side=16).frames
    close(sees_and_hears(frames, TEXTS, fps=5, sound=tones(), rate=RATE), heard)
    unheard = sees_and_hears(frames, TEXTS, fps=5)
    close(unheard, silent)
    assert unheard.notes == silent.notes
    # A track without samples is not a silent one: it is masked.
    assert differ(sees_and_hears(frames, TEXTS, fps=5, sound=0 * tones(), rate=RATE), silent)
    # What begins late is masked before.
    short = sees_and_hears.embed_video(frames, fps=5, sound=tones(2.0), rate=RATE).windows[0].tokens
    nothing = sees_and_hears.embed_video(frames, fps=5).windows[0].tokens
    same = [np.allclose(a, b, atol=1e-5) for a, b in zip(short, nothing)]
    assert not any(same[:3]) and all(same[4:])


def test_a_track_is_picked(hears, tmp_path):
    first, second = tones(), tones(first_hz=700.0)
    film = write_film(tmp_path / "two.mkv", first, second)
    close(hears(film, TEXTS, audio_track=1), hears(second, TEXTS, rate=RATE))
    close(hears(film, TEXTS), hears(first, TEXTS, rate=RATE))
    assert [note.kind for note in hears(film, TEXTS).notes] == ["several sound tracks"]
    with pytest.raises(UserError, match=r"two\.mkv: there is no sound track 2"):
        hears(film, TEXTS, audio_track=2)


@pytest.mark.parametrize(
    "samples, rate, message",
    [
        (tones(), None, "rate is needed: how many samples per second the array has."),
        (tones(), 0, "The sound's rate must be 1000 to 192000 samples per second, got 0."),
        (tones(), 44100.5, "rate must be a whole number of samples per second, got 44100.5."),
        (tones(), float("nan"), "a whole number of samples per second, got nan"),
        (tones(), "44100", "a whole number of samples per second, got '44100'"),
        (
            tones().tolist(),
            RATE,
            "the video must be a file, a NumPy array or what embed_video returned; got list.",
        ),
        (tones().astype(np.int32), RATE, "samples must be int16, or float in [-1, 1]; got int32."),
        (tones().astype(np.uint8), RATE, "got uint8"),
        (np.stack([tones()] * 2), RATE, "samples must be [S, channels], got [2, 48000]: transpose them"),
        (np.zeros(0, np.int16), RATE, "samples must be [S] or [S, channels], got [0]."),
        (tones().astype(float), RATE, "float samples must be in [-1, 1]; these reach 9000"),
        (np.full(RATE, np.nan), RATE, "samples hold NaN or infinity."),
        (np.full((RATE, 2), np.inf, np.float32), RATE, "samples hold NaN or infinity."),
        (np.zeros((4, 18, 24, 3), np.uint8), RATE, "rate is that of samples"),
    ],
)
def test_samples_that_cannot_be_used(hears, samples, rate, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        hears(samples, TEXTS, rate=rate)
    assert "\n" not in str(caught.value)


def test_sound_that_cannot_be_decoded(hears, sees_and_hears, tmp_path, monkeypatch):
    """As in a build: what sees too is searched by the picture, unless a track was asked for."""
    film, silent = write_film(tmp_path / "a.mkv", tones()), write_film(tmp_path / "silent.mkv")

    def broken(path, rate, track):
        raise VideoError("no decoder for the sound", f"{path}: FFmpeg has no decoder for its sound.")

    expected = sees_and_hears(silent, TEXTS)
    monkeypatch.setattr(localizer_module, "read_sound", broken)
    found = sees_and_hears(film, TEXTS)
    close(found, expected)
    assert [note.kind for note in found.notes] == ["no sound: no decoder for the sound"]
    for localizer, track in ((hears, None), (sees_and_hears, 0)):
        with pytest.raises(UserError, match=r"a\.mkv: FFmpeg has no decoder for its sound\."):
            localizer(film, TEXTS, audio_track=track)


def test_what_models_do_not_read(hears, sees_and_hears, tmp_path):
    sees = Localizer(untrained("moment_retrieval"))
    frames = np.zeros((10, 18, 24, 3), np.uint8)
    film, silent = write_film(tmp_path / "a.mkv", tones()), write_film(tmp_path / "silent.mkv")
    wav = write_wav(tmp_path / "a.wav", tones())

    def refused(message, localizer, *arguments, **options):
        with pytest.raises(UserError, match=message):
            localizer(*arguments, TEXTS, **options)

    refused(r"silent\.mkv: there is no sound track, and this model hears alone\.", hears, silent)
    refused("this model hears alone: give samples", hears, frames, fps=5)
    refused("this model does not hear alone: give frames", sees_and_hears, tones(), rate=RATE)
    refused(r"a\.wav: there is no video in this file", sees_and_hears, wav)
    refused(r"a\.wav: there is no video in this file", sees, wav)
    refused("this model does not hear", sees, tones(), rate=RATE)
    refused("this model does not hear", sees, frames, fps=5, sound=tones(), rate=RATE)
    refused("this model does not hear", sees, film, audio_track=0)
    refused("sound and rate are for arrays", hears, film, rate=RATE)
    refused("audio_track is for a file", hears, tones(), rate=RATE, audio_track=0)
    refused("rate is needed", sees_and_hears, frames, fps=5, sound=tones())
    with pytest.raises(UserError, match="this model reads sound alone: give it a video, and no features"):
        hears.embed_features({"i3d": np.zeros((4, 8))}, video=film)
    # What it would hear is there, but the model sees alone: nothing changes.
    close(sees(film, TEXTS), sees(silent, TEXTS))
    assert sees(film, TEXTS).waveform is None


def test_sound_beside_given_features(tmp_path):
    modalities = {"audio": {"encoder": "audio"}, "i3d": {"encoder": "features", "feature_dim": 6}}
    localizer = Localizer(untrained("moment_retrieval", model={"modalities": modalities, "audio": AUDIO}))
    rows = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    film, other, silent = (
        write_film(tmp_path / "a.mkv", tones(), tones(first_hz=700.0)),
        write_film(tmp_path / "b.mkv", tones(first_hz=700.0)),
        write_film(tmp_path / "silent.mkv"),
    )
    found = localizer(localizer.embed_features({"i3d": rows}, video=film), TEXTS)
    assert found.waveform is not None and found.duration_s == pytest.approx(6.0, abs=0.01)
    assert found.model["sees"] == "8 rows of i3d features" and "hears" in found.model
    assert differ(localizer(localizer.embed_features({"i3d": rows}, video=other), TEXTS), found)
    picked = localizer.embed_features({"i3d": rows}, video=film, audio_track=1)
    close(localizer(picked, TEXTS), localizer(localizer.embed_features({"i3d": rows}, video=other), TEXTS))
    mute = localizer(localizer.embed_features({"i3d": rows}, video=silent), TEXTS)
    assert [note.kind for note in mute.notes] == ["no sound track"] and mute.waveform is None
    with pytest.raises(UserError, match="this model reads i3d and sound: give the video too"):
        localizer.embed_features({"i3d": rows}, duration_s=6.0)


def test_a_film_is_cached_by_track(hears, tmp_path):
    film = write_film(tmp_path / "two.mkv", tones(), tones(first_hz=700.0))
    assert differ(hears(film, TEXTS, audio_track=0), hears(film, TEXTS, audio_track=1))
    assert hears.embed_video(film, audio_track=1) == hears.embed_video(film, audio_track=1)
    assert read_sound(film, RATE, 1) is not None
