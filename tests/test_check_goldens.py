"""The command that compares with the reference: it passes on right numbers, and fails on wrong ones."""

import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tests import golden_checks
from tests.check_goldens import main
from tests.golden_checks.result import Result

REPOSITORY = Path(__file__).parents[1]
GOLDENS = REPOSITORY / "tests" / "goldens" / "pure"  # a part of
ALL = REPOSITORY.parent / "shared" / "goldens"  # which is not always there
KINDS = ("anet_ap", "dedup", "labels", "lr", "metrics", "nms", "postprocess")

needs_all = pytest.mark.skipif(not ALL.is_dir(), reason="no ../shared/goldens beside the repository")


def write(folder: Path, name: str, arrays: dict, meta: dict) -> None:
    np.savez(folder / f"{name}.npz", **arrays)
    (folder / f"{name}.json").write_text(json.dumps(meta))


def schedule(folder: Path, rates, name: str = "pure_lr", **arguments) -> None:
    """Warm-up over 4 steps to 0.2, at the steps 0, 1, 2, 6."""
    arrays = {"warm/in/steps": np.array([0, 1, 2, 6]), "warm/out/lr": np.array(rates, np.float32)}
    arguments = {
        "base_learning_rate": 0.2,
        "factors": "constant * linear_warmup",
        "warmup_steps": 4,
    } | arguments
    write(folder, name, arrays, {"warm": arguments})


RATES = (0.0, 0.05, 0.1, 0.2)


def run(capsys, folder: Path, *words: str) -> tuple[int, dict[str, str]]:
    """Exit status, and the report's lines by golden."""
    status = main([str(folder), *words])
    return status, {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}


def test_right_numbers_pass(tmp_path, capsys):
    schedule(tmp_path, RATES)
    status, lines = run(capsys, tmp_path)
    assert status == 0
    assert lines["pure_lr"].split()[2:5] == ["-", "-", "PASS"]
    assert float(lines["pure_lr"].split()[1]) < 1e-6
    assert lines["1"] == "1 of 1 goldens pass"


@pytest.mark.parametrize("wrong", [(0.0, 0.05, 0.1, 0.2001), (0.0, 0.05, 0.1, np.nan), RATES[:3]])
def test_wrong_numbers_fail(tmp_path, capsys, wrong):
    schedule(tmp_path, wrong)
    status, lines = run(capsys, tmp_path)
    assert status == 1
    assert "FAIL  0 of 1 cases; warm: " in lines["pure_lr"]
    assert lines["0"] == "0 of 1 goldens pass"


def test_what_cannot_be_checked_fails_with_its_reason_and_the_others_go_on(tmp_path, capsys):
    schedule(tmp_path, RATES)
    schedule(tmp_path, RATES, "pure_lr_cooldown", cooldown_steps=3)
    schedule(tmp_path, RATES, "pure_lr_polynomial", factors="constant * polynomial")
    schedule(tmp_path, RATES, "pure_lt")
    write(tmp_path, "pure_lr_empty", {}, {})
    schedule(tmp_path, RATES, "pure_lr_alone")
    (tmp_path / "pure_lr_alone.json").unlink()
    (tmp_path / "pure_lr_broken.npz").write_bytes(b"no archive")
    write(tmp_path, "pure_dedup", {"a/out/other": np.zeros(2)}, {"a": {}})
    status, lines = run(capsys, tmp_path)
    assert status == 1
    reasons = {
        "pure_lr": "PASS",
        "pure_lr_cooldown": "the check does not know the argument cooldown_steps = 3",
        "pure_lr_polynomial": "the product has no such schedule: constant * polynomial",
        "pure_lt": "no check of ours is for pure_lt; known are pure_labels",
        "pure_lr_empty": "there is no case in it",
        "pure_lr_alone": "FileNotFoundError",
        "pure_lr_broken": "FAIL",
        "pure_dedup": "KeyError",
    }
    for name, reason in reasons.items():
        assert reason in lines[name], lines[name]
        assert ("PASS" in lines[name]) == (name == "pure_lr")
    assert "1 of 8 goldens pass" in lines["1"]


def test_an_output_that_nothing_looks_at_fails(tmp_path, capsys):
    arrays = {"a/in/steps": np.arange(2), "a/out/lr": np.full(2, 0.5), "a/out/momentum": np.zeros(2)}
    write(tmp_path, "pure_lr", arrays, {"a": {"base_learning_rate": 0.5, "factors": "constant"}})
    status, lines = run(capsys, tmp_path)
    assert status == 1 and "the check does not know the output momentum" in lines["pure_lr"]


def test_nothing_matches(tmp_path, capsys):
    schedule(tmp_path, RATES)
    status = main([str(tmp_path), "--pattern", "mr_*"])
    assert status == 1 and "no golden in" in capsys.readouterr().out
    assert run(capsys, tmp_path, "--pattern", "pure_*")[0] == 0


def test_a_golden_of_the_model_goes_to_its_own_check(tmp_path, capsys, monkeypatch):
    def check(name, arrays, meta):
        return Result(name, float(arrays["out/logits"][0]), 2e-7, 3e-8, meta["task"] == "mr", "a note")

    monkeypatch.setattr(golden_checks, "model", types.SimpleNamespace(check=check), raising=False)
    for name, task in (("mr_simple", "mr"), ("tal_simple", "tal")):
        write(tmp_path, name, {"out/logits": np.array([1e-6])}, {"task": task})
    status, lines = run(capsys, tmp_path)
    assert status == 1
    assert lines["mr_simple"].split() == ["mr_simple", "1.0e-06", "2.0e-07", "3.0e-08", "PASS", "a", "note"]
    assert lines["tal_simple"].split()[4] == "FAIL"


@pytest.mark.slow
@pytest.mark.parametrize("folder", [GOLDENS, pytest.param(ALL, marks=needs_all)], ids=["part", "all"])
def test_the_references_functions_equal_ours(folder):
    command = [sys.executable, "-m", "tests.check_goldens", str(folder), "--pattern", "pure_*"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in KINDS:
        assert any(
            line.startswith(f"pure_{kind} ") and "PASS" in line for line in done.stdout.splitlines()
        ), kind


@pytest.mark.parametrize("kind", KINDS)
def test_an_altered_number_of_the_reference_fails(tmp_path, capsys, kind):
    """In the file with one case, so that it is quick; what comes out of the metrics is in the json."""
    with np.load(GOLDENS / f"pure_{kind}.npz") as file:
        arrays = dict(file)
    meta = json.loads((GOLDENS / f"pure_{kind}.json").read_text())
    case = next(
        name for name in meta if any(key.startswith(f"{name}/out/") for key in arrays) or kind == "anet_ap"
    )
    if kind == "nms":
        case = "agnostic_cfg1_N60"
    arrays = {key: value for key, value in arrays.items() if key.startswith(f"{case}/")}
    meta = {case: meta[case]}
    write(tmp_path, f"pure_{kind}", arrays, meta)
    status, lines = run(capsys, tmp_path)
    assert status == 0, lines

    if kind == "anet_ap":
        meta[case]["metrics"]["eval_detection/mAP@0.50IOU"] += 1e-3
    else:
        key = next(key for key in arrays if "/out/" in key)
        arrays[key] = arrays[key] + np.eye(1, arrays[key].size, 3).reshape(arrays[key].shape).astype(
            arrays[key].dtype
        )
    write(tmp_path, f"pure_{kind}", arrays, meta)
    status, lines = run(capsys, tmp_path)
    assert status == 1 and "FAIL" in lines[f"pure_{kind}"]
