"""`unloc evaluate` and similar commands refuse wrong arguments before any work and leave nothing behind."""

import json

import pytest

from tests.evaluation.test_zeroshot_predictor import COLORS, predictor
from unloc_jax.errors import UserError
from unloc_jax.evaluation.evaluate import evaluate, output_folders


class Refuses:
    """Refuses to predict."""

    def __init__(self, error):
        self._predictor, self._error = predictor(COLORS), error

    def __getattr__(self, name):
        return getattr(self._predictor, name)

    def predict(self, split, texts):
        raise self._error


@pytest.mark.parametrize("error", [UserError("no such words"), KeyboardInterrupt(), MemoryError()])
def test_a_failure_leaves_no_folder(tmp_path, error):
    (tmp_path / "mine").mkdir()
    for out in (tmp_path / "new" / "deep", tmp_path / "mine" / "x", tmp_path / "mine"):
        with pytest.raises(type(error)):
            evaluate(Refuses(error), "test", out)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_what_was_written_stays(tmp_path):
    with pytest.raises(KeyError), output_folders([tmp_path / "a", tmp_path / "b" / "c"]):
        (tmp_path / "a" / "kept").touch()
        raise KeyError
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "kept"]


def test_a_folder_that_cannot_be_made_is_refused_first(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--out=.*file/x cannot be written"):
        evaluate(Refuses(AssertionError("worked")), "test", tmp_path / "file" / "x")


@pytest.mark.slow
def test_commands_leave_nothing_behind(trained, captions_dataset, tiny_videos, tmp_path, unloc):
    words = (
        "evaluate",
        f"--checkpoint={trained}",
        f"--data-dir={captions_dataset}",
        f"--out={tmp_path / 'out'}",
    )
    scores, vocabulary = tmp_path / "scores.json", tmp_path / "classes.txt"
    scores.write_text(json.dumps({"v": {"a": 1}}))
    vocabulary.write_text("a\nb\n")
    video = next((tiny_videos / "videos").iterdir())
    features = ("features", f"--clip={tmp_path}", f"--videos={video.parent}", f"--out={tmp_path / 'out'}")
    for command, error in {
        (*words, f"--classifier-scores={scores}"): "is for tasks that look for segments of classes",
        (*words, f"--vocabulary={vocabulary}"): "is for tasks with classes",
        (*words, "--split=train", "--task=x"): "--task=x: the tasks of",
        (*words, "--config.evaluation.nms=wrong"): "config.evaluation.nms",
        (*words, "--config.train.steps=1"): "of a trained model only",
        (*features, "--fps=0"): "fps must be above 0",
        (*features, f"--shards={scores}", "--dataset=csv", "--annotations=x"): "is a file: name a folder",
        (*features[:-1], f"--out={scores}"): "is a file: name a folder",
    }.items():
        assert error in unloc(*command).error()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["classes.txt", "scores.json"]


@pytest.mark.slow
def test_all_tasks_are_checked_before_the_first_works(
    config_file, captions_dataset, activities_dataset, tmp_path, unloc
):
    run = tmp_path / "run"
    data = f"config.tasks = {{'moments': {{'task': 'moment_retrieval', 'data': {{'dir': '{captions_dataset}'}}}}, "
    data += (
        f"'actions': {{'task': 'temporal_action_localization', 'data': {{'dir': '{activities_dataset}'}}}}}}"
    )
    config = tmp_path / "several.py"
    body = config_file.read_text().replace("    return ", "    config = ")
    config.write_text(f"{body}    {data}\n    return config\n")
    stages = ("contrastive.steps=0", "contrastive.warmup_steps=0", "train.steps=2", "train.warmup_steps=1")
    settings = (f"--config.{setting}" for setting in (*stages, "data.mirror=False"))
    unloc("train", f"--config={config}", f"--workdir={run}", *settings).ok()
    vocabulary = tmp_path / "classes.txt"
    vocabulary.write_text("a\nb\n")
    for wrong in (f"--vocabulary={vocabulary}", f"--data-dir={captions_dataset}"):
        ran = unloc("evaluate", f"--checkpoint={run}", wrong, f"--out={tmp_path / 'out'}")
        assert ran.error() and "==" not in ran.out and "batch" not in ran.err
        assert not (tmp_path / "out").exists()
    told = unloc("evaluate", f"--checkpoint={run}", f"--out={tmp_path / 'out'}").ok().out
    assert told.index("== actions ==") < told.index("== moments ==")  # by name
    for name, file in (("moments", "predictions.jsonl"), ("actions", "predictions.json")):
        assert json.loads((tmp_path / "out" / name / "metrics.json").read_text())["task"] == name
        assert (tmp_path / "out" / name / file).is_file()
