import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tests.tiny import SOUND, random_batch, tiny_config
from tests.tiny_runs import run_child
from unloc_jax.aot.collectives import collectives
from unloc_jax.aot.executed_flops import product_flops
from unloc_jax.aot.hlo import Program, num_bytes
from unloc_jax.aot.largest_batch import largest
from unloc_jax.aot.memory import Memory, memory_of_dump
from unloc_jax.aot.num_classes import known_classes, num_classes
from unloc_jax.aot.step import abstract_batch, compile_step
from unloc_jax.aot.topology import devices_of
from unloc_jax.config import from_mapping, load
from unloc_jax.errors import UserError

REPOSITORY = Path(__file__).parents[2]

# What the TPU compiler writes, shortened: a loop of 12 turns found by its condition, one collective that is spread
# over two fusions of the same channel, and groups as parts of a mesh.
TPU = """HloModule jit_step, is_scheduled=true

%turns (p.1: (s32[], f32[8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  %p.1 = (s32[]{:T(128)}, f32[8]{0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%a, %b)
}

%piece.1 (p.2: bf16[8,3]) -> bf16[32,3] {
  %p.2 = bf16[8,3]{1,0} parameter(0)
  ROOT %all-gather.1 = bf16[32,3]{1,0:T(8,128)(2,1)} all-gather(%p.2), channel_id=7, replica_groups=mesh['a'=4,'b'=2] {'a'}, dimensions={0}
}

%piece.2 (p.2: bf16[8,3]) -> bf16[32,3] {
  %p.2 = bf16[8,3]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[32,3]{1,0:T(8,128)(2,1)} all-gather(%p.2), channel_id=7, replica_groups=mesh['a'=4,'b'=2] {'a'}, dimensions={0}
}

%body (p.3: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p.3 = (s32[]{:T(128)}, f32[8]{0}) parameter(0)
  %work = f32[8]{0} fusion(%p.3), kind=kLoop, calls=%piece.1, backend_config={"window_config":{"estimated_cycles":"100"}}
  %again = f32[8]{0} fusion(%work), kind=kLoop, calls=%piece.2, backend_config={"window_config":{"estimated_cycles":"5"}}
  %scatter = f32[8]{0} fusion(%again), kind=kLoop, backend_config={"window_config":{"estimated_cycles":"9223372036854775807"}}
  ROOT %t = (s32[]{:T(128)}, f32[8]{0}) tuple(%p.3, %scatter)
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %all-reduce.9 = (f32[4,2]{1,0}, f32[]{:T(128)}) all-reduce(%x, %x), channel_id=3, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  %while.1 = (s32[]{:T(128)}, f32[8]{0}) while(%x), condition=%turns, body=%body
  ROOT %end = f32[8]{0} copy(%x), backend_config={"window_config":{"estimated_cycles":"40"}}
}
"""  # noqa: E501


def test_a_program_of_the_tpu_compiler():
    program = Program(TPU)
    assert program.cycles() == 12 * (100 + 5) + 40
    gather, reduce = collectives(program, 8)
    # One channel; each of 4 devices passes on three quarters of 32 × 3 bfloat16, 12 times.
    assert (gather.kind, gather.count, gather.array_bytes, gather.sent_bytes) == (
        "all-gather",
        12,
        2304,
        1728,
    )
    # 9 float32, around twice except for one of the 4 steps.
    assert (reduce.kind, reduce.count, reduce.array_bytes, reduce.sent_bytes) == ("all-reduce", 1, 36, 54)


# The beginnings of two other files of its: 1000 bytes of arguments, of which 700 become outputs, and 50 of metrics.
REPORT = "Memory Space: default (color=0)\nTotal bytes: 5000 (4KiB)\nMemory Space: vmem (color=1)\nTotal bytes: 70\n"
BUFFERS = """BufferAssignment:
allocation 0: size 512, thread-local:
allocation 1: size 700, parameter 31, shape |f32[175]| at ShapeIndex {}, maybe-live-out:
allocation 2: size 300, page 0, parameter 6, shape |u8[1,300]| at ShapeIndex {}:
allocation 3: size 50, maybe-live-out:
allocation 4: size 3555840, preallocated-temp:
allocation 5: size 16626176, color 1, preallocated-temp:
"""


