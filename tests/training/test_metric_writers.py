import json
import struct
import sys

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from tests.full_disk import full_disk
from tests.tiny import tiny_config
from unloc_jax.errors import UserError
from unloc_jax.training import clock as clock_module
from unloc_jax.training import progress as progress_module
from unloc_jax.training.clock import Clock
from unloc_jax.training.metric_writers import MetricWriter, start_wandb
from unloc_jax.training.optimizer import learning_rate_schedule, learning_rates
from unloc_jax.training.progress import Progress


def json_lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def tensorboard_scalars(workdir):
    """[(step, name, value)] of all event files: records of (length, its checksum, data, its checksum)."""
    scalars = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            scalars += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            data = data[16 + length :]
    return scalars


def test_both_files_get_the_numbers(tmp_path):
    writer = MetricWriter(tmp_path, 0)
    writer.write(10, {"train/loss": 0.5, "learning_rate": 1e-3})
    writer.write(20, {"train/loss": 0.25})
    # Can be watched while training continues.
    assert json_lines(tmp_path) == [
        {"step": 10, "train/loss": 0.5, "learning_rate": 1e-3},
        {"step": 20, "train/loss": 0.25},
    ]
    expected = [(10, "train/loss", 0.5), (10, "learning_rate", np.float32(1e-3)), (20, "train/loss", 0.25)]
    writer.close()
    assert tensorboard_scalars(tmp_path) == expected


def test_a_continued_run_drops_what_comes_again(tmp_path):
    first = MetricWriter(tmp_path, 0)
    for step in (10, 20, 30):
        first.write(step, {"loss": float(step)})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')  # killed while it wrote
    second = MetricWriter(tmp_path, 20)
    second.write(30, {"loss": -1.0})
    second.close()
    assert [(line["step"], line["loss"]) for line in json_lines(tmp_path)] == [(10, 10), (20, 20), (30, -1)]


def test_a_run_from_the_start_keeps_nothing(tmp_path):
    MetricWriter(tmp_path, 0).write(10, {"loss": 1.0})
    MetricWriter(tmp_path, 0).write(5, {"loss": 2.0})
    assert json_lines(tmp_path) == [{"step": 5, "loss": 2.0}]


def test_numbers_that_are_none_leave_a_file_that_can_be_read(tmp_path):
    with MetricWriter(tmp_path, 0) as writer:
        writer.write(1, {"loss": float("nan"), "norm": float("inf"), "learning_rate": 0.5})
    assert json_lines(tmp_path) == [{"step": 1, "learning_rate": 0.5}]


def test_wandb_that_is_not_installed_is_said_before_any_work(tmp_path, monkeypatch):
    config = tiny_config(wandb={"project": "moments"})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'unloc_jax\[wandb\]'"):
        start_wandb(config, tmp_path, 0.0)
    assert start_wandb(tiny_config(), tmp_path, 0.0) is None


@pytest.mark.slow
def test_wandb_gets_the_same_numbers(tmp_path, monkeypatch):
    """Offline, as on a cluster; a run that continues is the same run to wandb."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config, ids = tiny_config(wandb={"project": "moments"}), []
    for start_step in (0, 10):
        run = start_wandb(config, tmp_path, 123.5)
        ids.append(run.id)
        with MetricWriter(tmp_path, start_step, run) as writer:
            writer.write(start_step + 10, {"train/loss": 0.5, "learning_rate": float("nan")})
            assert dict(run.summary)["train/loss"] == 0.5 and dict(run.summary)["step"] == start_step + 10
            assert "learning_rate" not in dict(run.summary)
        assert run.config["batch_size"] == config.batch_size
    assert ids[0] == ids[1] and list(tmp_path.glob("wandb/offline-run-*"))
    assert [line["step"] for line in json_lines(tmp_path)] == [10, 20]


@pytest.fixture
def clock(monkeypatch):
    """A list whose entry is the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(clock_module.time, "monotonic", lambda: now[0])
    return now


def _progress(first_step=0, **settings):
    config = tiny_config(batch_size=16, train={"steps": 1000}, **settings)
    return Progress(config, {}, first_step, made := Clock(0.0)), made


