"""The demo without its page: what is embedded, kept and refused."""

import dataclasses
import json
import os
from pathlib import Path

import av
import pytest

from tests.demo.conftest import LIMITS, sends
from tests.inference.test_embedded_video import untrained
from tests.inference.test_hearing import HEARS, tones, write_film
from unloc_jax.demo.service import Service
from unloc_jax.demo.videos import HeldVideos
from unloc_jax.errors import UserError
from unloc_jax.inference.localizer import Localizer


@pytest.fixture
def service(localizer, tmp_path) -> Service:
    return Service(localizer, tmp_path, LIMITS, allow_private_links=True)


def error_of(service, video, sentences="a circle", link=""):
    with pytest.raises(UserError) as caught:
        service.find(video, link, sentences)
    message = str(caught.value)
    assert "\n" not in message and str(Path(video).parent if video else "/tmp") not in message, message
    return message


def test_a_video_is_embedded_once_however_it_comes(service, localizer, films, site, tmp_path):
    before = localizer.embedded
    first = service.find(films / "short.mp4", "", "a circle\na square\n\na circle\n")
    assert localizer.embedded == before + 1
    assert [text.text for text in first.prediction] == ["a circle", "a square"]
    service.find(films / "short.mp4", "", "something else")
    (tmp_path / "again.mp4").write_bytes((films / "short.mp4").read_bytes())
    assert service.find(tmp_path / "again.mp4", "", "a circle").prediction.video == "again.mp4"
    address = site(sends((films / "short.mp4").read_bytes()))
    assert service.find(None, f"{address}/linked.mp4", "a circle").prediction.video == "linked.mp4"
    assert localizer.embedded == before + 1
    service.find(films / "other.mp4", "", "a circle")
    assert localizer.embedded == before + 2


def test_a_result_has_the_segments_that_were_asked_for(service, films):
    result = service.find(films / "short.mp4", "", "a circle\na square")
    every = result.values(20, 0.0)
    json.dumps(every, allow_nan=False)
    scores = [segment["score"] for segment in every["texts"][0]["segments"]]
    assert len(scores) > 1 and every["duration_s"] == pytest.approx(4.0, abs=0.1)
    some = result.values(20, scores[0])
    assert len(some["texts"][0]["segments"]) == 1
    assert len(result.values(1, 0.0)["texts"][0]["segments"]) == 1


def test_bad_input_is_told_in_one_line_without_folders(service, localizer, films):
    before = localizer.embedded
    assert "long.mp4 is 00:12.0 long or longer; this demo takes videos of up to" in error_of(
        service, films / "long.mp4"
    )
    assert "large.mp4 has 0.3 MB; this demo takes" in error_of(service, films / "large.mp4")
    assert error_of(service, films / "words.mp4").startswith("words.mp4: not a video file")
    assert error_of(service, films / "list.mp4").startswith("list.mp4: not a video file")
    assert error_of(service, films / "gone.mp4").startswith("gone.mp4 is no longer here")
    assert "Write at least one sentence" in error_of(service, films / "short.mp4", " \n ")
    assert "has no words" in error_of(service, films / "short.mp4", "?!")
    assert "6 sentences; this demo takes up to 5" in error_of(
        service, films / "short.mp4", "a\nb\nc\nd\ne\nf"
    )
    assert "sentence 2 has 61 characters" in error_of(service, films / "short.mp4", "a\n" + 61 * "b")
    assert "Give a video" in error_of(service, None)
    assert "remove one of them" in error_of(service, films / "short.mp4", link="https://example.org/a.mp4")
    assert localizer.embedded <= before + 1, "only where the sentence was at fault"


def test_a_video_that_is_longer_than_its_header_says_is_left(service, films, monkeypatch):
    short = dataclasses.replace(LIMITS, max_s=2.0)
    monkeypatch.setattr(service, "limits", short)
    monkeypatch.setattr(type(short), "check_video", lambda *_: 1.0)
    assert "other.mp4 is 00:0" in error_of(service, films / "other.mp4")


