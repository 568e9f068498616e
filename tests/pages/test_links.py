"""Relative links of the pages, to files and headings, hold on GitHub and wherever Markdown is read."""

import re
from pathlib import Path

import pytest

from tests.tiny_runs import REPOSITORY

PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]
# In folders that a partial checkout lacks, or that `make docs` writes.
_MAY_LACK = (REPOSITORY / "colab", REPOSITORY / "spaces", REPOSITORY / "docs" / "generated")


def links_of(text: str) -> list[str]:
    """Targets in the prose of a page that are neither addresses nor mail."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^()\s]+)\)", re.sub(r"`[^`]*`", "", prose))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors_of(text: str) -> set[str]:
    """The anchors that GitHub gives headings."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page):
    for target in links_of(page.read_text("utf-8")):
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        if any(file.is_relative_to(folder) for folder in _MAY_LACK):
            continue
        assert file.exists(), target
        if anchor:
            assert anchor in anchors_of(file.read_text("utf-8")), target


def test_every_page_is_in_the_site():
    docs = REPOSITORY / "docs"
    index = (docs / "index.md").read_text("utf-8")
    listed = [
        line
        for toctree in re.findall(r"^```\{toctree\}\n(.*?)^```", index, re.DOTALL | re.MULTILINE)
        for line in toctree.splitlines()
        if line and not line.startswith(":")
    ]
    assert len(listed) > 20
    pages = {str(page.relative_to(docs).with_suffix("")) for page in docs.glob("[a-z]*/*.md")}
    pages = {page for page in pages if page.startswith("api/")} | {page.stem for page in docs.glob("*.md")}
    assert {page for page in pages - {"index"} if not any(Path(page).match(line) for line in listed)} == set()
    missing = [line for line in listed if "*" not in line and not line.startswith("generated/")]
    assert [line for line in missing if not (docs / f"{line}.md").is_file()] == []


def test_what_counts_as_a_link():
    text = "[a](b.md#c) `[no](x)` ![i](p.png) [w](https://x.y)\n```\n[no](z)\n```\n## A b: *c*…\n"
    assert links_of(text) == ["b.md#c", "p.png"]
    assert anchors_of(text) == {"a-b-c"}
