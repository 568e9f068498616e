"""Every command that a page names works: README, docs, heads of configs and benchmarks, notebooks."""

import argparse
import contextlib
import importlib
import io
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import compiling
from tests.pages import benchmarks
from tests.pages.collect import Command, commands_of, pages
from tests.pages.inputs import write_clip
from tests.pages.not_run import NOT_RUN
from tests.pages.tiny_size import Inputs, make_tiny, parse, unknown_options
from tests.tiny_runs import REPOSITORY, child_environment

COMMANDS = {page: commands_of(REPOSITORY, page) for page in pages(REPOSITORY)}
EVERY = list(dict.fromkeys(command for of_page in COMMANDS.values() for command in of_page))
# What the tiny size replaces.
REPLACED = re.compile(r"--(workdir|config\.data\.dir|config\.train\.steps)=.*|(?<=\.py):[BL]\b")


def dear(command: Command) -> tuple[str, ...] | None:
    """The identity of a costly command: it runs once, on the first of the pages that name it.

    None for other commands, which may read what their page wrote before. (A trained model is there for them in any
    case.)
    """
    words = command.words
    if words[0] != "python" and words[:2] not in (["unloc", "train"], ["unloc", "compile"]):
        return None
    variables = [f"{name}={value}" for name, value in command.variables.items()]
    return (*variables, *filter(None, (REPLACED.sub("", word) for word in words)))


ON_PAGE = {dear(c): c.page for c in reversed(EVERY)}
# A batch of 2 on the 8 devices of these pages.
ON_EIGHT = ["--config.mesh.data=2", "--config.mesh.context=4"]


def reasons(command: Command) -> list[str]:
    """Entries of NOT_RUN that apply."""
    text = shlex.join(command.words)
    return [key for key in NOT_RUN if text.startswith(key) or (key[0] in "-'" and key in command.text)]


def is_whole(command: Command) -> bool:
    """Prose may mention `unloc train`: a name, which leaves out what the command needs."""
    if command.whole:
        return True
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        return bool(parse(command.words[1:]))
    return False


class _ParsedError(BaseException):
    """A program has read its arguments: that is all."""