def test_memory_before_there_is_a_program(tmp_path):
    for name, text in (("-memory-usage-report", REPORT), ("-buffer-assignment", BUFFERS)):
        (tmp_path / f"module_0000.jit_step.1.after_optimizations{name}.txt").write_text(text)
    assert memory_of_dump(tmp_path) is None  # still writing
    (tmp_path / "module_0000.jit_step.1.after_optimizations_after_buffer_assignment.txt").touch()
    memory = memory_of_dump(tmp_path)
    assert memory == Memory(arguments=1000, outputs=750, donated=700, temporaries=3950)
    assert memory.total == 5000


@pytest.mark.parametrize(
    ("text", "size"),
    [("f32[8,128]{1,0:T(8,128)}", 4096), ("(pred[3]{0}, bf16[2,5]{1,0}, s32[])", 27), ("f8e4m3fn[7]", 7)],
)
def test_bytes_of_a_type(text, size):
    assert num_bytes(text) == size


def test_executed_flops_count_loops_and_recomputation():
    layer = jax.checkpoint(lambda x, w: jnp.sin(x @ w))
    loss = lambda w, x: jax.lax.scan(lambda x, _: (layer(x, w), None), x, length=5)[0].sum()
    traced = jax.jit(jax.grad(loss)).trace(jnp.zeros((4, 4)), jnp.zeros((3, 4)))
    assert product_flops(traced.jaxpr.jaxpr) == 5 * 4 * (2 * 3 * 4 * 4)  # forward, again, and two gradients


@pytest.mark.parametrize("answer", [0, 1, 2, 5, 8, 13, 90])
@pytest.mark.parametrize(
    "size", [lambda n: 7.0 + 2 * n, lambda n: 3.0 + n + n * n, lambda n: n**0.5, lambda n: 10.0 * n]
)
@pytest.mark.parametrize(
    "reported", [math.inf, 1.05]
)  # of the limit: what is larger is refused without a number
def test_the_largest_that_fits_takes_few_questions(answer, size, reported):
    asked, limit = [], size(answer) + 0.3 * (size(answer + 1) - size(answer))

    def needed(number):
        asked.append(number)
        return size(number) if size(number) <= reported * limit else None

    assert largest(needed, limit) == answer
    assert len(asked) == len(set(asked)) <= 9 and max(asked) <= 8 * max(answer, 1)


@pytest.mark.parametrize(
    ("config", "classes"),
    [
        ("configs/activitynet_tal.py:B", 200),
        ("configs/activitynet_tal.py:B,75/25", 150),
        ("configs/coin.py:L", 778),
        ("configs/thumos14.py:L", 20),
        ("configs/kinetics_pretrain.py:B,400", 400),
        ("configs/charades_sta.py:B", None),
    ],
)
def test_classes_of_the_projects_configs(config, classes):
    assert num_classes(load(config), None, known_classes(config)) == classes


def test_classes_that_nobody_knows():
    config = from_mapping({"task": "action_segmentation"})
    assert num_classes(config, 5, None) == 5
    with pytest.raises(UserError, match="--classes=N"):
        num_classes(config, None, known_classes("mine.py"))


@pytest.mark.parametrize("topology", ["v5e", "cpu:0", "tpu:4x4", "v5e:four"])
def test_topologies_that_cannot_be(topology):
    with pytest.raises(UserError, match=r"write such as v5e:4x4"):
        devices_of(topology)


def test_the_tpu_compiler_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'unloc_jax\[tpu\]'"):
        devices_of("v5e:4x4")


