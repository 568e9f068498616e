"""The commands as Python functions: the same results, with HTML for notebooks."""

import json

import numpy as np
import pytest

import unloc_jax
from tests.tiny_runs import metric_lines, without_clock
from unloc_jax.errors import UserError
from unloc_jax.training.watcher import Watcher

pytestmark = pytest.mark.slow


class Remembering(Watcher):
    """Keeps what it is shown."""

    def __init__(self):
        self.runs, self.lines, self.validations = [], [], []

    def started(self, config, workdir):
        self.runs.append((config.total_steps, workdir))

    def logged(self, step, scalars):
        self.lines.append({"step": step, **scalars})

    def validated(self, step, task, records, found):
        self.validations.append((step, task, records, found))


def test_training_is_watched(config_file, captions_dataset, trained, tmp_path):
    """The numbers are those of metrics.jsonl, and the run is the one of the command."""
    watcher, settings = Remembering(), {"data.dir": captions_dataset}
    scores = unloc_jax.train(config_file, tmp_path / "run", settings, watcher=watcher)
    assert watcher.runs == [(10, tmp_path / "run")]
    assert [without_clock(line) for line in watcher.lines] == [
        without_clock(line) for line in metric_lines(tmp_path / "run")
    ]
    assert [without_clock(line) for line in watcher.lines] == [
        without_clock(line) for line in metric_lines(trained)
    ]
    assert [step for step, *_ in watcher.validations] == [7, 10]
    for _, task, records, found in watcher.validations:
        assert task == "moment_retrieval"
        assert [set(record.texts) for record in records] == [set(texts) for texts in found.texts]
        assert all(np.isfinite(segments).all() for segments in found.segments_s)
    assert scores == {
        name.removeprefix("validation/"): value
        for name, value in watcher.lines[-1].items()
        if name.startswith("validation/")
    }
    assert unloc_jax.train(config_file, tmp_path / "run", settings, watcher=watcher) == {}
    assert len(watcher.runs) == 2  # a finished run is shown, too


def test_evaluation_is_that_of_the_command(unloc, trained, captions_dataset, tmp_path, capfd):
    ran = unloc(
        "evaluate", f"--checkpoint={trained}", f"--data-dir={captions_dataset}", f"--out={tmp_path}"
    ).ok()
    capfd.readouterr()
    result = unloc_jax.evaluate(trained, data_dir=captions_dataset, out=tmp_path)
    assert capfd.readouterr().out == ""
    assert str(result) in ran.out
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(json.dumps(result))
    assert repr(result).startswith("EvaluationResult(") and len(repr(result)) < 300
    assert "another video's query" in result._repr_html_().replace("&#x27;", "'")

    ran = unloc(
        "metrics", "--protocol=moment-retrieval", f"--ground-truth={captions_dataset}", "--subset=test",
        f"--predictions={result.predictions}",
    ).ok()  # fmt: skip
    numbers = unloc_jax.measure("moment-retrieval", captions_dataset, result.predictions, subset="test")
    assert str(numbers) in ran.out and "<table" in numbers._repr_html_()
    assert numbers["queries"] == result["queries"]

    ran = unloc(
        "diagnose", "--protocol=moment-retrieval", f"--ground-truth={captions_dataset}", "--subset=test",
        f"--predictions={result.predictions}", f"--out={tmp_path / 'page.html'}",
    ).ok()  # fmt: skip
    why = unloc_jax.diagnose("moment-retrieval", captions_dataset, result.predictions, subset="test")
    assert str(why) in ran.out and repr(why).startswith("Diagnosis('Diagnosis of moments'")
    why.save(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == (tmp_path / "page.html").read_text()
    why.save(tmp_path / "numbers.json")
    assert json.loads((tmp_path / "numbers.json").read_text())["summary"]["protocol"] == "moment-retrieval"
    assert why._repr_html_().startswith("<iframe")
    with pytest.raises(UserError, match=r"page\.html or a numbers\.json"):
        why.save(tmp_path / "page.pdf")


def test_what_is_refused(config_file, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        unloc_jax.train("nowhere.py", tmp_path)
    with pytest.raises(UserError, match=r"config\.train\.stepz"):
        unloc_jax.train(config_file, tmp_path, {"train.stepz": 1})
    for function in (unloc_jax.measure, unloc_jax.diagnose):
        with pytest.raises(UserError, match="--protocol=mAP"):
            function("mAP", tmp_path / "truth.json", tmp_path / "found.json")


def test_predictions_show_and_save_themselves(trained, tiny_videos, tmp_path):
    video = tiny_videos / "videos" / "test_00000.mp4"
    localizer = unloc_jax.load(trained)
    found = localizer(video, ["a red circle", "a square"])
    assert found._repr_html_().startswith("<iframe") and "data:video/mp4" in found._repr_html_()
    found.save(tmp_path / "report.html")
    found.save(tmp_path / "numbers.json")
    assert "a red circle" in (tmp_path / "report.html").read_text()
    assert len(json.loads((tmp_path / "numbers.json").read_text())["texts"]) == 2
    of_frames = localizer(np.zeros((20, 32, 32, 3), np.uint8), "a square", fps=5)
    assert of_frames._repr_html_().startswith("<pre>")
    with pytest.raises(UserError, match=r"is not a file here; save a \.json"):
        of_frames.save(tmp_path / "report.html")
    with pytest.raises(UserError, match=r"report\.html or a result\.json"):
        found.save(tmp_path / "report.pdf")
    with pytest.raises(UserError, match="cannot be written"):
        found.save(tmp_path / "missing" / "numbers.json")