@contextlib.contextmanager
def arguments_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Programs end when their parser has accepted their arguments."""
    original = argparse.ArgumentParser.parse_known_args

    def parse_known_args(self, *args, **kwargs):
        original(self, *args, **kwargs)
        raise _ParsedError

    def parse_args(self, *args, **kwargs):
        _, unknown = original(self, *args, **kwargs)
        assert not unknown
        raise _ParsedError

    with monkeypatch.context() as patch, contextlib.suppress(_ParsedError):
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_args)
        yield


def as_module(words: list[str]) -> tuple[str, list[str]]:
    """`python -m a.b …` or `python a/b.py …`: the module's name and its arguments."""
    if words[1] == "-m":
        return words[2], words[3:]
    return words[1].removesuffix(".py").replace("/", "."), words[2:]


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch):
    """As where Python runs a file: the files beside it can be imported."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))


@pytest.mark.parametrize("command", EVERY, ids=lambda c: f"{c.page}: {c.text[:60]}")
def test_the_options_are_known(command, monkeypatch, capsys):
    words = command.words
    program = Path(words[0]).name
    filled_in = "{" in command.text and command.page.endswith(".ipynb")
    left_out = "…" in words or "|" in command.text or "NAME" in words or filled_in or not is_whole(command)
    if program == "unloc" and left_out:
        assert unknown_options(words[1:]) == []
    elif program == "unloc":
        parse(words[1:])
    elif words[:3] == ["python", "-m", "launch.local"]:
        parse(words[words.index("--") + 2 :])
    elif words[0] == "python" and not any(key.startswith("python ") for key in reasons(command)):
        module, arguments = as_module(words)
        assert (REPOSITORY / f"{module.replace('.', '/')}.py").is_file(), module
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        source = (REPOSITORY / f"{module.replace('.', '/')}.py").read_text()
        if "\nimport tensorflow" in source:
            pytest.importorskip("tensorflow")
        if "argparse" in source:
            with arguments_only(monkeypatch):
                importlib.import_module(module).main()
    elif program == "make":
        asked = subprocess.run(["make", "-n", *words[1:]], cwd=REPOSITORY, capture_output=True, text=True)
        assert asked.returncode == 0, asked.stderr
    elif program == "pip":
        known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for extras in re.findall(r"(?:^|/|unloc_jax|\.)\[([\w,]+)\]", " ".join(words)):
            assert set(extras.split(",")) <= known.keys()


def test_every_entry_is_of_a_command():
    used = {key for command in EVERY for key in reasons(command)}
    assert set(NOT_RUN) == used, "entries without a command"
    assert set(benchmarks.TINY) <= {as_module(c.words)[0] for c in EVERY if c.words[0] == "python"}


def test_what_is_collected(tmp_path):
    (tmp_path / "a.md").write_text(
        "`unloc train` and `python a.py\n--b`, no `word`.\n\n```\nunloc x \\\n  --y  # why\noutput\n```\n\n"
        "    $ unloc z --q [--r S [--t]]\n    found 3\n\n```python\nimport x\n```\n\n```sh\nA=1 B='2' any thing\n```\n"
    )
    found = commands_of(tmp_path, "a.md")
    assert [command.words for command in found] == [
        ["unloc", "train"],
        ["python", "a.py", "--b"],
        ["unloc", "x", "--y"],
        ["unloc", "z", "--q"],
        ["any", "thing"],
    ]
    assert [command.whole for command in found] == [False, True, True, True, True]
    source = "x = 1\n%unloc x \\\n    --y 1 \\\n    --z 2\nif x:\n    !python b.py\n"
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": [source]}]}))
    words = [command.words for command in commands_of(tmp_path, "a.ipynb")]
    assert words == [["unloc", "x", "--y", "1", "--z", "2"], ["python", "b.py"]]


@pytest.fixture(scope="module")
def inputs(tiny_videos, captions_dataset, activities_dataset, tmp_path_factory) -> Inputs:
    made = tmp_path_factory.mktemp("made")
    return Inputs(tiny_videos, captions_dataset, activities_dataset, write_clip(made / "hf"), made)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page, commands in COMMANDS.items() if commands and not page.endswith(".ipynb")]
)
def test_the_commands_of_a_page(page, inputs, tmp_path, monkeypatch, capfd):
    """At a tiny size, one after the other, in one folder. Notebooks: tests/notebooks."""
    scratch, folder = tmp_path / "scratch", tmp_path / "folder"
    scratch.mkdir()
    folder.mkdir()
    for name in ("configs", "launch"):
        (folder / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(REPOSITORY))
    done = set()
    for command in COMMANDS[page]:
        elsewhere = dear(command) is not None and ON_PAGE[dear(command)] != page
        if elsewhere or command.text in done or reasons(command) or not is_whole(command):
            continue
        done.add(command.text)
        with monkeypatch.context() as patch:
            run(command, inputs, scratch, patch)
        capfd.readouterr()


def run(command: Command, inputs: Inputs, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = command.words
    if words[0] == "unloc":
        arguments = parse(["activitynet" if "|" in word or word == "NAME" else word for word in words[1:]])
        make_tiny(arguments, inputs, scratch)
        if arguments.command == "train":  # a page may call two runs DIR
            shutil.rmtree(arguments.workdir, ignore_errors=True)
        many = "XLA_FLAGS" in command.variables or getattr(arguments, "topology", "").endswith(":8")
        if many or command.variables:  # devices are counted when a process starts
            variables = command.variables
            if "XLA_FLAGS" in variables:
                variables["XLA_FLAGS"] += f" {compiling.QUICKLY}"
            run_child(child_words(arguments) + (ON_EIGHT if many else []), variables)
        else:
            arguments.run(arguments)
    elif words[:3] == ["python", "-m", "launch.local"]:
        at = words.index("--") + 2
        arguments = parse(words[at:])
        make_tiny(arguments, inputs, scratch)
        run_child([*words[:at], *child_words(arguments)[1:], *ON_EIGHT], {})
    elif words[:2] == ["python", "-m"] and words[2].startswith("launch."):
        monkeypatch.setattr(sys, "argv", [*words[2:], *(["--dry-run"] if "--dry-run" not in words else [])])
        try:
            runpy.run_module(words[2], run_name="__main__")
        except SystemExit as ended:
            assert not ended.code
    elif words[0] == "python":
        module, rest = as_module(words)
        benchmarks.run(module, rest, inputs, scratch, monkeypatch)
    else:
        raise AssertionError(
            f"{command.page}: {command.text}: neither run nor listed in tests/pages/not_run.py"
        )


def child_words(arguments: argparse.Namespace) -> list[str]:
    """`unloc train` or `unloc compile` again, as words."""
    words = ["unloc", arguments.command, f"--config={arguments.config}"]
    for name in ("workdir", "topology"):
        words += [f"--{name}={value}"] if (value := getattr(arguments, name, None)) else []
    return words + [f"--config.{override}" for override in arguments.overrides]


def run_child(words: list[str], variables: dict[str, str]) -> None:
    program = ["-m", "unloc_jax.cli"] if words[0] == "unloc" else []
    done = subprocess.run(
        [sys.executable, *program, *words[1:]],
        env=child_environment() | variables,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
