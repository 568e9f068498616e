"""The strip under the time axis of the report, and the sound in the page."""

import base64
import dataclasses
import io
import re
from pathlib import Path

import av
import numpy as np
import pytest

import unloc_jax
from tests.inference.test_hearing import RATE, tones, write_film, write_wav
from tests.inference.test_report import Page, browser, example_prediction, wait  # noqa: F401  a fixture
from unloc_jax.errors import UserError
from unloc_jax.inference.preview import playable_as, preview_bytes
from unloc_jax.inference.report import report_page, write_report
from unloc_jax.inference.waveform import drawing, waveform_of
from unloc_jax.sound_windows import Sound

CLAP = Path(__file__).parents[1] / "goldens/clap/unfused"


def sound_of(samples: np.ndarray, heard=None) -> Sound:
    heard = [[0.0, len(samples) / RATE]] if heard is None else heard
    return Sound(samples, RATE, np.array(heard, float).reshape(-1, 2))


def page_with(sound: Sound, path: Path, out: Path, duration_s: float = 6.0, track: int | None = None) -> Page:
    prediction = dataclasses.replace(
        example_prediction(duration_s), waveform=waveform_of(sound, duration_s, track)
    )
    write_report(prediction, path, out)
    return Page(out)


def media(page: Page, tag: str) -> tuple[str, bytes]:
    (source,) = [attributes["src"] for name, attributes in page.elements if name == tag]
    kind, _, content = source.partition(";base64,")
    return kind.removeprefix("data:"), base64.b64decode(content)


