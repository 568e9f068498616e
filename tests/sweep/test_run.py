"""Sweeps as a user runs them, with real trainings."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from unloc_jax.sweep.run import places_of

pytestmark = pytest.mark.slow

DESCRIPTION = """
config = "{config}"
metrics = ["recall/model/R1@0.5"]
seeds = {seeds}
[settings]
"data.dir" = "{data}"
"contrastive.steps" = 0
"contrastive.warmup_steps" = 0
"train.steps" = {steps}
"train.warmup_steps" = 1
[rows.early]
[rows.late]
"model.fusion.type" = "late"
"""


@pytest.fixture
def described(config_file, captions_dataset, tmp_path):
    def of(seeds=1, steps=2):
        file = tmp_path / "sweep.toml"
        file.write_text(
            DESCRIPTION.format(config=config_file, data=captions_dataset, seeds=seeds, steps=steps)
        )
        return ("sweep", str(file), f"--out={tmp_path / 'out'}")

    return of


def test_a_sweep_continues_and_refuses_other_settings(described, unloc, tmp_path):
    ran = unloc(*described(), "--at-once=2").ok()
    assert "2 of 2" in ran.out and "| late |" in ran.out
    notes = {file: file.read_text() for file in (tmp_path / "out").glob("*/*/sweep_run.json")}
    assert len(notes) == 2
    ran = unloc(*described(seeds=2)).ok()
    assert "3 of 4" in ran.out and "1 of 4" not in ran.out  # what has finished is not run again
    assert all(file.read_text() == note for file, note in notes.items())
    runs = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert [(run["row"], run["seed"]) for run in runs] == [
        ("early", 0),
        ("late", 0),
        ("early", 1),
        ("late", 1),
    ]
    measured = (tmp_path / "out" / "late" / "seed_1" / "evaluation" / "test" / "metrics.json").read_text()
    assert runs[-1]["metrics"]["recall/model/R1@0.5"] == json.loads(measured)["recall"]["model"]["R1@0.5"]
    table = unloc(*described(seeds=2), "--table").ok().out
    assert table.strip().startswith((tmp_path / "out" / "table.md").read_text().strip()[:40])
    assert "holds a run with settings" in unloc(*described(steps=3)).error()


def test_a_run_that_fails_does_not_stop_the_others(described, unloc, tmp_path):
    words = described()
    file = tmp_path / "sweep.toml"
    file.write_text(file.read_text().replace("[rows.early]", '[rows.early]\n"data.dir" = "/nowhere"'))
    ran = unloc(*words)
    assert "1 of 2 runs failed" in ran.error()
    assert "early, seed 0: ended with 2: unloc: error:" in ran.out and "1 of 2: late, seed 0:" in ran.out


def test_sigterm_stops_the_runs_and_the_same_command_continues(described, tmp_path):
    command = [sys.executable, "-m", "unloc_jax.cli", *described(steps=100_000)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sweep:
        log = tmp_path / "out" / "early" / "seed_0" / "log.txt"
        while not (log.exists() and "step" in log.read_text()):
            assert sweep.poll() is None
            time.sleep(0.2)
        sweep.send_signal(signal.SIGTERM)
        _, err = sweep.communicate()
    assert sweep.returncode == 75 and "0 of 2 runs have finished" in err
    assert any((tmp_path / "out" / "early" / "seed_0" / "checkpoints").iterdir())


def test_places():
    (everything,) = places_of(1)
    assert not everything[1]
    gpus = places_of(1, ("2", "5"))
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment, _ in gpus] == ["2", "5"]
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) >= 2:
        shares = [cpus for _, cpus in places_of(2)]
        assert set.union(*map(set, shares)) == os.sched_getaffinity(0) and not shares[0] & shares[1]
