"""The map in docs/architecture.md names only files and folders that exist, and arrows that go one way."""

import ast
import re
from collections.abc import Iterator
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


_TOPS = ("unloc_jax", "data_pipelines", "configs", "launch")
_UPWARDS = {("config/schema.py", "tasks/__init__.py")}  # see the page


def _floors() -> dict[str, int]:
    """Returns the line of every room or file of the picture, counted from the top."""
    picture = "\n".join(re.findall(r"^    .*$", _section("The arrows"), re.MULTILINE))
    lines = re.sub(r" ·\n *", " · ", picture).splitlines()
    return {room: number for number, line in enumerate(lines) for room in line.strip().split(" · ")}


def _imports(file: Path) -> Iterator[Path]:
    """Yields the files of ours that a file imports, anywhere in it, relative to the repository."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] in _TOPS:  # the last part may be a name in a module
                modules = [Path(*parts), Path(*parts[:-1])] if len(parts) > 1 else [Path(*parts)]
                candidates = [at for m in modules for at in (m.with_suffix(".py"), m / "__init__.py")]
                yield next(at for at in candidates if (_REPOSITORY / at).is_file())


def _room(path: Path, floors: dict[str, int]) -> str:
    path = path.relative_to("unloc_jax") if path.parts[0] == "unloc_jax" else path
    (room, *_) = [str(at) for at in (path, *path.parents) if str(at) in floors] or [f"{path}: in no line"]
    return room


def test_arrows_go_one_way():
    floors, wrong, count, upwards = _floors(), [], 0, set()
    files = [file for top in _TOPS for file in sorted((_REPOSITORY / top).rglob("*.py"))]
    for file in files:
        importing = file.relative_to(_REPOSITORY)
        room = _room(importing, floors)
        for imported in set(_imports(file)):
            other = _room(imported, floors)
            arrow = str(importing).removeprefix("unloc_jax/"), str(imported).removeprefix("unloc_jax/")
            count += room != other
            if arrow in _UPWARDS:
                upwards.add(arrow)
            elif room != other and floors[room] >= floors[other]:
                wrong.append(f"{importing} imports {imported}")
    assert wrong == []
    assert upwards == _UPWARDS
    assert count > 500


def test_every_question_has_one_file():
    rows = [
        line.split("|")[1:3] for line in _section("Where is …?").splitlines() if line.startswith("| the ")
    ]
    assert len(rows) == 25
    assert len({question for question, _ in rows}) == len({answer for _, answer in rows}) == 25
    for _, answer in rows:
        assert (_REPOSITORY / answer.strip().strip("`")).is_file(), answer
