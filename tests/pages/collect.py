"""The commands that pages name: in blocks, in prose between backquotes, in heads of Python files, in notebooks."""

import ast
import dataclasses
import itertools
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

_PROGRAM = re.compile(
    r"(?:\w+=\S*\s+)*(?:\$ )?(?:\w+=\$\()?((?:\S*/)?(?:python3?|make|pip|unloc)|tfds|gcloud|docker|export|cp|sudo)\s"
)
_SHELL = ("sh", "bash", "console")
_OPTIONAL = re.compile(r"\s?\[(?:--|[A-Z])[^\[\]]*\]")
_VARIABLE = re.compile(r"\w+=")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of a page.

    Attributes:
      page: path of the file, relative to the repository.
      text: as it stands there, on one line.
      whole: False if it is a few words between backquotes, which may leave out what a command needs.
    """

    page: str
    text: str
    whole: bool

    @property
    def words(self) -> list[str]:
        """The words that a shell sees, without optional ones ([--out FILE]), `$ ` and variables before it."""
        text = re.sub(r"^\w+=\$\((.*)\)$", r"\1", self.text.removeprefix("$ "))
        while (shorter := _OPTIONAL.sub("", text)) != text:
            text = shorter
        words = shlex.split(text, comments=True)
        return words[next(i for i, word in enumerate(words) if not _VARIABLE.match(word)) :]

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables set before it, for it alone."""
        before = itertools.takewhile(_VARIABLE.match, self.text.split())
        return dict(word.split("=", 1) for word in before if "$" not in word)


def pages(repository: Path) -> list[str]:
    """All pages that may name commands, relative to the repository."""
    patterns = (
        "*.md",
        "docs/*.md",
        "data_pipelines/*.md",
        "configs/*.py",
        "benchmarks/*.py",
        "colab/*.ipynb",
    )
    files = {path.relative_to(repository) for pattern in patterns for path in repository.glob(pattern)}
    return sorted(str(path) for path in files if path.parts[0][0] != "." and path.name != "CHANGELOG.md")


def commands_of(repository: Path, page: str) -> list[Command]:
    """The commands of one page, in its order."""
    text = (repository / page).read_text("utf-8")
    read = {".md": _of_markdown, ".py": _of_head, ".ipynb": _of_notebook}[Path(page).suffix]
    return [Command(page, " ".join(text.split()), whole) for text, whole in read(text)]


def _of_markdown(text: str) -> Iterator[tuple[str, bool]]:
    """Lines of fenced blocks; of indented ones, which hold output as well, and of prose, what begins like a command."""
    prose: list[str] = []
    for part in re.split(r"^(```.*?^```[^\S\n]*$)", text, flags=re.DOTALL | re.MULTILINE):
        if part.startswith("```"):
            yield from _of_prose(prose)
            label, _, block = part[3:-3].partition("\n")
            if label.strip() in ("", *_SHELL):
                yield from _of_block(block, everything=bool(label.strip()))
            continue
        for lines in re.split(r"((?:^ {4}.*\n|^\n)+)", part, flags=re.MULTILINE):
            if re.match(r"\n* {4}", lines):
                yield from _of_prose(prose)
                yield from _of_block(re.sub(r"^ {4}", "", lines, flags=re.MULTILINE), everything=False)
            else:
                prose.append(lines)
    yield from _of_prose(prose)


def _of_prose(prose: list[str]) -> Iterator[tuple[str, bool]]:
    """Of what was gathered, which is then forgotten."""
    for span in re.findall(r"(?<!`)`([^`]+)`", "\n".join(prose)):
        if _PROGRAM.match(span):
            yield span, not re.match(r"(\w+=\S+ )*unloc\s", span)
    prose.clear()


def _of_block(block: str, *, everything: bool) -> Iterator[tuple[str, bool]]:
    """Logical lines: a backslash or an open quotation continues one. Where some begin with $, the others are output."""
    lines = iter(block.split("\n"))
    only = "$ " if re.search(r"^\$ ", block, re.MULTILINE) else ""
    for line in lines:
        while line.endswith("\\") or _is_open(line):
            more = next(lines, None)
            if more is None:
                break
            line = line.removesuffix("\\") + "\n" + more
        wanted = line.startswith(only) and not line.startswith("#") and line.strip()
        if wanted and (everything or _PROGRAM.match(line)):
            yield line, True


def _is_open(line: str) -> bool:
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return bool(_PROGRAM.match(line))
    return False


def _of_head(text: str) -> Iterator[tuple[str, bool]]:
    head = ast.get_docstring(ast.parse(text)) or ""
    blocks = "\n".join(line for line in head.split("\n") if not re.match(r"[A-Z]", line))
    yield from _of_block(blocks, everything=False)
    yield from _of_prose([head])


def _of_notebook(text: str) -> Iterator[tuple[str, bool]]:
    """Cells of Markdown, and lines that a notebook gives to the shell."""
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield from _of_markdown(source)
        elif source.startswith(("%%bash", "%%sh")):
            yield from _of_block(source.partition("\n")[2], everything=True)
        else:
            shell = re.findall(r"^\s*[!%]((?:.*\\\n)*.*)", source, re.MULTILINE)
            yield from _of_block("\n".join(shell), everything=False)
