"""The demo as visitors meet it: a browser, gradio_client and plain HTTP, against a running server."""

import hashlib
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.demo.conftest import LIMITS, sends
from tests.tiny_runs import REPOSITORY

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow

SENTENCES = "a red circle moves\na square"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def address(localizer, folder):
    from unloc_jax.demo.serve import start

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")  # what the server sets is undone
        page = start(localizer, "a tiny CLIP", folder, limits=LIMITS)
        yield page.local_url.rstrip("/")
        page.close()


def get(url, **headers):
    """Status, headers and content."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


# The API.


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False)


def find(client, path, link="", sentences=SENTENCES, top_k=5, threshold=0.0):
    from gradio_client import handle_file

    return client.predict(
        video=None if path is None else handle_file(str(path)),
        link=link,
        sentences=sentences,
        top_k=top_k,
        threshold=threshold,
        api_name="/find",
    )


def test_the_api_has_one_documented_call(client):
    api = client.view_api(return_format="dict", print_info=False)
    assert list(api["named_endpoints"]) == ["/find"] and api["unnamed_endpoints"] == {}
    parameters = [p["parameter_name"] for p in api["named_endpoints"]["/find"]["parameters"]]
    assert parameters == ["video", "link", "sentences", "top_k", "threshold"]
    page = (REPOSITORY / "docs" / "demo.md").read_text("utf-8")
    assert all(f"`{name}`" in page for name in parameters)


def test_a_program_finds_moments(client, localizer, films):
    page, result = find(client, films / "short.mp4")
    assert [text["text"] for text in result["texts"]] == SENTENCES.splitlines()
    assert result["version"] == 1 and result["video"] == "short.mp4"
    assert 'src="unloc/' in page
    before = localizer.embedded
    _, fewer = find(client, films / "short.mp4", top_k=1, threshold=0.1)
    assert [len(text["segments"]) <= 1 for text in fewer["texts"]] == [True, True]
    assert localizer.embedded == before


def error_of(call, *arguments, **options):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "Traceback" not in message and "\n" not in message
    return message


def test_errors_of_the_api_are_one_line(client, films, site):
    assert "words.mp4: not a video file" in error_of(find, client, films / "words.mp4")
    assert "this demo takes videos of up to" in error_of(find, client, films / "long.mp4")
    assert "Give a video" in error_of(find, client, None)
    assert "20" in error_of(find, client, films / "short.mp4", top_k=1000)
    assert "Write at least one sentence" in error_of(find, client, films / "short.mp4", sentences="")
    private = site(sends((films / "short.mp4").read_bytes()))
    assert "not on the public internet" in error_of(find, client, None, link=f"{private}/a.mp4")


def raw_error(address, path) -> str:
    """The error of a request that calls `path` an uploaded file, without gradio_client, which uploads it."""
    data = [{"path": str(path), "meta": {"_type": "gradio.FileData"}}, "", "a circle", 5, 0]
    request = urllib.request.Request(
        f"{address}/gradio_api/call/find",
        json.dumps({"data": data}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        event = json.load(answer)["event_id"]
    status, _, content = get(f"{address}/gradio_api/call/find/{event}")
    assert status == 200 and content.startswith(b"event: error")
    return json.loads(content.decode().partition("data: ")[2])["error"]


def test_gradio_itself_fetches_no_links_and_no_files_of_this_machine(address, films, site):
    asked = []
    private = site(lambda handler: (asked.append(handler.path), sends(b"secret")(handler)))
    for link in (f"{private}/a.mp4", "https://example.org/a.mp4"):
        assert "Give an address as “link”" in raw_error(address, link)
    for path in ("/etc/passwd", films / "short.mp4", "file:///etc/passwd", "HTTP://example.org/a.mp4"):
        assert raw_error(address, path) is None, "no more than that: not even a folder of this machine"
    for path in ("file=http://example.org/", f"file={private}/a.mp4", f"proxy={private}/a.mp4"):
        assert get(f"{address}/gradio_api/{path}")[0] == 403
    for path in (REPOSITORY / "README.md", films / "short.mp4", "/etc/passwd"):
        assert get(f"{address}/gradio_api/file={path}")[0] == 403
    assert asked == []


def test_files_of_one_visitor_are_not_served_to_another(client, address, films, folder):
    page, _ = find(client, films / "short.mp4", sentences="my secret")
    path = re.search(r'src="([^"#]+)', page)[1]
    assert re.fullmatch(r"unloc/[\w-]{43}/page", path)
    status, headers, content = get(f"{address}/{path}")
    assert status == 200 and b"my secret" in content and headers["Cache-Control"] == "private, no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    status, headers, content = get(f"{address}/{path[:-4]}video")
    assert status == 200 and content == (films / "short.mp4").read_bytes()
    assert get(f"{address}/{path[:-4]}video", Range="bytes=5-9")[2] == content[5:10]

    # Another one has no address to ask for: not by names, not by contents, and nothing is listed.
    for guess in ("unloc/", "unloc/x/page", "unloc/short.mp4/video", "unloc/../page"):
        assert get(f"{address}/{guess}")[0] == 404
    (held,) = folder.glob("videos/*/video.mp4")
    uploads = list(folder.glob("uploads/*/short.mp4"))
    assert uploads, "as the test means it"
    others = [
        held,
        folder,
        folder / "uploads" / ".." / held.relative_to(folder),
        uploads[0].parent,
        uploads[0].parents[1],
    ]
    for guess in others:
        assert get(f"{address}/gradio_api/file={guess}")[0] in (403, 404)
        raw_error(address, guess)
    by_content = hashlib.sha256((films / "short.mp4").read_bytes()).hexdigest()
    assert uploads[0].parent.name != by_content
    assert get(f"{address}/gradio_api/file={folder}/uploads/{by_content}/short.mp4")[0] in (403, 404)


def test_a_file_that_is_too_large_is_refused_while_it_is_uploaded(client, films):
    with pytest.raises(Exception, match=r"413|size|large"):
        find(client, films / "large.mp4")


# The page.


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    words = [
        "--no-sandbox",
        "--disable-gpu",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=words)
        yield browser
        browser.close()


class Visitor:
    """A visitor with a browser of their own, and what went wrong in it."""

    def __init__(self, browser, address, width=1200):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, permissions=["camera", "microphone"]
        )
        self.tab = self.context.new_page()
        self.trouble, self.hosts = [], set()
        self.tab.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.trouble.append(dialog.message), dialog.dismiss()))
        self.tab.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.tab.goto(address)
        self.tab.get_by_role("button", name="Find", exact=True).wait_for()

    def give(self, path: Path, sentences: str = SENTENCES) -> None:
        field = self.tab.locator("input[type=file]")
        if self.tab.locator(".unloc-video video").count():
            self.tab.locator(".unloc-video").get_by_label("Clear").first.click()
        field.first.wait_for(state="attached")
        field.first.set_input_files(str(path))
        self.tab.get_by_label("Sentences").fill(sentences)

    def uploaded(self) -> None:
        self.tab.locator(".unloc-video video").wait_for()

    def press(self) -> None:
        self.tab.get_by_role("button", name="Find", exact=True).click()

    def error(self, pattern: str) -> None:
        """Waits for a message like this; Gradio itself may have one more, that the browser cannot play the file."""
        self.tab.get_by_test_id("toast-text").filter(has_text=re.compile(pattern)).first.wait_for()
        assert "Traceback" not in self.tab.locator("body").inner_text()
        while self.tab.get_by_test_id("toast-close").count():
            self.tab.get_by_test_id("toast-close").first.click()
            self.tab.wait_for_timeout(300)

    @property
    def report(self):
        self.tab.locator("iframe.unloc-report").wait_for(timeout=60_000)
        return self.tab.frame_locator("iframe.unloc-report")

    def video(self, expression: str):
        """A value of the report's player."""
        return self.report.locator("video").evaluate(f"video => video.{expression}")

    def wait(self, condition) -> None:
        for _ in range(300):
            if condition():
                return
            self.tab.wait_for_timeout(100)
        raise AssertionError("not within half a minute")


