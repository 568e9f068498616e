"""`~` is the home folder and an unfilled `$NAME` is refused: in every option, every config key that is a path."""

import argparse
import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch import commands as launch_commands
from tests.tiny_runs import REPOSITORY
from unloc_jax.cli import _parser
from unloc_jax.config import Config, from_json, from_mapping, load, to_json
from unloc_jax.config.paths import PATH_KEYS
from unloc_jax.errors import UserError
from unloc_jax.paths import ArgumentParser, path_of

# Options that take a text of some other kind; every other one must be a path.
TEXTS = {
    "--task", "--text", "--prompt", "--dataset", "--subset", "--variant", "--background", "--coordinator",
    "--topology", "--features-axis", "--beam-pipeline-options", "--host", "--gpus", "--tiou", "--protocol",
    "--levels", "--challenge", "--audio", "--audio-track", "--weights", "--top", "names",
}  # fmt: skip
TEXT_KEYS = {
    "checkpoint.best_metric", "wandb.project", "evaluation.tiou", "loss.boundaries", "data.prompts",
    "data.mediasequence.video_id", "data.mediasequence.sound", "data.mediasequence.features",
    *(f"data.mediasequence.{name}" for name in (
        "frames", "num_frames", "start_index", "end_index", "start_timestamp", "end_timestamp", "texts", "class_index"
    )),
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _parsers(child)


def _options() -> list[tuple[argparse.ArgumentParser, argparse.Action]]:
    launcher = launch_commands.parser_of("slurm", ["submit"])
    return [
        (parser, action)
        for whole in (_parser(), launcher)
        for parser in _parsers(whole)
        for action in parser._actions
        if action.nargs != 0 and not action.choices and not isinstance(action, argparse._SubParsersAction)
    ]


def test_every_option_that_takes_a_text_is_a_path_or_listed_here(home):
    paths = 0
    for parser, action in _options():
        try:
            value = parser._get_value(action, "~/x")
        except argparse.ArgumentError:
            continue  # a number
        name = (action.option_strings or [action.dest])[0]
        if name in TEXTS and str(value) == "~/x":
            continue
        assert str(value) == f"{home}/x", f"{parser.prog} {name}: {value}"
        paths += 1
        with pytest.raises(UserError, match=r"\$SCRATCH/x: the shell has not filled in \$SCRATCH"):
            parser._get_value(action, "$SCRATCH/x")
    assert paths > 40


def test_no_parser_but_ours():
    """Another one would not know what `~` means."""
    for folder in ("unloc_jax", "data_pipelines", "launch", "benchmarks"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            if file.name not in ("paths.py",) and not file.match("launch/local.py"):
                assert not re.search(r"argparse\.ArgumentParser\(", file.read_text("utf-8")), file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~", "{home}"),
        ("~/a b", "{home}/a b"),
        ("hf-clip:~/clip", "hf-clip:{home}/clip"),
        ("clip=~/features:key", "clip={home}/features:key"),
        ("~/config.py:B", "{home}/config.py:B"),
        ("a/~/b", "a/~/b"),
        ("./~", "./~"),
        ("~draft.mp4", "~draft.mp4"),
        ("gs://bucket/x", "gs://bucket/x"),
        ("cost$5.mp4", "cost$5.mp4"),
        ("a$", "a$"),
    ],
)
def test_a_home_folder_is_where_a_shell_sees_one(home, text, expected):
    assert path_of(text) == expected.format(home=home)


def test_a_file_that_is_there_may_be_called_anything():
    Path("big$money.mp4").touch()
    for text in ("{}", "clip={}", "clip={}:key", "hf-clip:{}", "{}:B"):
        assert path_of(text.format("big$money.mp4")) == text.format("big$money.mp4")
    with pytest.raises(UserError, match=r"\$\{USER\}/x: the shell has not filled in \$\{USER\}"):
        path_of("/data/${USER}/x")
    with pytest.raises(UserError, match="there is no user nobody-of-this-name"):
        path_of("~nobody-of-this-name/x")


def test_a_parser_says_it_in_one_line(capsys):
    parser = ArgumentParser(prog="unloc x")
    parser.add_argument("--out", type=Path)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--out=$NOWHERE/x"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("unloc x: error: $NOWHERE/x: the shell has not filled in $NOWHERE")


def test_the_command_writes_to_the_home_folder(unloc, home):
    numbers = ("--num-train=1", "--num-val=1", "--num-test=1", "--workers=1")
    unloc("data", "synthesize", "--out=~/t/raw", *numbers).ok()
    assert (home / "t" / "raw" / "videos").is_dir() and not Path("~").exists()
    assert "$NOWHERE" in unloc("data", "synthesize", "--out=$NOWHERE/raw", *numbers).error()


def _texts(schema: type, prefix: str = "") -> Iterator[str]:
    """The keys of all settings that are or hold free text; entries of `tasks` and modalities are groups like others."""
    for name, hint in typing.get_type_hints(schema).items():
        if name == "tasks":
            continue
        for part in typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,):
            arguments = typing.get_args(part)
            if dataclasses.is_dataclass(part):
                yield from _texts(part, f"{prefix}{name}.")
            elif arguments and dataclasses.is_dataclass(arguments[-1]):
                yield from _texts(arguments[-1], f"{prefix}{name}.")
            elif part is str or str in (arguments[-1:] if typing.get_origin(part) is dict else arguments):
                yield prefix + name


def test_every_setting_that_is_a_text_is_a_choice_a_path_or_listed_here():
    keys = set(_texts(Config)) - {"task"}
    assert keys - TEXT_KEYS == set(PATH_KEYS)


def _nested(key: str, value: object) -> dict:
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _get(config, key: str):
    for name in key.split("."):
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config


@pytest.mark.parametrize("key", PATH_KEYS)
def test_a_setting_that_is_a_path(key, home):
    config = from_mapping(_nested(key, "~/x"))
    assert _get(config, key) == f"{home}/x"
    assert from_mapping(json.loads(json.dumps(dataclasses.asdict(config)))) == config
    file = Path("c.py")
    file.write_text("import ml_collections\ndef get_config():\n  return ml_collections.ConfigDict()\n")
    assert _get(load("c.py", [f"{key}=~/x"]), key) == f"{home}/x"
    with pytest.raises(UserError, match=rf"config\.{key} = \$SCRATCH/x: the shell has not filled in"):
        load("c.py", [f"{key}=$SCRATCH/x"])
    if key.startswith("data."):
        tasks = {"a": {"task": "moment_retrieval", **_nested(key, "~/y")}, "b": {}}
        several = from_mapping({"tasks": tasks, **_nested(key, "~/x")})
        assert [_get(several.tasks[name], key) for name in "ab"] == [f"{home}/y", f"{home}/x"]


def test_a_checkpoint_is_read_where_its_data_are_not():
    """Nobody could change what it remembers."""
    assert from_json(to_json(from_mapping({"data": {"dir": "/a$b/c"}}))).data.dir == "/a$b/c"


def test_a_clip_to_begin_with(home):
    assert from_mapping({"init_from": "hf-clip:~/clip"}).init_from == f"hf-clip:{home}/clip"


def test_a_config_file_in_the_home_folder(home):
    (home / "c.py").write_text("def get_config(size):\n  return {'seed': int(size)}\n")
    assert load("~/c.py:7").seed == 7
