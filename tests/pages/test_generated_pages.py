"""The pages that the site makes from the code: every command, option and setting is there."""

import argparse
import dataclasses
import importlib
import re
import sys
from pathlib import Path

import pytest

from tests.tiny_runs import REPOSITORY
from unloc_jax.cli import _parser
from unloc_jax.config import Config
from unloc_jax.config.schema import ModelConfig, StageConfig, TaskConfig

_FIRST_STAGE = next(name for name, hint in Config.__annotations__.items() if hint is StageConfig)


@pytest.fixture
def made(monkeypatch):
    """Imports a module of docs/_ext."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "docs" / "_ext"))
    yield importlib.import_module
    for name in [Path(file).stem for file in (REPOSITORY / "docs" / "_ext").glob("*.py")]:
        sys.modules.pop(name, None)


def sections_of(page: str) -> dict[str, str]:
    return {part.partition("\n")[0]: part for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:]}


def _options(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """The options of all commands by name, found without the page's code."""
    found: dict[str, list[str]] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found |= _options(below)
    return found or {parser.prog: [option for a in parser._actions for option in a.option_strings]}


def test_commands(made):
    sections = sections_of(made("commands_page").commands_page(_parser()))
    options = _options(_parser())
    assert sections.keys() == options.keys() and len(options) > 12
    for command, of_command in options.items():
        rows = re.findall(r"^\| `([^`]+)` \|", sections[command], re.MULTILINE)
        named = {option for row in rows for option in row.split(", ") if option.startswith("-")}
        assert named == set(of_command) - {"-h", "--help"}, command
    assert "(--checkpoint DIR | --zeroshot-clip DIR)" in sections["unloc evaluate"]
    assert "`WORKERS` processes (default: one per CPU)" in sections["unloc data build"]
    assert "`SEED` (default 0)" in sections["unloc data synthesize"]
    assert "[pretraining](../pretraining.md)" in sections["unloc data synthesize"]


def test_settings(made):
    sections = sections_of(made("settings_page").settings_page(Config))
    groups = {"config": Config, "config.model": ModelConfig, "config.tasks.NAME": TaskConfig}
    for key, group in groups.items():
        rows = dict(re.findall(r"^\| `(\w+)` \| (.*)$", sections[key], re.MULTILINE))
        below = {field.name for field in dataclasses.fields(group) if f"{key}.{field.name}" in sections}
        assert rows.keys() == {field.name for field in dataclasses.fields(group)} - below
    assert "| `steps` | int | `10000` |" in sections["config.train"]
    assert "| `steps` | int | `0` |" in sections[f"config.{_FIRST_STAGE}"]
    assert "as `config.data`" in sections["config.tasks.NAME"]
    assert "`token` or `mean` | `'token'` | Represents a frame" in sections["config.model.image"]
    assert "float < 1".replace("<", "\\<") in sections["config.optimizer"]
    assert "| `num_frames` | int ≥ 2 | `128` | T, frames that the model sees. |" in sections["config.data"]


def test_docstrings_are_read_as_they_are_meant(made):
    lines = [
        "Returns `a@b` of c@d.",
        "",
        "Returns:",
        '  "x", …  float: one.',
        "    More.",
        '  "y"  int',
        "",
        "E:",
        "  |z|",
    ]
    made("docstrings")._change(None, "function", "f", None, None, lines)
    assert lines[0] == "Returns `a@b` of c\\@d."
    assert lines[3:6] == ['  * "x", … – float: one.', "    More.", '  * "y" – int']
    lines = ["Yields:", "  {name: value}", "  more"]
    made("docstrings")._change(None, "function", "f", None, None, lines)
    assert lines == ["Yields:", "  : {name: value}", "  more"]