def test_speed_counts_training_only(clock, capsys):
    progress, made = _progress()
    with made.measure("compute"):
        clock[0] += 15
    with made.measure("input"):
        clock[0] += 5
    with made.measure("evaluation"):
        clock[0] += 50
    numbers = progress.report("train", 40, {"loss": 0.12345, "iou": 0.5, "gradient_norm": 1.0})
    assert (numbers["steps_per_s"], numbers["videos_per_s"], numbers["frames_per_s"]) == (2, 32, 256)
    assert numbers["input_fraction"] == 5 / 20
    shares = {
        "input": 5,
        "compute": 15,
        "evaluation": 50,
        "total": 70,
        "other": 0,
        "compile": 0,
        "checkpoint": 0,
    }
    assert {k: v for k, v in numbers.items() if k[:5] == "time/"} == {
        f"time/{k}": v / 40 for k, v in shares.items()
    }
    assert "mfu" not in numbers  # of a CPU nobody knows the peak
    line = capsys.readouterr().err
    shown = (
        "train       step   40/1000  loss 0.123  iou 0.500    32.0 videos/s  input 25 %  8:00 left of train\n"
    )
    assert line == shown

    # The next report starts where this one ended; an earlier pause does not count again.
    clock[0] += 10
    assert progress.report("train", 50, {})["steps_per_s"] == pytest.approx(1)


def test_mfu_and_memory_where_the_device_tells(clock, monkeypatch, moment_retrieval):
    """2 devices of 1e9 FLOP/s did 10 steps of 3e8 FLOPs in 3 s: half of what they can."""

    class Device:
        device_kind = "toy"

        def memory_stats(self):
            return {"bytes_in_use": 2**30, "peak_bytes_in_use": 3 * 2**30, "other": 1}

    monkeypatch.setattr(progress_module.jax, "devices", lambda: [Device(), Device()])
    monkeypatch.setattr(progress_module.jax, "local_devices", lambda: [Device()])
    monkeypatch.setattr(progress_module.jax, "device_count", lambda: 2)
    monkeypatch.setattr(progress_module, "peak_flops", {"toy": 1e9}.get)
    monkeypatch.setattr(progress_module, "train_step_flops", lambda config, classes, stage: 3e8)
    task, _ = moment_retrieval
    progress = Progress(task.config, {"moment_retrieval": task}, 0, Clock(0.0))
    clock[0] += 3
    numbers = progress.report("train", 10, {})
    assert numbers["mfu"] == pytest.approx(0.5)
    assert (numbers["memory/in_use_gib"], numbers["memory/peak_gib"]) == (1, 3)


@pytest.mark.parametrize(("left_s", "shown"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3725, "1:02:05")])
def test_time_left(clock, capsys, left_s, shown):
    progress, _ = _progress(first_step=0)
    clock[0] += 200 * left_s / 800 if left_s else 50
    progress.report("train", 200 if left_s else 1000, {})
    assert capsys.readouterr().err.rstrip().endswith(f"input 0 %  {shown} left of train")


def test_rates_of_groups():
    """As the optimizer applies them: the longest prefix counts, and each stage has its own."""
    config = tiny_config(
        contrastive={"steps": 10, "learning_rate": 0.5, "schedule": "constant"},
        train={
            "steps": 20, "learning_rate": 0.1, "learning_rates": {"head": 1.0, "head/offsets": 2.0},
            "warmup_steps": 10, "schedule": "constant",
        },
    )  # fmt: skip
    rates = learning_rates(config)
    names = ("learning_rate", "learning_rate/head", "learning_rate/head/offsets")
    assert [rates(9)[name] for name in names] == pytest.approx([0.5] * 3)
    assert [rates(15)[name] for name in names] == pytest.approx([0.05, 0.5, 1.0])
    np.testing.assert_allclose(rates(12)["learning_rate"], learning_rate_schedule(config)(12))


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_a_full_disk(tmp_path, on_error):
    """The run stops with a line that gives the reason, or continues; no line is cut, and nobody waits for ever."""
    said, numbers = [], {f"number_{i}": float(i) for i in range(20)}
    with MetricWriter(tmp_path, 0, None, on_error, said.append) as writer:
        with full_disk(2000):
            writer.write(1, numbers)
            if on_error == "stop":
                with pytest.raises(
                    UserError, match=rf"cannot be written to {tmp_path}: File too large\. Fix"
                ):
                    for step in range(2, 100):
                        writer.write(step, numbers)
            else:
                for step in range(2, 100):
                    writer.write(step, numbers)
                (line,) = said
                assert "Training continues" in line
        written = [line["step"] for line in json_lines(tmp_path)]
        assert written == list(range(1, len(written) + 1)) and len(written) < 20
        writer.write(100, {"loss": 1.0})
    assert json_lines(tmp_path)[-1] == {"step": 100, "loss": 1.0}
    assert (100, "loss", 1.0) in tensorboard_scalars(tmp_path)
