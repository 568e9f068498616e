"""`unloc diagnose` from files to tables, page and JSON; what is wrong with the files is said."""

import html.parser
import json
import re
import shutil

import numpy as np
import pytest

from tests.metrics.references import REPOSITORY
from tests.metrics.test_protocols import (
    DATABASE,
    QUERIES,
    RESULTS,
    TEST,
    TEST_RESULTS,
    WINDOWS,
    action,
    lines,
)
from unloc_jax.cli import main
from unloc_jax.metrics.diagnosis import svg
from unloc_jax.metrics.diagnosis.section import Bars

SMALL = {
    "activitynet": (DATABASE, RESULTS),
    "thumos14": (TEST, TEST_RESULTS),
    "moment-retrieval": (QUERIES, WINDOWS),
    "qvhighlights": (QUERIES, WINDOWS),
}


def diagnose(tmp_path, protocol, truth, found, *options):
    for name, content in (("truth.json", truth), ("found.json", found)):
        (tmp_path / name).write_text(lines(*content) if isinstance(content, list) else json.dumps(content))
    files = [f"--ground-truth={tmp_path / 'truth.json'}", f"--predictions={tmp_path / 'found.json'}"]
    outs = [f"--out={tmp_path / 'page.html'}", f"--json={tmp_path / 'out.json'}"]
    status = main(["diagnose", f"--protocol={protocol}", *files, *outs, *options])
    return json.loads((tmp_path / "out.json").read_text()) if status == 0 else status


def many(count=60):
    """Videos in which short segments are missed, and long ones are found a bit too often and too surely."""
    rng = np.random.default_rng(0)
    database, results = {}, {}
    for i in range(count):
        at = float(rng.integers(0, 40))
        long, short = [at, at + 30.0], [80.0, 82.0]
        labels = ("climb <script>alert(1)</script>", "run")
        database[f"v{i}"] = {
            "subset": "validation",
            "duration": 100.0,
            "annotations": [action(*long, labels[0]), action(*short, labels[1])],
        }
        results[f"v{i}"] = [
            action(at + 1, at + 29, labels[0], 0.9) | {"level": 2},
            action(at, at + 28, labels[0], 0.8) | {"level": 2},
            action(at, at + 30, labels[1], 0.7) | {"level": 1},
            action(70, 82, labels[1], 0.6) | {"level": 0},
        ]
    return {"database": database}, {"results": results}


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "link", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def ids(self):
        return {attributes["id"] for _, attributes in self.elements if "id" in attributes}


@pytest.mark.parametrize("protocol", SMALL)
def test_small_files_say_little(protocol, tmp_path, capsys):
    """Every table is there, and no reading rests on three segments."""
    found = diagnose(tmp_path, protocol, *SMALL[protocol])
    sections = {name: section for name, section in found.items() if name != "summary"}
    assert {"curves", "calibration", "confusion", "videos"} <= sections.keys()
    for name, section in sections.items():
        if name != "videos":
            assert section["readings"] == [], name
    printed = capsys.readouterr().out
    for section in sections.values():
        assert section["title"] in printed
    text = (tmp_path / "page.html").read_text()
    assert Page(text).open == []
    for page in (text, " ".join(printed.split())):
        assert "tIoU is the overlap of two segments" in page
    assert not re.search(r"<(tbody|ul|div class=\"videos\")[^>]*></", text), "nothing is empty"
    assert all(
        "<rect" in drawn or "<circle" in drawn for drawn in re.findall("<svg.*?</svg>", text, re.DOTALL)
    )
    assert (
        re.search(r'class="findings"><li>Nothing that chance does not explain', text)
        or found["videos"]["readings"]
    )


ODD = {
    "database": {
        "a": {"subset": "test", "annotations": [action(0, 10, "run"), action(20, 20, "run")]},
        "b": {"subset": "test", "annotations": [action(5, 5, "jump")]},
        "c": {"subset": "test", "annotations": []},
    },
    "ambiguous": {"d": [[0, 5]]},
}


