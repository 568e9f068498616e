"""Real processes on this machine that run as one: the numbers are those of one process."""

import json
import shutil
import socket
import subprocess

import numpy as np
import pytest

from tests.tiny_runs import child_environment, command_of, metric_lines, without_clock

pytestmark = pytest.mark.slow


def run_together(count: int, *words: object, timeout_s: float = 300) -> list[subprocess.CompletedProcess]:
    """The same `unloc …` in `count` processes."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    started = [
        subprocess.Popen(
            command_of(
                *words, f"--coordinator=localhost:{port}", f"--num-processes={count}", f"--process-id={i}"
            ),
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    done = []
    try:
        for process in started:
            out, err = process.communicate(timeout=timeout_s)
            done.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in done] == [0] * count, [
        process.stderr[-2000:] for process in done
    ]
    return done


def test_evaluation_of_two_is_that_of_one(trained, captions_dataset, tmp_path, unloc):
    """3 videos for 2 processes with batches of 2 each: the second one's share is not full."""
    copies = {count: tmp_path / str(count) for count in (1, 2)}
    where = f"--data-dir={captions_dataset}"
    unloc("evaluate", f"--checkpoint={trained}", where, f"--out={copies[1]}").ok()
    first, second = run_together(2, "evaluate", f"--checkpoint={trained}", where, f"--out={copies[2]}")
    assert "R1@0.5" in first.stdout and "R1@0.5" not in second.stdout  # gloo prints a line of its own
    one, two = (json.loads((copies[count] / "metrics.json").read_text()) for count in (1, 2))
    assert set(one["recall"]) == set(two["recall"]) and one["queries"] == two["queries"]
    for row, values in one["recall"].items():
        assert two["recall"][row] == pytest.approx(values, abs=0.01)
    lines = [
        [json.loads(line) for line in (copies[count] / "predictions.jsonl").read_text().splitlines()]
        for count in (1, 2)
    ]
    assert len(lines[0]) == len(lines[1])
    for a, b in zip(*lines):
        assert (a["vid"], a["query"]) == (b["vid"], b["query"])
        np.testing.assert_allclose(a["pred_relevant_windows"], b["pred_relevant_windows"], atol=2e-3)


@pytest.mark.parametrize("context", [1, 2])
def test_training_of_two_is_that_of_one(config_file, captions_dataset, tmp_path, unloc, context):
    """Each with half of the videos; and both with all videos, of which each has half of the frames and texts."""
    words = ["train", f"--config={config_file}", f"--config.data.dir={captions_dataset}"]
    unloc(*words, f"--workdir={tmp_path / '1'}").ok()
    run_together(2, *words, f"--workdir={tmp_path / '2'}", f"--config.mesh.context={context}")
    one, two = (metric_lines(tmp_path / count) for count in ("1", "2"))
    assert [line["step"] for line in one] == [line["step"] for line in two]
    for a, b in zip(one, two):
        for key in without_clock(a):
            assert b[key] == pytest.approx(a[key], rel=2e-4, abs=1e-5), (key, a, b)
    # And what two wrote, one goes on from.
    shutil.rmtree(tmp_path / "2" / "checkpoints" / "10")
    unloc(*words, f"--workdir={tmp_path / '2'}").ok()
    again = metric_lines(tmp_path / "2")
    for key in without_clock(one[-1]):
        assert again[-1][key] == pytest.approx(one[-1][key], rel=2e-4, abs=1e-5)


def test_half_of_an_address_is_refused(trained, unloc):
    error = unloc("evaluate", f"--checkpoint={trained}", "--num-processes=2").error()
    assert "--coordinator, --num-processes and --process-id belong together" in error