@pytest.fixture
def visitor(browser, address):
    visitors = []

    def come(width=1200) -> Visitor:
        visitors.append(Visitor(browser, address, width))
        return visitors[-1]

    yield come
    for each in visitors:
        each.context.close()
        assert each.trouble == []
        assert each.hosts <= {address.split("/")[2]}, "the page needs nobody else"


def test_a_click_on_a_segment_plays_it(visitor, localizer, films):
    guest = visitor()
    guest.give(films / "short.mp4")
    guest.uploaded()
    guest.press()
    segments = guest.report.locator(".segment:visible")
    segments.first.wait_for()
    guest.wait(lambda: guest.video("readyState") >= 2)
    start = guest.report.locator("#prediction").evaluate(
        "block => JSON.parse(block.textContent).texts[1].segments[0].start_s"
    )
    guest.report.locator("video").evaluate("video => { video.playbackRate = 0.1; }")
    guest.report.locator(".row").nth(1).locator(".segment").first.click()
    assert start <= guest.video("currentTime") < start + 0.5
    assert guest.report.locator(".segment[aria-current]").count() == 1

    # Fewer segments, at once, while it plays: neither the model nor the page begins anew.
    embedded, count = localizer.embedded, segments.count()
    guest.report.locator("video").evaluate("video => { video.marked = true; }")
    guest.tab.get_by_label("number input for Segments per sentence").fill("1")
    guest.wait(lambda: segments.count() == 2)
    assert count > 2
    threshold = guest.tab.get_by_label("number input for Score at least")
    threshold.fill("1")
    threshold.press("Tab")
    guest.wait(lambda: segments.count() == 0)
    assert guest.report.locator(".nothing:visible").first.inner_text() == "no segment with this score"
    threshold.fill("0")
    threshold.press("Tab")
    guest.wait(lambda: segments.count() == 2)
    assert guest.video("marked") is True

    # New sentences: the video is not embedded again, and the page keeps what was chosen.
    frame = guest.tab.locator("iframe.unloc-report")
    before = frame.get_attribute("src")
    guest.tab.get_by_label("Sentences").fill("a triangle")
    guest.press()
    guest.wait(lambda: frame.get_attribute("src") != before)
    guest.report.get_by_role("heading", name="a triangle").wait_for()
    assert segments.count() == 1
    assert localizer.embedded == embedded