def written(path: Path, samples: np.ndarray, codec: str, rate: int = RATE) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def heard_in(content: bytes) -> np.ndarray:
    """float [S] at RATE, from second 0 on."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    with av.open(io.BytesIO(content)) as container:
        frames = [made for frame in container.decode(audio=0) for made in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def test_parts_of_a_waveform_are_those_of_the_time_axis():
    samples = np.zeros(10 * RATE, np.int16)
    samples[3 * RATE] = 16384
    samples[7 * RATE : 8 * RATE] = -8192
    made = waveform_of(sound_of(samples, [[1.0, 5.0], [6.5, 9.0]]), 20.0)
    width = len(made.rms)
    there_s = (np.flatnonzero(np.isfinite(made.rms)) + 0.5) * 20 / width
    assert np.isfinite(made.rms).mean() == pytest.approx(6.5 / 20, abs=0.003)
    assert there_s.min() == pytest.approx(1.0, abs=0.02) and there_s.max() == pytest.approx(9.0, abs=0.02)
    assert np.nanargmax(made.highest) * 20 / width == pytest.approx(3.0, abs=0.02)
    assert np.nanmax(made.highest) == 0.5 and np.nanmin(made.lowest) == -0.25
    loud_s = np.flatnonzero(np.nan_to_num(made.rms) > 0.2) * 20 / width
    assert (loud_s.min(), loud_s.max()) == pytest.approx((7.0, 8.0), abs=0.03)


@pytest.mark.parametrize("seconds", [0.0005, 0.1, 3.0])
def test_short_silent_and_empty_sounds_are_drawn(seconds):
    for sound in (sound_of(np.zeros(round(seconds * RATE), np.int16)), sound_of(np.zeros(0, np.int16), [])):
        svg = drawing(waveform_of(sound, seconds))
        assert "nan" not in svg and svg.count("<path") == 2
        assert ("<rect" in svg) == (not len(sound.samples))


def test_the_strip_is_on_the_page_and_small(tmp_path):
    film = write_film(tmp_path / "a.mkv", tones())
    page = page_with(sound_of(tones(), [[2.0, 6.0]]), film, tmp_path / "report.html")
    (svg,) = re.findall(r'<svg class="waveform".*?</svg>', page.source)
    assert len(svg) < 30_000 and "NaN" not in svg
    width = int(re.search(r'viewBox="0 0 (\d+) 100"', svg)[1])
    assert re.findall(r'<rect x="(\d+)" width="(\d+)"/>', svg) == [("0", str(width // 3))]
    heights = [int(y) for y in re.findall(r"V(\d+)", svg)]
    assert min(heights) == 0 and max(heights) == 100  # the loudest sample touches the edge
    assert page.text_of("hears") == ["sound"] and "the waveform of what the model heard" in page.source
    assert "without sound" not in page.source
    # The same rules as without: no other source of anything, one script by its hash.
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv"))
    write_report(example_prediction(6.0), film, tmp_path / "silent.html")
    silent = Page(tmp_path / "silent.html")
    assert policy == next(a["content"] for tag, a in silent.elements if a.get("http-equiv"))
    assert '<svg class="waveform"' not in silent.source and not silent.of_class("sound")
    assert "without sound" in silent.source
    assert '<div class="sound">' in report_page(
        dataclasses.replace(example_prediction(6.0), waveform=waveform_of(sound_of(tones()), 6.0)), "video", 5
    )


def test_a_copy_sounds_at_the_same_times_and_has_the_track_that_was_heard(tmp_path):
    other = tones(first_hz=150.0)
    film = write_film(tmp_path / "two.mkv", tones(), other)
    for track, samples in ((None, tones()), (0, tones()), (1, other)):
        page = page_with(sound_of(samples), film, tmp_path / "report.html", track=track)
        kind, content = media(page, "video")
        assert kind == "video/mp4"
        heard = heard_in(content)
        assert len(heard) == pytest.approx(6 * RATE, abs=0.05 * RATE)
        for second in (0, 1, 3, 4, 5):
            part = heard[int((second + 0.1) * RATE) : int((second + 0.9) * RATE)]
            hz = np.abs(np.fft.rfft(part)).argmax() * RATE / len(part)
            assert hz == pytest.approx((1 + second) * (150 if track else 300), abs=3), (track, second)
        quiet = np.abs(heard[int(2.05 * RATE) : int(2.95 * RATE)]).max()
        assert quiet < 0.01 < 0.2 < np.abs(heard[int(1.5 * RATE) : int(1.99 * RATE)]).max()
    with av.open(io.BytesIO(preview_bytes(film)[0])) as container:
        assert not container.streams.audio  # a model that does not hear: as before


def test_what_browsers_cannot_hear_is_copied(tmp_path):
    for codec, played in (("aac", True), ("ac3", False)):
        film = write_film(tmp_path / f"{codec}.mp4", tones(), codec=codec, rate=48000)
        assert (playable_as(film, with_sound=True) == "video/mp4") == played
        assert playable_as(film) == "video/mp4"
        assert (preview_bytes(film, with_sound=True)[0] == film.read_bytes()) == played


@pytest.mark.parametrize(
    "name, codec, kind",
    [
        ("a.wav", "pcm_s16le", "audio/wav"),
        ("a.mp3", "libmp3lame", "audio/mpeg"),
        ("a.flac", "flac", "audio/flac"),
        ("a.ogg", "libopus", "audio/ogg"),
        ("a.m4a", "aac", "audio/mp4"),
        ("a.webm", "libopus", "audio/webm"),
        ("a.aiff", "pcm_s16be", None),
        ("b.wav", "pcm_f32le", None),
        ("a.mka", "ac3", None),
    ],
)
def test_files_of_sound_have_a_player(tmp_path, name, codec, kind):
    file = written(tmp_path / name, tones(), codec, rate=48000 if codec in ("libopus", "ac3") else 16000)
    page = page_with(sound_of(tones()), file, tmp_path / "report.html")
    found, content = media(page, "audio")
    assert found == (kind or "audio/mp4") and (content == file.read_bytes()) == (kind is not None)
    assert not [tag for tag, _ in page.elements if tag == "video"]
    heard = heard_in(content)
    assert len(heard) == pytest.approx(6 * RATE, abs=0.1 * RATE)


def test_long_sounds_are_squeezed_or_refused(tmp_path):
    noise = np.random.default_rng(0).normal(0, 6000, 60 * RATE).clip(-32768, 32767).astype(np.int16)
    file = write_wav(tmp_path / "long.wav", noise)
    for most in (700_000, 200_000, 110_000):
        content, kind = preview_bytes(file, max_bytes=most)
        assert kind == "audio/mp4" and len(content) <= most
        assert len(heard_in(content)) == pytest.approx(60 * RATE, abs=0.1 * RATE)
    with pytest.raises(
        UserError, match=r"long\.wav: the sound does not fit into a preview of 30000 bytes\. Allow"
    ):
        preview_bytes(file, max_bytes=30_000)
    film = write_film(tmp_path / "film.mkv", noise, seconds=60)
    content, kind = preview_bytes(film, max_bytes=400_000, with_sound=True)
    assert kind == "video/mp4" and len(content) <= 400_000
    assert len(heard_in(content)) == pytest.approx(60 * RATE, abs=0.1 * RATE)


def test_pages_of_clap(tmp_path):
    localizer = unloc_jax.load(f"clap:{CLAP}")
    for name in ("a.wav", "a.mkv"):
        file = (
            write_wav(tmp_path / name, tones()) if name == "a.wav" else write_film(tmp_path / name, tones())
        )
        found = localizer(file, "a dog barks")
        assert np.isnan(found.waveform.rms).mean() < 0.01
        found.save(tmp_path / "report.html")
        page = Page(tmp_path / "report.html")
        kind, content = media(page, "audio" if name == "a.wav" else "video")
        assert len(heard_in(content)) == pytest.approx(6 * RATE, abs=0.1 * RATE)
        assert page.of_class("sound") and kind == ("audio/wav" if name == "a.wav" else "video/mp4")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.wav", "a.mkv"])
def test_in_a_browser(browser, tmp_path, name):  # noqa: F811
    path = tmp_path / name
    write_wav(path, tones()) if name == "a.wav" else write_film(path, tones())
    page_with(sound_of(tones()), path, tmp_path / "report.html")
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    trouble = []
    tab.on("console", lambda message: trouble.append(message.text))
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.goto((tmp_path / "report.html").as_uri())
    wait(tab, "video.readyState >= 2")
    box, axis = tab.locator(".sound").bounding_box(), tab.locator(".track").nth(0).bounding_box()
    assert (box["x"], box["width"]) == (axis["x"], axis["width"])
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + 5)
    assert tab.evaluate("video.currentTime") == pytest.approx(3.0, abs=0.02)
    tab.keyboard.press("Space")
    wait(tab, "video.currentTime > 3.3")
    assert tab.evaluate("video.webkitAudioDecodedByteCount") > 0
    tab.set_viewport_size({"width": 400, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") == 400
    assert trouble == []
