"""Queries without an answer: `unloc evaluate` measures and calibrates, `unloc predict` says "not here"."""

import json
import shutil

import numpy as np
import pytest

from data_pipelines.build import build
from data_pipelines.reading.built import find_dataset
from data_pipelines.reading.record_index import iterate_records
from tests.tiny import tiny_task
from tests.tiny_runs import FPS, SIZE
from unloc_jax.errors import UserError
from unloc_jax.evaluation.evaluate import _protocol_of
from unloc_jax.evaluation.presence import presence_metrics
from unloc_jax.tasks.outputs import Presence
from unloc_jax.training.checkpoints.presence import stored_threshold
from unloc_jax.training.checkpoints.reading import find_checkpoint


def test_by_hand():
    truth = [np.array([[0.0, 10]]), np.array([[0.0, 10]]), np.zeros((0, 2)), np.zeros((0, 2))]
    found = [np.array([[0.0, 10]]), np.array([[0.0, 6]]), np.array([[0.0, 10]]), np.zeros((0, 2))]
    presence = Presence(truth, found, np.array([0.9, 0.4, 0.3, 0.0]))
    assert presence_metrics(presence, None) == {"AUROC": 100.0, "present": 2, "absent": 2}
    strict = presence_metrics(presence, 0.5)  # rejects one that is there
    assert strict["Rej-P"] == pytest.approx(200 / 3) and strict["Rej-R"] == 100 and strict["accuracy"] == 75
    assert strict["G-R1@0.5"] == 75 and strict["G-mIoU@1"] == 75
    loose = presence_metrics(presence, 0.0)  # accepts one that is absent
    assert loose["accuracy"] == 75 and loose["G-R1@0.5"] == 75 and loose["G-R1@0.7"] == 50
    assert loose["G-mIoU@1"] == pytest.approx(100 * (1 + 0.6 + 0 + 1) / 4)


def test_the_protocol_of_a_dataset():
    """Of the format, if it asks for other numbers than the task prints; or the one that is named."""
    moments, actions = tiny_task("moment_retrieval"), tiny_task("temporal_action_localization")
    assert (
        _protocol_of(moments, "mad", None) == "mad" and _protocol_of(actions, "ego4d_mq", None) == "ego4d_mq"
    )
    for name in ("charades_sta", "jsonl", "epic_kitchens"):
        assert _protocol_of(moments, name, None) is None
    assert _protocol_of(moments, "jsonl", "gmr") == "gmr"
    with pytest.raises(UserError, match="--protocol=gmr does not measure temporal_action_localization"):
        _protocol_of(actions, "jsonl", "gmr")


@pytest.fixture(scope="module")
def with_absent(tiny_videos, captions_dataset, tmp_path_factory):
    """The captions, and in every video a query of something that is nowhere."""
    folder = tmp_path_factory.mktemp("absent")
    rows = []
    for split in ("train", "validation", "test"):
        for record in iterate_records(find_dataset(captions_dataset), split, False):
            known = {"video": record.video_id, "split": split, "duration": record.duration_s}
            rows += [
                known | {"text": text, "windows": [segment]}
                for text, segment in zip(record.texts, record.segments_s.tolist())
            ]
            rows.append(known | {"text": "zebras on a glacier", "windows": []})
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = folder / "shards"
    build(
        "jsonl", [folder / "queries.jsonl"], tiny_videos / "videos", out, fps=FPS, short_side=SIZE, workers=1
    )
    return out


@pytest.mark.slow
def test_calibrated_and_used(with_absent, trained, tiny_videos, tmp_path, unloc):
    run, out = shutil.copytree(trained, tmp_path / "run"), tmp_path / "out"
    words = ["evaluate", f"--checkpoint={run}", f"--data-dir={with_absent}", f"--out={out}"]
    read = lambda: json.loads((out / "metrics.json").read_text())
    ran = unloc(*words).ok()
    assert "no threshold is known: evaluate the validation split first" in ran.out
    assert set(read()["presence"]) == {"AUROC", "present", "absent"}
    plain = read()["recall"]["model"]

    ran = unloc(*words, "--split=validation").ok()
    chosen = read()["presence"]
    step = find_checkpoint(run)
    assert stored_threshold(step, "moment_retrieval") == chosen["threshold"]
    assert f"{chosen['Rej-F1']:.1f}" in ran.out and "presence.json" in ran.out
    video = next((tiny_videos / "videos").glob("*.mp4"))
    found = unloc(
        "predict", f"--checkpoint={run}", f"--video={video}", "--text=a", f"--out={tmp_path / 'p.json'}"
    ).ok()
    (text,) = json.loads((tmp_path / "p.json").read_text())["texts"]
    assert (
        text["present"] == (text["segments"][0]["score"] > chosen["threshold"]) != ("not here" in found.out)
    )

    unloc(*words).ok()
    metrics = read()
    assert metrics["presence"]["threshold"] == chosen["threshold"] and metrics["recall"]["model"] == plain
    # The file tells both, so that the protocol of that line of work measures it.
    file = out / "predictions.jsonl"
    windows = [json.loads(line)["relevant_windows"] for line in file.read_text().splitlines()]
    assert windows.count([]) == metrics["presence"]["absent"] > 0
    files = (f"--ground-truth={with_absent}", "--subset=test", f"--predictions={file}")
    official = (
        "metrics",
        "--protocol=gmr",
        *files,
        f"--threshold={chosen['threshold']!r}",
        f"--out={out / 'gmr.json'}",
    )
    unloc(*official).ok()
    official = json.loads((out / "gmr.json").read_text())
    same = {"AUROC": "AUROC", "G-mIoU@3": "G-mIoU@3"} | {
        name: ours for name in official for ours in ("Rej-F1",) if name.startswith("Rej-F1")
    }
    alone = (f"--ground-truth={file}", f"--predictions={file}")
    unloc("metrics", "--protocol=moment-retrieval", *alone, f"--out={out / 'recall.json'}").ok()
    recall = json.loads((out / "recall.json").read_text())
    assert recall["R1@0.5"] == pytest.approx(plain["R1@0.5"], abs=1e-9)
    assert recall["queries"] == metrics["presence"]["present"]
    for name, ours in same.items():
        assert official[name] == pytest.approx(metrics["presence"][ours], abs=1e-9), name


@pytest.mark.slow
def test_trained(with_absent, config_file, tmp_path, unloc):
    settings = ("contrastive.steps=0", "contrastive.warmup_steps=0", "train.steps=2", "train.warmup_steps=1")
    words = ("train", f"--config={config_file}", f"--config.data.dir={with_absent}")
    numbers = {}
    for trained in (True, False):
        run = tmp_path / str(trained)
        more = (*settings, f"data.absent_queries={trained}")
        unloc(*words, f"--workdir={run}", *(f"--config.{setting}" for setting in more)).ok()
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        numbers[trained] = [
            value for line in lines for key, value in line.items() if key.endswith("relevance_loss")
        ]
    assert numbers[True] and numbers[True] != numbers[False]
