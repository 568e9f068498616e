"""Damaged lines of metrics.jsonl: set aside and counted, whatever they are."""

import json
import random

import pytest

from unloc_jax.training.checkpoints.best import best_step
from unloc_jax.training.metric_writers import MetricWriter, validated
from unloc_jax.training.metrics_log import read_log

LINES = [{"step": step, "train/loss": 0.5, "validation/mIoU": float(step)} for step in (10, 20, 30)]
DAMAGES = {
    "cut": b'{"step": 20, "trai',
    "binary": bytes(range(14, 256)),
    "not JSON": b"step 20: loss 0.5",
    "a list": b"[1]",
    "a number": b"5",
    "no step": b'{"train/loss": 0.5}',
    "a step that is text": b'{"step": "20", "train/loss": 0.5}',
    "a step that is null": b'{"step": null}',
    "a step that is true": b'{"step": true}',
    "a value that is text": b'{"step": 20, "validation/mIoU": "high"}',
    "deep": b"[" * 100_000,
    "a deep value": b'{"step": 20, "a": ' + b'{"a": ' * 100_000,
    "many digits": b'{"step": 1' + b"0" * 10_000 + b"}",
    "infinite": b'{"step": 1e999}',
    "huge": b"x" * 5_000_000,
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_line(tmp_path, damage):
    first, second, third = (json.dumps(line).encode() for line in LINES)
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([first, DAMAGES[damage], second, third, b""]))
    assert (
        best_step(tmp_path, "mIoU", [10, 20]) == 20
        and validated(tmp_path, 10)
        and not validated(tmp_path, 15)
    )
    said: list[str] = []
    with MetricWriter(tmp_path, 20, log=said.append) as writer:
        writer.write(30, {"train/loss": 1.0})
    (note,) = said
    assert "1 damaged line was moved" in note and "metrics.damaged" in note and "\n" not in note
    assert (tmp_path / "metrics.damaged").read_bytes() == DAMAGES[damage] + b"\n"
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert kept == [*LINES[:2], {"step": 30, "train/loss": 1.0}]
    with MetricWriter(tmp_path, 30, log=said.append):
        pass
    assert len(said) == 1


def test_any_bytes(tmp_path):
    """Whatever happens to the file, the run continues, and lines that are whole stay."""
    rng = random.Random(0)
    whole = b"".join(json.dumps(line).encode() + b"\n" for line in LINES)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / "metrics.jsonl").write_bytes(data[: rng.randrange(1, len(data) + 1)])
        MetricWriter(tmp_path, 30, log=lambda text: None).close()
        found = read_log(tmp_path)
        assert not found.damaged and all(line["step"] <= 30 for line in found.numbers)


def test_a_deleted_workdir(tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    with MetricWriter(workdir, 0, on_error="continue") as writer:
        writer.write(1, {"loss": 1.0})
        for file in [*(workdir / "tensorboard").iterdir(), workdir / "metrics.jsonl"]:
            file.unlink()
        (workdir / "tensorboard").rmdir()
        workdir.rmdir()
        writer.write(2, {"loss": 2.0})
    assert read_log(workdir).numbers == [{"step": 2, "loss": 2.0}]
    assert len(list((workdir / "tensorboard").iterdir())) == 1
