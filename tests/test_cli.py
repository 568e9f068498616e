"""The command line itself: what it accepts, what it answers, and the quickstart's chain of commands."""

import json
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

import data_pipelines.build
from tests.tiny_runs import REPOSITORY, child_environment, command_of
from unloc_jax import config as config_lib
from unloc_jax.cli import _parser
from unloc_jax.errors import UserError
from unloc_jax.quickstart import run_quickstart

COMMANDS = ["data synthesize", "data build", "train", "evaluate", "predict", "quickstart"]
BUILD = ["data", "build", "--dataset=x", "--annotations=a", "--videos=v", "--out=o"]


@pytest.mark.parametrize("command", ["", "data", *COMMANDS])
def test_help(unloc, command):
    ran = unloc(*command.split(), "--help").ok()
    assert ran.out.startswith(f"usage: unloc {command}".rstrip())
    if not command:
        assert all(re.search(rf"^ +{name.split()[0]}\s+\w+", ran.out, re.M) for name in COMMANDS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["data"], "the following arguments are required: COMMAND"),
        (["predictt"], "invalid choice: 'predictt'"),
        (["train", "--workdir=w"], "required: --config"),
        (["train", "--config=c"], "required: --workdir"),
        (["evaluate"], "one of the arguments --checkpoint --zeroshot-clip is required"),
        (["evaluate", "--checkpoint=c", "--split=tset"], "invalid choice: 'tset' (choose from"),
        (["predict", "--checkpoint=c"], "nothing to look at: give --video FILE, or --features NAME=FILE"),
        (["predict", "--checkpoint=c", "--video=v", "--top-k=0"], "--top-k: must be at least 1, got 0"),
        (["predict", "--checkpoint=c", "--video=v", "--top-k=x"], "--top-k: must be a whole number, got x"),
        (
            ["predict", "--checkpoint=c", "--video=v", "--txt=a"],
            "unknown argument '--txt=a'; see `unloc predict",
        ),
        ([*BUILD, "--fps=fast"], "--fps: invalid float value: 'fast'"),
        ([*BUILD, "--overwrite"], "unknown argument '--overwrite'; see `unloc data"),
        (["train", "--config=c", "--workdir=w", "extra"], "unknown argument 'extra'"),
        (["quickstart", "--task=retrieval"], "invalid choice: 'retrieval'"),
        # Settings are for training, and some for evaluation: a checkpoint has its own.
        (
            ["predict", "--checkpoint=c", "--video=v", "--config.task=x"],
            "unknown argument '--config.task=x'; see `unloc predict",
        ),
    ],
)
def test_arguments_that_are_refused(unloc, words, message):
    assert message in unloc(*words).error()


def test_an_interruption_is_no_crash(unloc, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(data_pipelines.build, "build", interrupted)
    ran = unloc(*BUILD)
    assert ran.status == 130
    assert ran.err == "\nunloc: interrupted; the same command continues where it can\n"


@pytest.mark.slow
def test_an_interrupted_training(config_file, captions_dataset, tmp_path):
    """Ctrl-C in the middle of a step, in a real process."""
    child = subprocess.Popen(
        command_of(
            "train",
            f"--config={config_file}",
            f"--workdir={tmp_path}",
            f"--config.data.dir={captions_dataset}",
        ),
        env=child_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    said = []
    for line in child.stderr:
        said.append(line)
        if re.match(r"contrastive step +1/", line):
            child.send_signal(signal.SIGINT)
            break
    said += child.stderr.readlines()
    assert child.wait(300) == 130
    assert "Traceback" not in "".join(said)
    assert said[-1] == "unloc: interrupted; the same command continues where it can\n"


def _commands(workdir: Path, task: str, status_of=lambda words: 0) -> list[list[str]]:
    """The commands of the quickstart; none runs, only the example's annotations are written."""
    ran: list[list[str]] = []

    def run(words: list[str]) -> int:
        ran.append(words)
        if words[:2] == ["data", "synthesize"]:
            folder = Path(words[words.index("--out") + 1]) / "annotations"
            folder.mkdir(parents=True)
            video = {"sentences": ["a circle moves", "it's the square"]}
            (folder / "captions_test.json").write_text(json.dumps({"test_00001": video, "test_00000": video}))
        return status_of(words)

    run_quickstart(workdir, task, run)
    return ran


@pytest.mark.parametrize("task", ["moment_retrieval", "temporal_action_localization"])
def test_quickstart_runs_public_commands_and_shows_them(tmp_path, monkeypatch, capsys, task):
    monkeypatch.chdir(tmp_path)
    commands = _commands(Path("quickstart"), task)
    assert [" ".join(words[:2] if words[0] == "data" else words[:1]) for words in commands] == COMMANDS[:5]
    shown = [
        line.removeprefix("$ unloc ") for line in capsys.readouterr().out.splitlines() if line[:2] == "$ "
    ]
    assert [shlex.split(line) for line in shown] == commands  # can be copied into a shell as they are
    for words in commands:
        arguments, rest = _parser().parse_known_args(words)
        assert all(word.startswith("--config.") for word in rest)
        if arguments.command == "train":
            config = config_lib.load(
                str(REPOSITORY / arguments.config), [r.removeprefix("--config.") for r in rest]
            )
            assert config.task == task
            # Without the override it is the same dataset: the command can be shortened.
            assert config.data.dir == config_lib.load(str(REPOSITORY / arguments.config)).data.dir
        if arguments.command == "predict":
            assert arguments.video == Path("quickstart/raw/videos/test_00000.mp4")
            assert arguments.text == (
                ["a circle moves", "it's the square"] if task == "moment_retrieval" else []
            )


@pytest.mark.parametrize(("failing", "done"), [("synthesize", 1), ("build", 2), ("--split=test", 4)])
def test_quickstart_stops_where_a_command_fails(tmp_path, failing, done):
    ran = []

    def status_of(words):
        ran.append(words)
        return 2 if failing in words else 0

    with pytest.raises(UserError, match=r"the quickstart stopped at `unloc .*`; the reason is above"):
        _commands(tmp_path, "moment_retrieval", status_of)
    assert len(ran) == done


def _documented(text: str) -> list[list[str]]:
    """The `unloc …` commands in a page's code blocks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("unloc ")]


def test_readme_tells_what_the_quickstart_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = _commands(Path("quickstart"), "moment_retrieval")
    _, section = (REPOSITORY / "README.md").read_text().split("\n### What `make quickstart` does\n")
    documented = _documented(section)[: len(commands)]
    for shown, real in zip(documented, commands, strict=True):
        without_texts = [word for word in shown if not word.startswith("--text=")]
        assert set(without_texts) <= set(real)
        left_out = [word for word in real if word not in shown and not word.startswith("--text=")]
        assert left_out in ([], ["--config.data.dir=quickstart/activitynet_captions"])  # the config's default