@pytest.mark.parametrize("protocol", ["activitynet", "thumos14"])
def test_counts_what_metrics_counts(protocol, tmp_path, capsys):
    """Segments without length, videos without segments, videos with ambiguous regions alone, unknown videos."""
    found = {video: [action(0, 10, "run", 0.9), action(3, 3, "run", 0.8)] for video in "abcde"}
    summary = diagnose(tmp_path, protocol, ODD, {"results": found}, "--subset=test")["summary"]
    out = tmp_path / "metrics.json"
    files = [f"--ground-truth={tmp_path / 'truth.json'}", f"--predictions={tmp_path / 'found.json'}"]
    assert main(["metrics", f"--protocol={protocol}", *files, "--subset=test", f"--out={out}"]) == 0
    numbers = json.loads(out.read_text())
    assert numbers["videos"] == summary["videos"] == 3
    assert numbers["ground_truth_segments"] == summary["ground-truth segments"] == 3
    assert numbers["predictions"] == summary["predictions"] == 10
    assert len(numbers["per_class_AP"]) == summary["classes"] == 2
    assert numbers["mAP@0.50"] == summary["mAP at tIoU 0.5"] > 0
    assert summary["of these without length: diagnosed nowhere"] == 2
    assert "of these without length: diagnosed nowhere: 2" in capsys.readouterr().out


def test_the_line_of_all_crosses_no_number():
    for base in np.linspace(0, 100, 41):
        figure = Bars(
            "t", [f"bin {i}" for i in range(21)], [5.0 * i for i in range(21)], [9] * 21, float(base)
        )
        drawn = svg.bars(figure)
        at = float(re.search(r'class="base" x1="([\d.]+)"', drawn)[1])
        numbers = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="start">([\d.]+)<', drawn)
        assert len(numbers) == 21
        for left, number in numbers:
            assert not float(left) - 2 < at < float(left) + 6 * len(number), (base, number)


def test_detections(tmp_path, capsys):
    found = diagnose(tmp_path, "activitynet", *many())
    errors = {row["without"]: row["false positives"] for row in found["errors"]["tables"][1]}
    assert errors == {
        "double detection": 60,
        "wrong class": 60,
        "localisation": 60,
        "confusion": 0,
        "background": 0,
    }
    by_length = found["by-segment-length"]["tables"][0]
    assert [tuple(row.values()) for row in by_length] == [
        ("0–2 s", 60, 0.0, 0.0),
        ("2–30 s", 60, 100.0, 100.0),
    ]
    (reading, *_) = found["by-segment-length"]["readings"]
    assert "lose 100.0 points against the others: 0.0 % are found, 100.0 % of the others" in reading
    (pair,) = found["confusion"]["tables"][0]
    assert (pair["predicted"], pair["tIoU ≥ 0.5"]) == ("run", 60)
    assert [row["level"] for row in found["levels"]["tables"][0]] == [0, 1, 2]
    assert found["levels"]["tables"][0][2]["hits"] == 60
    assert found["missed"]["tables"][0][1] == {
        "reason": "own class, boundaries off",
        "segments": 60,
        "% of the missed": 100.0,
    }
    assert len(found["videos"]["tables"][0]) == 20
    assert reading in " ".join(capsys.readouterr().out.split()).replace("→ ", "")


