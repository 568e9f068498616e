"""Whole training runs, through the command line: order of things, what is written, what is refused."""

import json
import math
import re
import shutil

import pytest

from data_pipelines.reading.built import find_dataset
from data_pipelines.reading.record_index import iterate_records
from tests.tiny_runs import COUNTS, metric_lines, run_child, without_clock

pytestmark = pytest.mark.slow

CONTRASTIVE, TRAIN, TOTAL = 4, 6, 10  # steps of the tiny config


def _train(config_file, dataset, workdir, *settings):
    return (
        "train",
        f"--config={config_file}",
        f"--workdir={workdir}",
        f"--config.data.dir={dataset}",
        *(f"--config.{setting}" for setting in settings),
    )


def test_both_stages_are_logged_step_by_step(trained):
    lines = metric_lines(trained)
    steps = [(line["step"], "contrastive") for line in lines if "contrastive/loss" in line]
    steps += [(line["step"], "train") for line in lines if "train/loss" in line]
    assert steps == [
        (step, "contrastive" if step <= CONTRASTIVE else "train") for step in range(1, TOTAL + 1)
    ]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    for line in lines:
        stage = "contrastive" if line["step"] <= CONTRASTIVE else "train"
        assert all(key.startswith((stage, "validation")) for key in without_clock(line) if "/" in key)
    speeds = [line["videos_per_s"] / line["steps_per_s"] for line in lines if "steps_per_s" in line]
    assert speeds == pytest.approx([4] * TOTAL)  # the batch size


def test_learning_rate_warms_up_and_decays_in_both_stages(trained):
    rates = [line["learning_rate"] for line in metric_lines(trained) if "learning_rate" in line]
    cosine = lambda done, of: 1e-3 * (1 + math.cos(math.pi * done / of)) / 2
    contrastive = [0.0, *(cosine(i, CONTRASTIVE - 1) for i in range(CONTRASTIVE - 1))]  # 1 step of warm-up
    train = [0.0, 0.5e-3, *(cosine(i, TRAIN - 2) for i in range(TRAIN - 2))]  # 2 steps of warm-up
    assert rates == pytest.approx(contrastive + train, abs=1e-8)


def test_validation_every_few_steps_of_the_second_stage_and_at_the_end(trained):
    found = [line for line in metric_lines(trained) if "validation/R1@0.5" in line]
    assert [line["step"] for line in found] == [CONTRASTIVE + 3, CONTRASTIVE + 6]
    assert set(found[0]) == {
        "step",
        "validation/mIoU",
        *(f"validation/R{k}@{iou}" for k in (1, 5) for iou in (0.3, 0.5, 0.7)),
    }


def test_what_a_workdir_holds(trained):
    assert sorted(p.name for p in trained.iterdir()) == [
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "started_at",
        "tensorboard",
    ]
    assert sorted(int(p.name) for p in (trained / "checkpoints").iterdir()) == [5, 10]
    assert json.loads((trained / "config.json").read_text())["train"]["steps"] == TRAIN


def test_eight_devices_go_on_like_one(trained, config_file, captions_dataset, tmp_path):
    """From the same checkpoint, with parameters split over the devices: the numbers are those of one device."""
    workdir = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / "10")
    mesh = ("mesh.data=4", "mesh.context=2", "mesh.strategy=fsdp")
    ran = run_child(*_train(config_file, captions_dataset, workdir, *mesh), devices=8).ok()
    assert f"continuing from step 5 of 10 in {workdir}" in ran.err
    assert "8 × cpu as {'data': 4, 'context': 2, 'model': 1} (fsdp)" in ran.err
    for one, eight in zip(metric_lines(trained), metric_lines(workdir), strict=True):
        assert one.keys() == eight.keys()
        for name in one:
            if name.endswith(("loss", "gradient_norm")):
                assert eight[name] == pytest.approx(one[name], rel=0.02), (one["step"], name)


def test_what_is_left_out_is_counted(config_file, captions_dataset, tmp_path, unloc):
    records = list(iterate_records(find_dataset(captions_dataset), "train", with_frames=False))
    assert len(records) == COUNTS["train"]
    settings = ("contrastive.steps=0", "contrastive.warmup_steps=0", "train.steps=1", "train.warmup_steps=0")
    sizes = ("data.max_queries=2", "data.max_segments=3")
    ran = unloc(*_train(config_file, captions_dataset, tmp_path, *sizes, *settings)).ok()
    for what, size in (("queries", 2), ("segments", 3)):
        counts = [len(set(record.texts) if what == "queries" else record.texts) for record in records]
        videos, left_out = sum(c > size for c in counts), sum(max(c - size, 0) for c in counts)
        assert left_out
        expected = (
            f"{videos} training videos have more than config.data.max_{what} = {size} {what}; {left_out} "
        )
        assert expected in ran.err


def test_a_loss_that_is_not_finite(config_file, captions_dataset, tmp_path, unloc):
    settings = (
        "train.learning_rate=1e30",
        "contrastive.steps=0",
        "contrastive.warmup_steps=0",
        "train.warmup_steps=0",
    )
    ran = unloc(*_train(config_file, captions_dataset, tmp_path, *settings))
    assert re.search(
        r"step \d+: the loss or its gradient is not finite .*Lower config\.train\.learning_rate \(now 1e\+30\).*"
        r"the last checkpoint here is of step 0\.",
        ran.error(),
    )


def test_datasets_without_a_validation_split(config_file, captions_dataset, tmp_path, unloc):
    """Charades-STA and THUMOS14 have none: the test split is used, which is reported. Without both: no validation."""
    dataset = shutil.copytree(captions_dataset, tmp_path / "dataset")
    info = dataset / "build.json"
    for gone, validated_on in (("validation", "test"), ("test", None)):
        content = json.loads(info.read_text())
        del content["splits"][gone]
        info.write_text(json.dumps(content))
        workdir = tmp_path / f"without_{gone}"
        ran = unloc(*_train(config_file, dataset, workdir, "contrastive.steps=2", "train.steps=3")).ok()
        assert (
            "this dataset has no validation split; the run is validated on its test split" in ran.err
        ) == (validated_on == "test")
        assert ("none for validation" in ran.err) == (validated_on is None)
        validated = any("validation/mIoU" in line for line in metric_lines(workdir))
        assert validated == (validated_on is not None)
