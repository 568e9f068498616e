"""The report page: read back with html.parser, and once used in a browser where one is installed."""

import base64
import dataclasses
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest

from unloc_jax.errors import UserError
from unloc_jax.inference.predictions import Segment, TextPrediction, VideoPrediction, to_json
from unloc_jax.inference.report import report_page, write_report

SHARED_VIDEO = Path(__file__).parents[3] / "shared/videos/real_test.mp4"
NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)> {{video}} & \"a\" 'b' <!-- zebra"


def example_prediction(duration_s: float) -> VideoPrediction:
    """Three texts: several segments and a gap in the curve; HTML and an unknown word; nothing found."""
    times_s = (np.arange(32) + 0.5) * duration_s / 32
    relevance = np.exp(-((times_s / duration_s - 0.4) ** 2) / 0.02)
    gap = relevance.copy()
    gap[10:12] = np.nan
    part = lambda start, end, score: Segment(start * duration_s, end * duration_s, score)
    first = [part(0.3, 0.5, 0.91), part(0.25, 0.55, 0.6), part(0.0, 1.0, 0.31), part(0.9, 1.0, 0.2)]
    return VideoPrediction(
        "/home/somebody/clips/kitchen & garden.mp4",
        duration_s,
        [
            TextPrediction("a person opens the door", first, times_s, gap, []),
            TextPrediction(NASTY, [part(0.6, 0.8, 0.4)], times_s, relevance * 0.5, ["zebra"]),
            TextPrediction("nothing like this", [], times_s, relevance * 0, []),
        ],
        {"checkpoint": "runs/<base>", "step": "48000", "num_frames": "32"},
    )


def test_what_is_not_here(tmp_path):
    """A text whose best score is not above the model's threshold."""
    prediction = example_prediction(4.0)
    texts = [dataclasses.replace(text, threshold=0.5) for text in prediction.texts]
    prediction = dataclasses.replace(prediction, texts=texts)
    assert [text.is_absent for text in prediction] == [False, True, True]
    assert [text["present"] for text in to_json(prediction)["texts"]] == [True, False, False]
    assert "present" not in to_json(example_prediction(4.0))["texts"][0]
    table = str(prediction)
    assert (
        table.count("not here") == 3 and "not above 0.5, the model's threshold" in table and "0.400" in table
    )
    video = tmp_path / "video.mp4"
    video.write_bytes(b"")
    page = report_page(prediction, "video.mp4", 5)
    assert page.count('<p class="absent">not here') == 2 and "best score 0.40, the threshold is 0.50" in page
    assert '<p class="absent">' not in report_page(example_prediction(4.0), "video.mp4", 5)


