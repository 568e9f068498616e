"""The map in docs/architecture.md names only files and folders that exist."""

import re
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]
_PAGE = (_REPOSITORY / "docs" / "architecture.md").read_text("utf-8")
_BASES = (_REPOSITORY, _REPOSITORY / "unloc_jax")
_FILE = re.compile(r"[\w/.-]*\w\.(?:py|md|toml|html)\b")


def _section(title: str) -> str:
    return _PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_paths_in_the_text_exist():
    named = {path for path in re.findall(r"`([\w./-]+)`", _PAGE) if "/" in path or path.endswith(".py")}
    assert len(named) > 40
    assert [path for path in sorted(named) if not any((base / path).exists() for base in _BASES)] == []


def test_rooms_hold_the_files_that_they_name():
    missing, count, folders = [], 0, {}
    folder = _REPOSITORY
    for line in re.findall(r"^    (.*)$", _section("The rooms"), re.MULTILINE):
        depth = len(line) - len(line.lstrip())
        if depth < 10:  # an entry; further lines of its text stand below the text
            entry = line.split()[0]
            parent = folders.get(depth - 2, _REPOSITORY)
            folder = folders[depth] = parent / entry if entry.endswith("/") else parent
            missing += [] if (parent / entry).exists() else [entry]
        for name in _FILE.findall(line):
            count += 1
            missing += (
                [] if any((base / name).exists() for base in (folder, folder.parent, _REPOSITORY)) else [name]
            )
    assert count > 80
    assert missing == []


def test_every_question_has_one_file():
    rows = [
        line.split("|")[1:3] for line in _section("Where is …?").splitlines() if line.startswith("| the ")
    ]
    assert len(rows) == 25
    assert len({question for question, _ in rows}) == len({answer for _, answer in rows}) == 25
    for _, answer in rows:
        assert (_REPOSITORY / answer.strip().strip("`")).is_file(), answer