def test_the_page_is_whole_and_self_contained(tmp_path):
    diagnose(tmp_path, "activitynet", *many())
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert page.open == []
    names = [tag for tag, _ in page.elements]
    assert "script" not in names, "a class name is not HTML"
    assert not {"link", "img", "iframe"} & set(names)
    assert not re.search(r"https?:|url\(|@import", text)
    links = {a["href"][1:] for tag, a in page.elements if tag == "a"}
    assert links <= page.ids()
    assert {"errors", "by-segment-length", "levels", "videos"} <= page.ids()
    assert names.count("article") == 40
    bars = [a["class"] for tag, a in page.elements if tag == "i" and "style" in a]
    assert (bars.count("above kind-truth"), bars.count("above kind-missed")) == (40, 40)
    assert names.count("svg") >= 7
    assert "{{" not in text
    numbers = [a["width"] for tag, a in page.elements if tag == "rect"]
    assert numbers
    assert all(0 <= float(width) <= 420 for width in numbers)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(scheme, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    files = [
        f"--ground-truth={REPOSITORY / 'tests/goldens/official/actions_truth.json'}",
        f"--predictions={REPOSITORY / 'tests/goldens/official/actions_found.json'}",
        "--subset=validation",
    ]
    assert main(["diagnose", "--protocol=thumos14", *files, f"--out={tmp_path / 'page.html'}"]) == 0
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        trouble, requests = [], []
        tab = browser.new_context(color_scheme=scheme).new_page()
        tab.on("console", lambda message: trouble.append(message.text))
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url.partition(":")[0]))
        tab.goto((tmp_path / "page.html").as_uri())
        for width in (400, 800, 1600):
            tab.set_viewport_size({"width": width, "height": 900})
            assert tab.evaluate("document.documentElement.scrollWidth") == width, "nothing sticks out"
        shade = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", shade))) > 380) == (scheme == "light")
        # The bar of a bin is as long as its number.
        bars = tab.locator("#by-segment-length rect.bar")
        widths = [bars.nth(i).bounding_box()["width"] for i in range(bars.count())]
        cells = tab.locator("#by-segment-length tbody td:nth-child(4)").all_inner_texts()
        assert len(widths) == len(cells) == 5
        np.testing.assert_allclose(
            np.divide(widths, widths[0]), np.divide(list(map(float, cells)), float(cells[0])), 0.01
        )
        # The line of all crosses no number.
        numbers = tab.locator("svg:has(line.base) text[text-anchor=start]")
        lines_of_all = tab.locator("svg:has(line.base)").count()
        assert lines_of_all >= 2 and numbers.count() >= 2 * lines_of_all
        for i in range(numbers.count()):
            left, right, line = numbers.nth(i).evaluate(
                "n => [n.getBoundingClientRect(), n.parentNode.querySelector('line.base').getBoundingClientRect()]"
                ".flatMap((box, k) => k ? [box.left] : [box.left, box.right])"
            )
            assert not left < line < right
        assert (trouble, set(requests)) == ([], {"file"})
        browser.close()


def with_levels(*levels):
    rows = [action(i, i + 10, "run", 0.5) | ({} if x is None else {"level": x}) for i, x in enumerate(levels)]
    return {"results": {"a": rows}}