class Page(HTMLParser):
    """Collects the elements of a page as (tag, attributes) and the text of each by class or tag."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text("utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []  # (tag or class of the innermost open element, text)
        self._open: list[tuple[str, str]] = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = {key: value or "" for key, value in attrs}
        self.elements.append((tag, attributes))
        if tag not in {"meta", "input", "wbr"}:
            self._open.append((tag, attributes.get("id") or attributes.get("class") or tag))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag):
        opened, _ = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data):
        if self._open and data.strip():
            self.texts.append((self._open[-1][1], data))

    def of_class(self, name):
        return [attributes for _, attributes in self.elements if name in attributes.get("class", "").split()]

    def text_of(self, name):
        return [text for where, text in self.texts if where == name]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """128 × 128 pixels, 4 s, a square that moves."""
    path = tmp_path_factory.mktemp("video") / "tiny.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for k in range(40):
            array = np.full((128, 128, 3), 40, np.uint8)
            array[50:80, 2 * k : 2 * k + 30] = (220, 60, 50)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def page(video, tmp_path):
    write_report(example_prediction(4.0), video, tmp_path / "report.html")
    return Page(tmp_path / "report.html")


def test_one_row_per_text_and_one_button_per_segment(page):
    assert [row["data-text"] for row in page.of_class("row")] == ["0", "1", "2"]
    buttons = page.of_class("segment")
    assert [button["data-rank"] for button in buttons] == ["0", "1", "2", "3", "0"]
    assert [button["aria-label"] for button in buttons][:2] == [
        "Play segment 1 of 4 for “a person opens the door”: 00:01.2 to 00:02.0, score 0.91",
        "Play segment 2 of 4 for “a person opens the door”: 00:01.0 to 00:02.2, score 0.60",
    ]
    assert buttons[0]["style"] == "--start:0.30000;--end:0.50000;--rank:0;--score:0.910"
    assert page.text_of("nothing") == ["no segment"] * 3
    assert ["hidden" in element for element in page.of_class("nothing")] == [True, True, False]


def test_top_k_limits_the_bars_but_not_the_data(video, tmp_path):
    write_report(example_prediction(4.0), video, tmp_path / "report.html", top_k=2)
    page = Page(tmp_path / "report.html")
    assert len(page.of_class("segment")) == 3
    assert len(json.loads(page.text_of("prediction")[0])["texts"][0]["segments"]) == 4
    with pytest.raises(ValueError, match="top_k"):
        write_report(example_prediction(4.0), video, tmp_path / "report.html", top_k=0)


def test_the_data_block_is_the_prediction_without_the_folder_of_the_video(page):
    [block] = page.text_of("prediction")
    expected = to_json(example_prediction(4.0))
    expected["video"] = "kitchen & garden.mp4"
    assert json.loads(block) == expected
    assert "somebody" not in page.source


def test_texts_are_shown_as_they_are_and_never_become_markup(page):
    assert page.source.count("alert(1)") == 3  # heading, aria-label, data block
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not [tag for tag, attributes in page.elements if tag == "img" or "onerror" in attributes]
    heading = page.source.partition('<h2 dir="auto">&lt;')[2].partition("</h2>")[0]
    assert heading.startswith("/script&gt;") and "<mark>zebra</mark>" in heading
    assert "{{video}}" in heading
    assert page.text_of("dd") == ["runs/", "<base>", "48000", "32"]


def test_a_row_with_unknown_words_warns(page):
    assert page.text_of("warning") == ["Words the model never saw in training: "]
    assert page.text_of("b") == ["zebra"]


def test_the_page_needs_nothing_else(page, video):
    markup = re.sub(r'base64,[^"]*', "", page.source)
    assert not re.search(r"https?:|@import|url\(", markup)
    loading = [
        (tag, key, value[:22])
        for tag, attributes in page.elements
        for key, value in attributes.items()
        if key in {"src", "href", "srcset", "data", "action", "poster", "background"}
    ]
    assert loading == [("video", "src", "data:video/mp4;base64,")]
    [source] = [attributes["src"] for tag, attributes in page.elements if tag == "video"]
    assert base64.b64decode(source.partition(",")[2], validate=True) == video.read_bytes()


def test_only_the_page_s_own_script_may_run(page):
    [policy] = [attributes["content"] for _, attributes in page.elements if "http-equiv" in attributes]
    script = page.source.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")


def test_each_kind_of_curve_has_its_legend(page, video, tmp_path):
    """CLIP's are stretched over every video, and CLIP has no list of words."""
    legend = " ".join(page.text_of("p"))
    assert "how sure the model is" in legend and "stretched" not in legend
    assert "Unknown words" in page.text_of("h3")
    stretched = dataclasses.replace(example_prediction(4.0), stretched=True)
    write_report(stretched, video, tmp_path / "clip.html")
    clip = Page(tmp_path / "clip.html")
    legend = " ".join(clip.text_of("p"))
    assert "also for a text that never happens" in legend and "how sure" not in legend
    assert "Unknown words" not in clip.text_of("h3") and "Segments" in clip.text_of("h3")


def test_curves_lie_on_the_common_axes(page):
    lines = [element["d"] for element in page.of_class("line")]
    first = [tuple(map(float, point.split())) for point in re.split("[ML]", lines[0])[1:]]
    times = (np.arange(32) + 0.5) / 32
    kept = [i for i in range(32) if i not in (10, 11)]
    np.testing.assert_allclose([x for x, _ in first], 1000 * times[kept], atol=0.06)
    np.testing.assert_allclose(
        [y for _, y in first], 100 - 100 * np.exp(-((times[kept] - 0.4) ** 2) / 0.02), atol=0.06
    )
    assert lines[0].count("M") == 2, "NaN leaves a gap"
    assert lines[1].count("M") == 1
    peak = min(float(point.split()[1]) for point in re.split("[ML]", lines[1])[1:])
    assert peak == pytest.approx(50, abs=1), "all rows share one scale, here 0 to 1"


def test_weak_curves_get_a_smaller_scale_that_is_printed(video, tmp_path):
    times_s, weak = np.array([1.0, 2.0]), np.array([0.02, 0.08])
    write_report(
        VideoPrediction("v.mp4", 4.0, [TextPrediction("weak", [], times_s, weak, [])], {}),
        video,
        tmp_path / "report.html",
    )
    page = Page(tmp_path / "report.html")
    assert page.text_of("scale") == ["0.1"]
    assert page.of_class("line")[0]["d"] == "M250.0 80.0L500.0 20.0"