def test_progress_is_told_and_a_closed_page_ends_the_work(service, localizer, films, monkeypatch):
    monkeypatch.setattr("unloc_jax.demo.service._REPORT_EVERY_S", 0.0)
    told = []
    service.find(films / "short.mp4", "", "a circle", lambda fraction, text: told.append((fraction, text)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[-1] == 0.95
    assert any(text.startswith("Read 00:0") and text.endswith("of 00:04.0") for _, text in told)
    with pytest.raises(UserError, match="closed"):
        service.find(films / "short.mp4", "", "a circle", stopped=lambda: True)


def test_what_browsers_cannot_play_is_copied_once(service, films):
    playable = service.find(films / "short.mp4", "", "a circle").video
    assert playable.read_bytes() == (films / "short.mp4").read_bytes()
    result = service.find(films / "old.mkv", "", "a circle")
    assert result.mime == "video/mp4" and result.video.name == "copy.mp4"
    made_ns = result.video.stat().st_mtime_ns
    assert service.find(films / "old.mkv", "", "a square").video.stat().st_mtime_ns == made_ns


def test_old_videos_make_room_for_new_ones(films, tmp_path):
    sizes = {name: (films / name).stat().st_size for name in ("short.mp4", "other.mp4", "long.mp4")}
    held = HeldVideos(tmp_path, most_bytes=sizes["other.mp4"] + sizes["long.mp4"])
    paths = [held.hold(films / name).path for name in sizes]
    assert [path.exists() for path in paths] == [False, True, True]
    assert held.hold(films / "other.mp4").path == paths[1]
    assert held.hold(films / "short.mp4").path == paths[0]
    assert paths[0].exists() and paths[1].exists() and not paths[2].exists(), "the least recently used one"
    aged = HeldVideos(tmp_path / "aged", most_bytes=10**9, most_s=-1.0)
    paths = [aged.hold(films / name).path for name in ("short.mp4", "other.mp4")]
    assert [path.exists() for path in paths] == [False, True]


def test_places_cannot_be_guessed(service, films, tmp_path):
    first, second = (service.find(films / "short.mp4", "", "a circle") for _ in range(2))
    assert first.token != second.token and len(first.token) >= 43
    assert service.result(first.token) is first and service.result("x") is None
    elsewhere = HeldVideos(tmp_path / "elsewhere", 10**9).hold(films / "short.mp4")
    assert elsewhere.folder.name != first.video.parent.name, "a name by content alone could be computed"
    assert os.stat(elsewhere.folder).st_mode & 0o077 == 0


def test_results_are_limited(service, films, monkeypatch):
    monkeypatch.setattr("unloc_jax.demo.service._MOST_RESULTS", 2)
    tokens = [service.find(films / "short.mp4", "", "a circle").token for _ in range(3)]
    assert [service.result(token) is not None for token in tokens] == [False, True, True]


def test_a_model_with_classes_needs_no_sentences(trained_on_classes, tiny_videos, tmp_path):
    import unloc_jax

    service = Service(unloc_jax.load(trained_on_classes), tmp_path, dataclasses.replace(LIMITS, max_s=60.0))
    video = next((tiny_videos / "videos").glob("test_*.mp4"))
    result = service.find(video, "", "")
    assert [text.text for text in result.prediction] == list(service.vocabulary) != []
    assert [text.text for text in service.find(video, "", "a circle").prediction] == ["a circle"]


@pytest.mark.slow
def test_a_model_that_hears_is_heard(tmp_path):
    localizer = Localizer(untrained("moment_retrieval", model=HEARS))
    (tmp_path / "held").mkdir()
    service = Service(localizer, tmp_path / "held", LIMITS)
    result = service.find(write_film(tmp_path / "a.mkv", tones()), "", "a dog barks")
    with av.open(str(result.video)) as container:  # a copy: browsers do not play it as it is
        assert len(container.streams.audio) == 1 and result.mime == "video/mp4"
    assert '<div class="sound">' in result.page()
