"""A new task is one file and one line in the list of tasks: nothing else has to know it."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

import unloc_jax
from tests.tasks.toy_task import Share
from tests.tiny import tiny_config
from tests.tiny_runs import COUNTS, metric_lines
from unloc_jax.errors import UserError
from unloc_jax.tasks import TASKS, task_for

# What is written here is the name of a task somewhere else, or a choice of a user.
_MAY_NAME = {
    "metrics/protocols/__init__.py": "modules of that name",
    "metrics/protocols/presets.py": "a protocol of that name",
    "pretrained/scenic_config.py": "the reference's names",
    "pretrained/scenic_model.py": "the reference's names",
    "pretrained/scenic_unloc.py": "the reference's names",
    "quickstart.py": "the tours that there are",
}


@pytest.fixture
def share(monkeypatch):
    """The one line."""
    monkeypatch.setitem(TASKS, Share.name, Share)


def test_it_trains_validates_evaluates_and_writes_predictions(
    share, unloc, config_file, captions_dataset, tmp_path
):
    words = [f"--config={config_file}", f"--workdir={tmp_path / 'run'}", "--config.task=share"]
    words += [f"--config.data.dir={captions_dataset}", "--config.accumulate=2"]
    words += ["--config.contrastive.steps=0", "--config.contrastive.warmup_steps=0", "--config.train.steps=3"]
    unloc("train", *words).ok()
    lines = metric_lines(tmp_path / "run")
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert len(losses) == 3 and np.isfinite(losses).all()
    assert [line["validation/mean_error"] for line in lines if "validation/mean_error" in line]

    printed = unloc("evaluate", f"--checkpoint={tmp_path / 'run'}").ok().out
    out = tmp_path / "run" / "evaluation" / "test"
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["task"], metrics["videos"]) == ("share", COUNTS["test"])
    assert f"{metrics['metrics']['mean_error']:.1f}" in printed and "share (%)" in printed
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    shares = [share for row in rows for share in row["shares"].values()]
    assert len(rows) == COUNTS["test"] and min(shares) > 0 and max(shares) < 1


def test_its_settings_are_checked(share):
    tiny_config("share")
    with pytest.raises(UserError, match="'share' reads the fused text token"):
        tiny_config("share", model={"fusion": {"type": "late"}})
    with pytest.raises(UserError, match=r"must be one of .*, video_text_contrastive, share, got 'shares'"):
        tiny_config("shares")


def test_no_other_module_asks_for_the_name_of_a_task():
    package = Path(unloc_jax.__file__).parent
    named = {}
    for file in sorted(package.rglob("*.py")):
        where = file.relative_to(package).as_posix()
        if where.startswith("tasks/") or where in _MAY_NAME:
            continue
        tree = ast.parse(file.read_text("utf-8"))
        defaults = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "task"
        }  # the schema's
        texts = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and id(node) not in defaults
        }
        if found := texts & set(TASKS):
            named[where] = found
    assert not named


@pytest.mark.parametrize(
    ("annotation_format", "has_classes", "expected"),
    [
        ("qvhighlights", False, "highlight_detection"),
        ("coin", True, "action_segmentation"),
        ("kinetics", True, "classification"),
        ("activitynet", True, "temporal_action_localization"),
        ("charades_sta", False, "moment_retrieval"),
    ],
)
def test_what_a_dataset_is_for(annotation_format, has_classes, expected):
    assert task_for(annotation_format, has_classes).name == expected