@pytest.mark.parametrize(
    ("duration_s", "labels"),
    [
        (0.9, ["00:00.0", "00:00.1", "00:00.2"]),
        (10.0, ["00:00", "00:01", "00:02"]),
        (83.2, ["00:00", "00:10", "00:20"]),
        (7300.0, ["00:00", "15:00", "30:00", "45:00", "1:00:00"]),
        (400_000.0, ["00:00", "10:00:00", "20:00:00"]),
    ],
)
def test_ticks_have_round_times(video, tmp_path, duration_s, labels):
    write_report(example_prediction(duration_s), video, tmp_path / "report.html")
    ticks = [text for where, text in Page(tmp_path / "report.html").texts if where.startswith("tick")]
    assert ticks[: len(labels)] == labels and 4 <= len(ticks) <= 13


@pytest.mark.parametrize("count", [1, 30])
def test_from_1_to_30_texts(video, tmp_path, count):
    example = example_prediction(4.0)
    texts = [example.texts[0]] * count
    write_report(VideoPrediction("v.mp4", 4.0, texts, {}), video, tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert len(page.of_class("row")) == count
    checked = [a["value"] for tag, a in page.elements if tag == "input" and "checked" in a]
    assert checked == (["1"] if count == 30 else ["4"]), "a long page starts with the best segments only"


def test_a_page_that_cannot_be_written_is_a_user_error(video, tmp_path):
    with pytest.raises(UserError, match=r"missing/report\.html cannot be written"):
        write_report(example_prediction(4.0), video, tmp_path / "missing" / "report.html")


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def wait(tab, condition):
    """Playwright's own wait_for_function needs eval, which the page's policy forbids."""
    for _ in range(600):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(100)
    raise AssertionError(f"not within a minute: {condition}")


@pytest.mark.slow
def test_in_a_browser(browser, video, tmp_path):
    source = SHARED_VIDEO if SHARED_VIDEO.exists() else video
    duration_s = 10.0 if SHARED_VIDEO.exists() else 4.0
    write_report(example_prediction(duration_s), source, tmp_path / "report.html")
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    trouble, requests = [], []
    tab.on("console", lambda message: trouble.append(message.text))
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda request: requests.append(request.url.partition(":")[0]))
    tab.goto((tmp_path / "report.html").as_uri())
    wait(tab, "video.readyState >= 2")
    time_s = lambda: tab.evaluate("video.currentTime")
    playhead = lambda: float(
        tab.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--t')")
    )

    # A segment plays from its start to its end.
    best = tab.locator(".segment").nth(0)
    tab.evaluate("video.playbackRate = 0.1")  # time to look
    best.click()
    assert 0.3 * duration_s <= time_s() < 0.45 * duration_s
    assert best.get_attribute("aria-current") == "true"
    tab.evaluate("video.playbackRate = 1")
    wait(tab, "video.paused")
    assert time_s() == pytest.approx(0.5 * duration_s, abs=0.2)
    assert best.get_attribute("aria-current") is None
    assert playhead() == pytest.approx(time_s() / duration_s, abs=0.02)

    # The keyboard does the same.
    tab.locator(".segment").nth(3).focus()
    tab.keyboard.press("Enter")
    assert time_s() >= 0.9 * duration_s
    tab.keyboard.press("Space")
    assert tab.evaluate("video.paused")
    before_s = time_s()
    tab.keyboard.press("ArrowLeft")
    assert time_s() == pytest.approx(before_s - 1, abs=0.01)

    # A click on a row or on the axis seeks.
    for place in (tab.locator(".track").nth(2), tab.locator(".ruler")):
        box = place.bounding_box()
        tab.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 8)
        assert time_s() == pytest.approx(0.25 * duration_s, abs=0.02)
    assert playhead() == pytest.approx(0.25, abs=0.005)
    box = tab.locator(".ruler").bounding_box()
    tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 8)
    assert tab.locator(".bubble").inner_text() == f"00:0{duration_s / 2:.1f}"
    assert time_s() == pytest.approx(0.25 * duration_s, abs=0.02), "hovering does not seek"

    # Filters.
    assert tab.locator(".segment:visible").count() == 5
    tab.get_by_label("Best").check()
    assert tab.locator(".segment:visible").count() == 2
    tab.locator("#least").fill("0.5")
    assert tab.locator(".segment:visible").count() == 1

    # No sideways scrolling on a phone.
    tab.set_viewport_size({"width": 400, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") == 400

    # Where a data: URI does not play, the same bytes do as a Blob.
    tab.evaluate("video.dispatchEvent(new Event('error'))")
    wait(tab, "video.src.startsWith('blob:') && video.readyState >= 2")

    assert trouble == []
    assert set(requests) <= {"file", "data", "blob"}