REFUSED = {
    "no such class": (
        ("activitynet", DATABASE, {"results": {"a": [action(0, 1, "x", 1)]}}),
        "none of its labels is a class",
    ),
    "a score that is not a number": (
        ("activitynet", DATABASE, {"results": {"a": [action(0, 1, "run", "high")]}}),
        'results["a"][0]: "score" must be a number',
    ),
    "no predictions at all": (
        ("activitynet", DATABASE, {"results": {}}),
        "no predictions of the ground truth",
    ),
    "levels in some rows": (
        ("activitynet", DATABASE, with_levels(0, None, 1)),
        '1 of 3 predictions have no "level", others have',
    ),
    "a level that is not a number": (
        ("activitynet", DATABASE, with_levels(0, "fine")),
        "\"level\" must be a whole number from 0 on, not 'fine'",
    ),
    "a negative level": (("activitynet", DATABASE, with_levels(-1)), "from 0 on, not -1"),
    "levels of another length": (
        ("moment-retrieval", QUERIES, [row | {"pred_levels": [1]} for row in WINDOWS]),
        '"pred_levels" must be a list of 2 levels',
    ),
    "a threshold that is not a share": (("activitynet", DATABASE, RESULTS, "--tiou=50"), "tIoU threshold"),
    "a threshold that is not a share, of moments": (
        ("moment-retrieval", QUERIES, WINDOWS, "--tiou=50"),
        "tIoU threshold",
    ),
    "an option of another protocol": (
        ("qvhighlights", QUERIES, WINDOWS, "--subset=val"),
        "--subset is not an option of the protocol qvhighlights",
    ),
    "a task without a checkpoint": (("qvhighlights", QUERIES, WINDOWS, "--task=x"), "--task"),
    "no such folder": (
        ("qvhighlights", QUERIES, WINDOWS, "--out=missing/page.html"),
        "name a file in a folder that exists",
    ),
    "no checkpoint": (("qvhighlights", QUERIES, WINDOWS, "--checkpoint=missing"), "holds no checkpoint"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, tmp_path, capsys):
    arguments, message = REFUSED[case]
    assert diagnose(tmp_path, *arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("unloc: error: ")
    assert message in error


def test_levels_of_odd_videos(tmp_path):
    """The last rows of a video that occurs twice count, and theirs are the levels; unknown and blocked videos."""
    rows = lambda level: json.dumps([action(0, 10, "run", 0.9) | {"level": level}])
    order = {"x": 5, "a": 3, "blocked": 7, "b": 1, "y": 6}
    text = ", ".join(f'"{video}": {rows(level)}' for video, level in order.items())
    (tmp_path / "found.json").write_text(f'{{"results": {{{text}, "a": {rows(2)}}}}}')
    blocked = {"subset": "validation", "annotations": []}
    (tmp_path / "truth.json").write_text(
        json.dumps({"database": DATABASE["database"] | {"blocked": blocked}})
    )
    (tmp_path / "blocked.json").write_text('["blocked"]')
    options = {"ground-truth": "truth", "predictions": "found", "blocked-videos": "blocked", "json": "out"}
    files = [f"--{name}={tmp_path / path}.json" for name, path in options.items()]
    assert main(["diagnose", "--protocol=activitynet", *files]) == 0
    levels = json.loads((tmp_path / "out.json").read_text())["levels"]["tables"][0]
    assert [(row["level"], row["hits"]) for row in levels] == [(1, 0), (2, 1), (5, 0), (6, 0)]


def test_levels_of_windows(tmp_path):
    found = diagnose(
        tmp_path,
        "moment-retrieval",
        QUERIES,
        [row | {"pred_levels": [i, 5]} for i, row in enumerate(WINDOWS)],
    )
    rows = found["levels"]["tables"][0]
    assert [(row["level"], row["hits"]) for row in rows] == [(0, 1), (1, 0)]


def test_nothing_is_predicted(tmp_path):
    found = diagnose(
        tmp_path, "moment-retrieval", QUERIES, [row | {"pred_relevant_windows": []} for row in WINDOWS]
    )
    assert found["outcomes"]["tables"][0][1] == {
        "first window": "no prediction",
        "queries": 2,
        "%": 100.0,
        "later one hits": 0,
    }
    assert found["calibration"]["tables"] == []


def test_files_without_durations(tmp_path):
    """Charades-STA's own: what needs a duration is not there, the rest is."""
    (tmp_path / "truth.txt").write_text("a 0.0 10.0##x\na 10.0 20.0##y\n")
    (tmp_path / "found.jsonl").write_text(
        lines(
            *(
                {k: row[k] for k in row if k != "qid"} | {"vid": "a", "query": q}
                for q, row in zip("yx", WINDOWS)
            )
        )
    )
    files = [f"--ground-truth={tmp_path / 'truth.txt'}", f"--predictions={tmp_path / 'found.jsonl'}"]
    assert main(["diagnose", "--protocol=moment-retrieval", *files, f"--json={tmp_path / 'out.json'}"]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["by-coverage"]["tables"] == found["by-position"]["tables"] == []
    assert found["by-moment-length"]["tables"][0][0]["queries"] == 2


def test_files_of_the_thumos14_devkit(tmp_path):
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "Diving_test.txt").write_text("a 0 10\nb 20 30\n")
    (tmp_path / "found.txt").write_text("a.mp4 0 9 26 0.9\nb 0 5 26 0.8\nb 0 5 40 0.7\n")
    files = [f"--ground-truth={tmp_path / 'truth'}", f"--predictions={tmp_path / 'found.txt'}"]
    assert main(["diagnose", "--protocol=thumos14", *files, f"--json={tmp_path / 'out.json'}"]) == 0
    summary = json.loads((tmp_path / "out.json").read_text())["summary"]
    assert (summary["ground-truth segments"], summary["mAP at tIoU 0.5"]) == (2, 50.0)
