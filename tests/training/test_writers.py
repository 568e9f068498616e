import json
import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from unloc_jax.training import writers
from unloc_jax.training.writers import MetricWriter, Progress


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
    # Can be watched while training goes on.
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


@pytest.fixture
def clock(monkeypatch):
    """A list whose entry is the time in seconds."""
    now = [100.0]
    monkeypatch.setattr(writers.time, "monotonic", lambda: now[0])
    return now


def test_speed_counts_training_only(clock, capsys):
    progress = Progress(total_steps=1000, start_step=0, videos_per_step=16)
    clock[0] += 70
    progress.pause(50)
    speed = progress.report("train", 40, 1000, {"loss": 0.12345, "iou": 0.5})
    assert speed == {"videos_per_s": pytest.approx(32), "steps_per_s": pytest.approx(2)}
    line = capsys.readouterr().err
    assert line == "train    step   40/1000  loss 0.123  iou 0.500    32.0 videos/s  8:00 left of train\n"

    # The next report starts where this one ended; an earlier pause does not count again.
    clock[0] += 10
    assert progress.report("pretrain", 50, 60, {})["steps_per_s"] == pytest.approx(1)
    assert capsys.readouterr().err.endswith("0:10 left of pretrain\n")


@pytest.mark.parametrize(("left_s", "shown"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3725, "1:02:05")])
def test_time_left(clock, capsys, left_s, shown):
    progress = Progress(total_steps=1000, start_step=900, videos_per_step=1)
    clock[0] += 50
    steps = 50 * 100 / (left_s + 50)
    progress.report("train", 900 + steps, 1000, {})
    assert capsys.readouterr().err.rstrip().endswith(f"videos/s  {shown} left of train")