@pytest.fixture(scope="module")
def eight_devices() -> dict:
    run = subprocess.run(
        [sys.executable, "-m", "tests.aot.eight_devices"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_training_step_on_eight_devices(eight_devices):
    step = eight_devices["step"]
    assert step["mesh"] == {"data": 8, "context": 1, "model": 1}
    # Every device has the whole state, which the new one replaces, and one of the 8 videos.
    assert step["arguments"] == pytest.approx(step["state"] + step["batch"] / 8, rel=0.01)
    assert step["donated"] == pytest.approx(step["state"], rel=0.01)
    assert step["temporaries"] > step["parameters"]  # their gradients
    assert step["peak"] == 0  # a CPU does not report it
    assert step["all-reduce"] == pytest.approx(step["parameters"], rel=0.05)  # and the losses
    assert 1.1 < step["executed"] < 1.34  # the forward pass of all layers once more, not of the head


@pytest.mark.slow
def test_collectives_in_a_loop(eight_devices):
    by_kind = {one["kind"]: one for one in eight_devices["loop"]}
    assert by_kind["all-reduce"] == {
        "kind": "all-reduce",
        "count": 5,
        "array_bytes": 5 * 8 * 16 * 4,
        "sent_bytes": 5 * 8 * 16 * 4 * 2 * 3 / 4,
    }
    assert by_kind["all-gather"]["array_bytes"] == 6 * 10 * 4
    assert by_kind["all-gather"]["sent_bytes"] == 6 * 10 * 4 / 2


@pytest.mark.slow
def test_devices_compute_the_spectrograms_of_their_own_places(eight_devices):
    assert eight_devices["spectrograms"] == []


@pytest.mark.parametrize("flag", ["--memory-only", "--fit"])
def test_the_memory_of_a_cpu_is_not_known(unloc, flag):
    said = unloc("compile", "--config=configs/quickstart.py", "--topology=cpu:1", flag).error()
    assert said == f"{flag}: the memory of cpu is not known; use a TPU's topology."


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the TPU compiler (libtpu) is not installed"
)
def test_a_tpu_that_is_not_here():
    """The commands, as a user gives them: the smallest step on four chips, with its machine code and without."""
    small = ["num_layers=1", "width=16", "num_heads=2"]
    overrides = [f"model.{tower}.{one}" for tower in ("image", "text", "fusion") for one in small]
    overrides += [
        "model.fusion.mlp_dim=16",
        "data.num_frames=8",
        "data.crop_size=16",
        "model.image.patch_size=8",
    ]
    overrides += ["model.pyramid.num_levels=1", "model.pyramid.type=none", "model.head.num_conv_layers=1"]
    command = ["compile", "--config=configs/charades_sta.py:tiny", "--topology=v5e:2x2", "--batch=4"]
    command += [f"--config.{override}" for override in overrides]
    whole, memory_only = (
        run_child(*command, *flags, timeout_s=600).ok().out for flags in ([], ["--memory-only"])
    )
    for said in (whole, memory_only):
        assert "4 × TPU v5e as data 4" in said
        assert "of 16.911 GB: fits" in said
    assert "all-reduce" in whole
    assert float(re.search(r"time, compiler +([\d.]+) ms", whole)[1]) > 0
    arguments = [re.search(r"arguments .* ([\d.]+) GB", said)[1] for said in (whole, memory_only)]
    assert arguments[0] == arguments[1] and "program" not in memory_only


def test_the_batch_of_a_model_that_hears_is_that_of_training():
    for modalities in ({"audio": {"encoder": "audio"}}, {"audio": {"encoder": "audio"}, "rgb": {}}):
        config = tiny_config(model={**SOUND, "modalities": modalities})
        shapes = lambda batch: jax.tree.map(lambda x: (x.shape, x.dtype), batch)
        assert shapes(abstract_batch(config)) == shapes(random_batch(config))
        compiled = compile_step(config, (config.task,), jax.devices()[:1], {config.task: None})
        assert compiled.memory is not None and not compiled.too_large