def test_wrong_files_are_told_in_one_line(visitor, localizer, films):
    guest = visitor()
    before = localizer.embedded
    guest.give(films / "words.mp4")
    guest.uploaded()
    guest.press()
    guest.error("words.mp4: not a video file that FFmpeg can read")
    guest.give(films / "long.mp4")
    guest.uploaded()
    guest.press()
    guest.error("long.mp4 is 00:12.0 long or longer; this demo takes videos of up to")
    guest.give(films / "large.mp4")
    guest.error("exceed the maximum allowed size")
    assert localizer.embedded == before


def test_what_visitors_write_never_becomes_markup(visitor, films):
    nasty = "<img src=x onerror=alert(1)> ?!"
    guest = visitor()
    guest.give(films / "short.mp4", f"?<b>!\n{nasty}")
    guest.uploaded()
    guest.press()
    guest.report.locator("h2").first.wait_for()
    assert guest.report.locator("h2").all_inner_texts() == ["?<b>!", nasty]
    guest.tab.get_by_label("Sentences").fill("<>!")
    guest.press()
    guest.error("has no words: '<>!'")


def test_two_visitors_see_their_own(visitor, films):
    first, second = visitor(), visitor(width=400)
    first.give(films / "short.mp4", "the first one's")
    second.give(films / "other.mp4", "the second one's")
    for guest in (first, second):
        guest.uploaded()
    for guest in (first, second):
        guest.press()
    for guest, name, duration_s, text in (
        (first, "short.mp4", 4.0, "the first one's"),
        (second, "other.mp4", 3.0, "the second one's"),
    ):
        guest.report.locator("h2").wait_for()
        assert guest.report.locator("h2").inner_text() == text
        assert guest.report.locator("h1").inner_text() == name
        guest.wait(lambda guest=guest: guest.video("readyState") >= 2)
        assert guest.video("duration") == pytest.approx(duration_s, abs=0.1)
    addresses = [guest.tab.locator("iframe.unloc-report").get_attribute("src") for guest in (first, second)]
    assert len(set(addresses)) == 2
    assert second.tab.evaluate("document.documentElement.scrollWidth") == 400, (
        "no sideways scrolling on a phone"
    )


def test_a_camera(visitor):
    guest = visitor()
    guest.tab.get_by_label("Capture from camera").click()
    guest.tab.get_by_text("Click to Access Webcam").click()
    guest.tab.get_by_text("Record", exact=True).click()
    guest.tab.wait_for_timeout(3000)
    guest.tab.get_by_text("Stop", exact=True).click()
    guest.uploaded()
    guest.tab.get_by_label("Sentences").fill("a green ball")
    guest.press()
    assert guest.report.locator("h2").inner_text() == "a green ball"
    guest.wait(lambda: guest.video("readyState") >= 2)
    assert 0.2 < guest.video("duration") < 8


def test_a_closed_page_ends_its_work(visitor, films, monkeypatch):
    from unloc_jax.demo import service

    ended, original = [], service._Watch.__call__

    def slow(self, fraction, text):
        time.sleep(1)
        try:
            original(self, fraction, text)
        except Exception as error:
            ended.append(error)
            raise

    monkeypatch.setattr(service._Watch, "__call__", slow)
    guest = visitor()
    guest.give(films / "closed.mp4")
    guest.uploaded()
    guest.press()
    guest.tab.get_by_text("Read 00:0").first.wait_for()
    guest.tab.close()
    for _ in range(60):
        if ended:
            break
        time.sleep(0.5)
    assert "the page was closed" in str(ended[0])


def test_a_space_has_what_it_needs():
    """spaces/app.py is what Hugging Face runs; its requirements and header name what it needs."""
    header = (REPOSITORY / "spaces" / "README.md").read_text("utf-8").split("---\n")[1]
    settings = dict(line.split(": ", 1) for line in header.strip().splitlines())
    assert settings["sdk"] == "gradio" and settings["app_file"] == "app.py"
    assert (REPOSITORY / "spaces" / settings["app_file"]).is_file()
    assert "unloc_jax[demo]" in (REPOSITORY / "spaces" / "requirements.txt").read_text("utf-8")
