"""`benchmarks/gpu.py` without a GPU: its rows run at tiny sizes, tables come from its file, what fails is noted."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def _run(*arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)}
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def _results(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "gpu.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_traced_step_and_its_table(tmp_path):
    only = "--only=charades_sta.py:tiny batch_size=2 model.remat=full model.attention=xla"
    _run("--out", str(tmp_path), "--tiny", "--limit-s=500", "--total-s=500", only)
    step, traced, _untraced = _results(tmp_path)
    assert step["flops"] > 0 and len(step["times"]) >= 3 and step["loss"] > 0 and step["compile_s"] > 0
    trace = traced["trace"]
    assert sum(trace["kinds"].values()) == pytest.approx(1) and min(trace["kinds"].values()) > 0
    assert trace["placed"] > 0.5 and len(list(tmp_path.glob("*.xplane.pb"))) == 1
    assert 0 < trace["busy_s"] <= trace["seconds"]
    table = _run("--table", str(tmp_path))
    rate = f"| {step['videos'] / step['seconds']:.1f} |"
    assert rate in table and f"| {100 * trace['kinds']['attention']:.1f} |" in table


def test_a_row_that_takes_too_long_is_noted_and_the_next_one_begins(tmp_path, scripts):
    from gpu import measure

    measure([{"kind": "machine"}, {"kind": "check"}], tmp_path, 0.01, time.monotonic() + 60)
    assert [one["row"] for one in _results(tmp_path)] == ["machine", "check"]
    assert all("not done after" in one["error"] for one in _results(tmp_path))


def test_a_row_that_fails_is_noted_with_its_reason(tmp_path, scripts):
    from gpu import measure

    row = {"kind": "step", "config": "configs/charades_sta.py:tiny", "settings": ["model.remat=some"]}
    measure([row], tmp_path, 300, time.monotonic() + 300)
    (result,) = _results(tmp_path)
    assert result["error"].startswith("UserError") and "model.remat" in result["error"]
    assert "Traceback" in (tmp_path / "gpu.log").read_text()


def test_nothing_begins_that_the_total_would_cut_short(tmp_path, scripts):
    from gpu import RESULTS, measure

    measure([{"kind": "machine"}], tmp_path, 60, time.monotonic() + 1)
    assert not (tmp_path / RESULTS).exists()


def test_shares_of_the_peak(scripts):
    from gpu_table import tables

    machine = {"row": "machine", "device": "NVIDIA H200", "versions": {"jax": "0.11.2"}, "date": "2026-11-28",
               "peak_flops": 1000e12, "product_flops": 800e12, "copy_bytes_per_s": 4e12}  # fmt: skip
    step = {"row": "charades_sta.py:L batch_size=8 model.remat=full model.attention=xla model.frame_chunk=512",
            "videos": 8, "seconds": 2.0, "flops": 800e12, "attention": "xla", "remat": "full",
            "peak_bytes": 3 * 2**30, "compile_s": 31.4}  # fmt: skip
    failed = {"row": "coin.py:L", "error": "RESOURCE_EXHAUSTED"}
    text = tables(map(json.dumps, (machine, step, failed)))
    expected = "| charades_sta.py:L `model.frame_chunk=512` | 8 | xla | full | 2.000 | 4.0 | 40.0 | 50.0 | 3.0 | 31 |"
    assert expected in text and "- coin.py:L: RESOURCE_EXHAUSTED" in text and "4.00 TB/s" in text


@pytest.mark.parametrize(
    "kernel, instruction, scope, expected",
    [
        ("nvjet_hsh_256x128_64x4", "custom-call.3", "jit(step)/layers/mlp_in/dot_general", "products"),
        ("gemm_fusion_dot_7", "gemm_fusion_dot.7", "jit(step)/layers/attention/out/dot_general", "products"),
        ("nvjet_hsh_64x64", "custom-call.4", "jit(step)/layers/attention/mhqd,mkhd/dot_general", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_bprop", "", "", "attention"),
        ("MemcpyD2D", "", "", "copies"),
        ("input_transpose_fusion", "input_transpose_fusion", "jit(step)/layers/mlp_in/transpose", "copies"),
        ("loop_convert_fusion_2", "loop_convert_fusion.2", "jit(step)/mul", "elementwise and reductions"),
    ],
)
def test_kinds_of_kernels(scripts, kernel, instruction, scope, expected):
    from gpu_trace import KINDS, _kind

    assert _kind(kernel, instruction, scope) == expected
    assert expected in KINDS


def test_time_with_a_kernel_running_counts_once(scripts):
    from gpu_trace import _union

    assert _union([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4
