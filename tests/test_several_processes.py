"""Real processes on this machine that run as one: the numbers are those of one process."""

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.build import build
from tests.tiny_runs import FPS, REPOSITORY, SIZE, child_environment, metric_lines, without_clock
from unloc_jax.cli import main
from unloc_jax.errors import EXIT_TRY_AGAIN, EXIT_USER_ERROR

pytestmark = pytest.mark.slow

TIMEOUT_S = 600  # a loaded machine is slow to import and compile


def start_together(
    count: int, *words: object, of_last: Sequence[object] = (), **environment: str
) -> list[subprocess.Popen]:
    """The same `unloc …` in `count` processes, of which the last may get more words; see tests/child.py."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    place = [f"--coordinator=localhost:{port}", f"--num-processes={count}"] if count > 1 else []
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.child", *map(str, words), *place),
                *([f"--process-id={i}"] if place else []),
                *(map(str, of_last) if i == count - 1 else ()),
            ],
            env=child_environment() | environment,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]


def ended(started: list[subprocess.Popen], status: int = 0) -> list[subprocess.CompletedProcess]:
    """They all end with this status."""
    done = []
    try:
        for process in started:
            out, err = process.communicate(timeout=TIMEOUT_S)
            done.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    finally:
        for process in started:
            process.kill()
    assert {process.returncode for process in done} == {status}, [process.stderr[-2000:] for process in done]
    return done


def run_together(count: int, *words: object) -> list[subprocess.CompletedProcess]:
    """The same `unloc …` in `count` processes, which do all their meeting at the start."""
    done = ended(start_together(count, *words))
    assert all("met later: []\n" in process.stderr for process in done), [process.stderr for process in done]
    return done


@pytest.fixture(scope="module")
def evaluated_by_one(trained, captions_dataset, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("evaluated") / "1"
    assert (
        main(["evaluate", f"--checkpoint={trained}", f"--data-dir={captions_dataset}", f"--out={out}"]) == 0
    )
    return out


@pytest.mark.parametrize("count", [2, 4])
def test_evaluation_of_several_is_that_of_one(trained, captions_dataset, evaluated_by_one, tmp_path, count):
    """3 videos in batches of 4: the last one's share is not full, or empty."""
    words = ["evaluate", f"--checkpoint={trained}", f"--data-dir={captions_dataset}", f"--out={tmp_path}"]
    first, *others = run_together(count, *words)
    assert "R1@0.5" in first.stdout  # gloo prints a line too
    assert not any("R1@0.5" in process.stdout for process in others)
    one, several = (json.loads((p / "metrics.json").read_text()) for p in (evaluated_by_one, tmp_path))
    assert set(one["recall"]) == set(several["recall"]) and one["queries"] == several["queries"]
    for row, values in one["recall"].items():
        assert several["recall"][row] == pytest.approx(values, abs=0.01)
    lines = [
        [json.loads(line) for line in (p / "predictions.jsonl").read_text().splitlines()]
        for p in (evaluated_by_one, tmp_path)
    ]
    assert len(lines[0]) == len(lines[1])
    for a, b in zip(*lines):
        assert (a["vid"], a["query"]) == (b["vid"], b["query"])
        np.testing.assert_allclose(a["pred_relevant_windows"], b["pred_relevant_windows"], atol=2e-3)


@pytest.mark.parametrize("count", [1, 2])
def test_sigterm_stops_an_evaluation(trained, captions_dataset, tmp_path, count):
    """One of them gets it, and all stop."""
    out = tmp_path / "out"
    words = ["evaluate", f"--checkpoint={trained}", f"--data-dir={captions_dataset}", f"--out={out}"]
    started = start_together(count, *words, ENDLESS="1")
    for line in started[-1].stderr:
        if line.endswith("evaluating\n"):  # perhaps after a progress bar
            break
    started[-1].send_signal(signal.SIGTERM)
    for process in ended(started, EXIT_TRY_AGAIN):
        assert "unloc: stopped by SIGTERM; the same command starts again\n" in process.stderr
        assert "Traceback" not in process.stderr
    assert not (out / "metrics.json").exists()


def test_an_evaluation_of_processes_that_disagree(trained, captions_dataset, tiny_videos, tmp_path):
    """They ask for different splits, or have different videos."""
    fewer = tmp_path / "fewer"
    files = [tiny_videos / "annotations" / f"captions_{split}.json" for split in ("train", "val")]
    build("activitynet_captions", files, tiny_videos / "videos", fewer, fps=FPS, short_side=SIZE, workers=1)
    words = [
        "evaluate",
        f"--checkpoint={trained}",
        f"--data-dir={captions_dataset}",
        f"--out={tmp_path / 'out'}",
    ]
    for of_last, message in {
        "--split=validation": "--split is test in process 0, validation in process 1",
        f"--data-dir={fewer}": "the test split of moment_retrieval is 3 videos (",
    }.items():
        for process in ended(start_together(2, *words, of_last=[of_last]), EXIT_USER_ERROR):
            (line,) = [line for line in process.stderr.splitlines() if line.startswith("unloc: ")]
            assert line.startswith(f"unloc: error: the processes of this run do not agree: {message}")
            assert "Traceback" not in process.stderr
        assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def trained_by_one(config_file, captions_dataset, tmp_path_factory) -> tuple[list[str], Path]:
    """(the command except for its workdir, the workdir)"""
    workdir = tmp_path_factory.mktemp("trained") / "1"
    words = ["train", f"--config={config_file}", f"--config.data.dir={captions_dataset}"]
    assert main([*words, f"--workdir={workdir}"]) == 0
    return words, workdir


@pytest.mark.parametrize(
    ("count", "mesh"), [(2, []), (4, ["--config.mesh.context=2", "--config.mesh.strategy=fsdp"])]
)
def test_training_of_several_is_that_of_one(trained_by_one, tmp_path, unloc, count, mesh):
    """Two with half of the videos each. Four, of which two have the same half: of it each has half of the frames and
    texts; and each has a fourth of the parameters."""
    words, of_one = trained_by_one
    run_together(count, *words, f"--workdir={tmp_path}", *mesh)
    one, several = (metric_lines(workdir) for workdir in (of_one, tmp_path))
    assert [line["step"] for line in one] == [line["step"] for line in several]
    for a, b in zip(one, several):
        for key in without_clock(a):
            assert b[key] == pytest.approx(a[key], rel=2e-4, abs=1e-5), (key, a, b)
    # And one continues from what several wrote.
    shutil.rmtree(tmp_path / "checkpoints" / "10")
    unloc(*words, f"--workdir={tmp_path}").ok()
    again = metric_lines(tmp_path)
    for key in without_clock(one[-1]):
        assert again[-1][key] == pytest.approx(one[-1][key], rel=2e-4, abs=1e-5)


def test_half_of_an_address_is_refused(trained, unloc):
    error = unloc("evaluate", f"--checkpoint={trained}", "--num-processes=2").error()
    assert "--coordinator, --num-processes and --process-id belong together" in error
