"""`unloc average`."""

import json

import numpy as np
import pytest

from unloc_jax.cli import main


def written(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_splits_are_averaged(tmp_path, capsys):
    """As for 50Salads: the results of `unloc metrics --out` of several splits."""
    rng = np.random.default_rng(1)
    files, accuracies = [], []
    for split in range(3):
        lines = []
        for video in range(2):
            labels = np.repeat(rng.integers(1, 4, 6), 5)
            found = np.where(rng.random(30) < 0.3, 1, labels)
            lines.append({"seq": f"{split}{video}", "gt": labels.tolist(), "pred": found.tolist()})
        frames = written(tmp_path, f"frames{split}.jsonl", "\n".join(map(json.dumps, lines)))
        files.append(str(tmp_path / f"split{split}.json"))
        options = ["--protocol=50salads", f"--ground-truth={frames}", f"--predictions={frames}"]
        assert main(["metrics", *options, f"--out={files[-1]}"]) == 0
        right = np.concatenate([np.array(line["gt"]) == np.array(line["pred"]) for line in lines])
        accuracies.append(100 * right.mean())
    capsys.readouterr()
    assert main(["average", *files, f"--out={tmp_path / 'mean.json'}"]) == 0
    told = json.loads((tmp_path / "mean.json").read_text())
    assert told["mean"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert told["standard_deviation"]["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))
    assert {"accuracy", "edit", "F1@10", "F1@25", "F1@50"} <= told["mean"].keys() and "videos" not in told[
        "mean"
    ]
    printed = capsys.readouterr().out
    assert "mean of 3 files" in printed and f"{told['mean']['edit']:.2f}" in printed


def test_refused_in_one_line(tmp_path, capsys):
    one = written(tmp_path, "a.json", {"mAP": 1.0, "brief": {"R1": 2.0}, "videos": 3})
    cases = {
        "takes at least two files": [one],
        "a.json is given twice": [one, one],
        'b.json: it has no "brief.R1", unlike': [one, written(tmp_path, "b.json", {"mAP": 1.0})],
        "c.json: not JSON": [one, written(tmp_path, "c.json", "{")],
        "d.json: an object of metrics is needed": [one, written(tmp_path, "d.json", [1])],
        "e.json: there are no metrics in it": [one, written(tmp_path, "e.json", {"videos": 3})],
    }
    for message, files in cases.items():
        assert main(["average", *files]) == 2
        assert message in capsys.readouterr().err
    assert main(["average", one, str(tmp_path / "gone.json")]) == 2
    assert "gone.json" in capsys.readouterr().err
