"""The HTML of results in a notebook."""

from html.parser import HTMLParser

import pytest

from unloc_jax.errors import TryAgain, UserError
from unloc_jax.inline import framed, metric_tables


class Elements(HTMLParser):
    """Collects elements with their attributes, and the text between them."""

    def __init__(self, source):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def test_a_page_stays_what_it_is_and_in_its_frame():
    page = '<!doctype html><title>"a" &amp; \'b\'</title><script>if (1 < 2 && 3 > 2) alert("x")</script>\n</iframe>é'
    ((tag, attributes),) = Elements(framed(page, 700)).elements
    assert tag == "iframe" and attributes["srcdoc"] == page.replace(
        "<head>", '<head><base href="about:srcdoc">'
    )
    assert attributes["sandbox"] == "allow-scripts"  # not allow-same-origin: it must not reach the notebook
    assert "height:700px" in str(attributes["style"])


def test_metrics_become_tables():
    metrics = {
        "queries": 3,
        "mAP@0.50": 12.345,
        "mAP@0.75": float("nan"),
        "recall": {"model": {"R1": 1.0, "R5": 2.0}, "<b>control": {"R1": 3.0, "R5": None}},
        "mAP": {"0.5": 4.0},
        "per_class": {"jump": 1.0},
        "constant_segment": [0.1, 0.2],
    }
    shown = Elements(metric_tables("a & b", metrics))
    assert [tag for tag, _ in shown.elements].count("table") == 4
    texts = [text for text in shown.texts if text.strip()]
    assert texts[0] == "a & b"
    assert {"queries", "3", "12.35", "–", "0.50", "recall", "<b>control", "2.00", "4.00"} <= set(texts)
    assert not {"jump", "constant segment"} & set(texts)
    assert "b" not in [tag for tag, _ in shown.elements[3:]]


@pytest.mark.parametrize("error", [UserError("no such file"), TryAgain("stopped")])
def test_errors_of_users_are_one_line(error):
    (line,) = error._render_traceback_()
    assert line.startswith("unloc: ") and str(error) in line
