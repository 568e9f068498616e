"""What `unloc evaluate` writes is what `unloc metrics` and `unloc diagnose` read, and the numbers are the same."""

import json

import numpy as np
import pytest

from data_pipelines.build import build
from data_pipelines.check import check
from data_pipelines.reading.built import find_dataset
from data_pipelines.reading.record_index import iterate_records
from tests.pretrained.clip_tools import clip_with_all_words
from tests.tiny_runs import COUNTS, FPS, SIZE
from unloc_jax.pretrained.clip_model import save_clip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def qvhighlights(tiny_videos, captions_dataset, tmp_path_factory):
    """The tiny videos with QVHighlights' annotations: windows, and three annotators' scores of 2-second clips."""
    folder, rng = tmp_path_factory.mktemp("qvhighlights"), np.random.default_rng(0)
    files = {}
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        lines = []
        for number, record in enumerate(iterate_records(find_dataset(captions_dataset), split, False)):
            clips = int(record.duration_s // 2)
            window = [2 * (number % 2), 2 * (number % 2) + 4]
            ids = list(range(window[0] // 2, window[1] // 2))
            lines.append(
                {
                    "qid": 100 + number,
                    "query": record.texts[0],
                    "duration": 2 * clips,
                    "vid": record.video_id,
                    "relevant_windows": [window],
                    "relevant_clip_ids": ids,
                    "saliency_scores": rng.integers(1, 5, (len(ids), 3)).tolist(),
                }
            )
        files[name] = folder / f"highlight_{name}_release.jsonl"
        files[name].write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = folder / "shards"
    build(
        "qvhighlights", list(files.values()), tiny_videos / "videos", out, fps=FPS, short_side=SIZE, workers=1
    )
    return out, files["test"]


def test_highlights(qvhighlights, config_file, tmp_path, unloc):
    dataset, truth = qvhighlights
    stages = ("contrastive.steps=0", "contrastive.warmup_steps=0", "train.steps=3", "train.warmup_steps=1")
    settings = ("task='highlight_detection'", "data.mirror=False", "data.max_queries=1", *stages)
    words = ("train", f"--config={config_file}", f"--workdir={tmp_path / 'run'}")
    unloc(*words, f"--config.data.dir={dataset}", *(f"--config.{setting}" for setting in settings)).ok()
    unloc("evaluate", f"--checkpoint={tmp_path / 'run'}").ok()
    folder = tmp_path / "run" / "evaluation" / "test"
    ours = json.loads((folder / "metrics.json").read_text())["metrics"]
    files = (f"--ground-truth={truth}", f"--predictions={folder / 'predictions.jsonl'}")
    unloc("metrics", "--protocol=qvhighlights", *files, f"--out={tmp_path / 'official.json'}").ok()
    official = json.loads((tmp_path / "official.json").read_text())
    brief = official.get("brief", official)
    for name in ("Fair", "Good", "VeryGood"):
        # Two decimals there.
        assert ours[f"HL-mAP-{name}"] == pytest.approx(brief[f"HL-min-{name}-mAP"], abs=0.006)
        assert ours[f"HIT@1-{name}"] == pytest.approx(brief[f"HL-min-{name}-Hit1"], abs=0.006)
    for name in ("mAP", "mAP@0.5", "mAP@0.75", "R1@0.5", "R1@0.7"):
        assert ours[f"MR-{name}"] == pytest.approx(brief[f"MR-full-{name}"], abs=0.006)
    unloc("diagnose", "--protocol=qvhighlights", *files, f"--out={tmp_path / 'page.html'}").ok()
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_moments(trained, captions_dataset, tmp_path, unloc):
    out = tmp_path / "evaluation"
    unloc("evaluate", f"--checkpoint={trained}", f"--data-dir={captions_dataset}", f"--out={out}").ok()
    ours = json.loads((out / "metrics.json").read_text())["recall"]["model"]
    file = out / "predictions.jsonl"
    files = (f"--ground-truth={file}", f"--predictions={file}")
    unloc("metrics", "--protocol=moment-retrieval", *files, f"--out={tmp_path / 'official.json'}").ok()
    official = json.loads((tmp_path / "official.json").read_text())
    for key in ("R1@0.3", "R1@0.5", "R5@0.5", "mIoU"):
        assert official[key] == pytest.approx(ours[key], abs=1e-9), (official, ours)
    report = unloc("diagnose", "--protocol=moment-retrieval", *files).ok().out
    assert "level" in report


@pytest.fixture(scope="module")
def hidden(tiny_videos, captions_dataset, tmp_path_factory):
    """QVHighlights' layout, whose test split tells no windows."""
    folder, files = tmp_path_factory.mktemp("hidden"), []
    for split, name in (("train", "train"), ("test", "test")):
        lines = []
        for number, record in enumerate(iterate_records(find_dataset(captions_dataset), split, False)):
            line = {"qid": 8737 + number, "query": record.texts[0], "vid": record.video_id}
            line["duration"] = record.duration_s
            lines.append(line | ({"relevant_windows": [[0, 2]]} if split == "train" else {}))
        files.append(folder / f"highlight_{name}_release.jsonl")
        files[-1].write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = folder / "shards"
    build("qvhighlights", files, tiny_videos / "videos", out, fps=FPS, short_side=SIZE, workers=1)
    return out


def _submitted(out):
    assert json.loads((out / "metrics.json").read_text())["scored"] is False
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [line["qid"] for line in lines] == [8737, 8738, 8739]
    assert all(line["pred_relevant_windows"] and "relevant_windows" not in line for line in lines)
    return lines


def test_a_hidden_test_split(hidden, trained, tmp_path, unloc, monkeypatch):
    words = ("evaluate", f"--data-dir={hidden}")
    ran = unloc(*words, f"--checkpoint={trained}", f"--out={tmp_path / 'model'}").ok()
    assert "nothing was scored" in ran.out
    _submitted(tmp_path / "model")
    save_clip(clip_with_all_words(), tmp_path / "clip")
    ran = unloc(*words, f"--zeroshot-clip={tmp_path / 'clip'}", f"--out={tmp_path / 'clip_out'}").ok()
    assert "nothing was scored" in ran.out
    assert all(len(line["pred_saliency_scores"]) > 1 for line in _submitted(tmp_path / "clip_out"))


def test_training_beside_a_hidden_test_split(hidden, config_file, tmp_path, unloc):
    """There is no validation split, and the test split that would stand in for it cannot be scored."""
    stages = ("contrastive.steps=0", "contrastive.warmup_steps=0", "train.steps=3", "train.warmup_steps=1")
    settings = ("task='highlight_detection'", "data.mirror=False", "data.max_queries=1", *stages)
    words = ("train", f"--config={config_file}", f"--workdir={tmp_path / 'run'}")
    ran = unloc(*words, f"--config.data.dir={hidden}", *(f"--config.{setting}" for setting in settings)).ok()
    assert "nothing to score, the test split has no ground truth" in ran.out + ran.err


@pytest.fixture(scope="module")
def hidden_classes(tiny_videos, tmp_path_factory):
    """ActivityNet's layout, whose subset "testing" has no annotations."""
    folder = tmp_path_factory.mktemp("hidden_classes")
    content = json.loads((tiny_videos / "annotations" / "activities.json").read_text())
    for video in content["database"].values():
        if video["subset"] == "testing":
            video["annotations"] = []
    file = folder / "activity_net.v1-3.json"
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("task", ["temporal_action_localization", "action_segmentation"])
def test_a_hidden_split_of_classes(task, hidden_classes, tiny_videos, config_file, tmp_path, unloc):
    out = tmp_path / "shards"
    build("activitynet", [hidden_classes], tiny_videos / "videos", out, fps=FPS, short_side=SIZE, workers=1)
    stages = ("contrastive.steps=0", "contrastive.warmup_steps=0", "train.steps=3", "train.warmup_steps=1")
    settings = [f"--config.{s}" for s in (f"task={task!r}", "data.mirror=False", *stages)]
    words = (f"--config={config_file}", f"--workdir={tmp_path / 'run'}", f"--config.data.dir={out}")
    unloc("train", *words, *settings).ok()
    ran = unloc(
        "evaluate", f"--checkpoint={tmp_path / 'run'}", "--split=test", f"--out={tmp_path / 'e'}"
    ).ok()
    assert "nothing was scored" in ran.out
    if task == "temporal_action_localization":
        predicted = json.loads((tmp_path / "e" / "predictions.json").read_text())["results"].values()
    else:
        rows = (tmp_path / "e" / "predictions.jsonl").read_text().splitlines()
        predicted = [json.loads(row)["pred"] for row in rows]
    assert len(predicted) == COUNTS["test"] and all(predicted)


def test_a_hidden_split_without_videos(hidden_classes, tiny_videos, tmp_path, capsys):
    """Who only trains and validates has not downloaded them."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name, video in json.loads(hidden_classes.read_text())["database"].items():
        if video["subset"] != "testing":
            (videos / f"{name}.mp4").symlink_to(tiny_videos / "videos" / f"{name}.mp4")
    found = check("activitynet", [hidden_classes], videos, workers=1)
    assert found["problems"] == {"split without annotations and videos": 1}
    out = tmp_path / "shards"
    build("activitynet", [hidden_classes], videos, out, fps=FPS, short_side=SIZE, workers=1)
    assert "none of its 3 videos is there: it is not built" in capsys.readouterr().out
    assert set(json.loads((out / "build.json").read_text())["splits"]) == {"train", "validation"}
    # One that is there shows that the split is wanted.
    name = next(
        n for n, v in json.loads(hidden_classes.read_text())["database"].items() if v["subset"] == "testing"
    )
    (videos / f"{name}.mp4").symlink_to(tiny_videos / "videos" / f"{name}.mp4")
    assert check("activitynet", [hidden_classes], videos, workers=1)["problems"] == {"missing video": 2}


def test_what_evaluation_may_change(trained, captions_dataset, tmp_path, unloc):
    """Crops of square frames are all the same; another NMS finds other segments; another model is neither."""
    words = ("evaluate", f"--checkpoint={trained}", f"--data-dir={captions_dataset}")
    files = {}
    for name, setting in (
        ("plain", ()),
        ("crops", ("crops=3",)),
        ("hard", ("nms='hard'", "nms_iou_threshold=0.1")),
    ):
        unloc(*words, f"--out={tmp_path / name}", *(f"--config.evaluation.{s}" for s in setting)).ok()
        files[name] = (tmp_path / name / "predictions.jsonl").read_text().splitlines()
    windows = {name: [json.loads(line)["pred_relevant_windows"] for line in of] for name, of in files.items()}
    assert [len(a) for a in windows["plain"]] == [len(a) for a in windows["crops"]]
    for a, b in zip(windows["plain"], windows["crops"]):
        np.testing.assert_allclose(a, b, atol=2e-3)
    assert sum(map(len, windows["hard"])) < sum(map(len, windows["plain"]))
    refused = unloc(*words, "--config.model.head.num_conv_layers=2").error()
    assert "of a trained model only config.evaluation." in refused


def test_detections(trained_on_classes, tiny_videos, tmp_path, unloc):
    out = tmp_path / "evaluation"
    unloc("evaluate", f"--checkpoint={trained_on_classes}", f"--out={out}").ok()
    ours = json.loads((out / "metrics.json").read_text())["mAP"]
    truth = tiny_videos / "annotations" / "activities.json"
    files = (f"--ground-truth={truth}", f"--predictions={out / 'predictions.json'}", "--subset=testing")
    unloc("metrics", "--protocol=activitynet", *files, f"--out={tmp_path / 'official.json'}").ok()
    official = json.loads((tmp_path / "official.json").read_text())
    assert official["average_mAP"] == pytest.approx(ours["mAP@0.50:0.95"], abs=1e-9)
    assert "evel" in unloc("diagnose", "--protocol=activitynet", *files).ok().out


def _numbers(unloc, protocol, truth, out, name, *more):
    files = (f"--ground-truth={truth}", f"--predictions={out / name}", f"--out={out / 'official.json'}")
    ran = unloc("metrics", f"--protocol={protocol}", *files, *more).ok()
    return json.loads((out / "official.json").read_text()), ran


def test_a_video_whose_segments_nobody_can_find_counts(
    trained_on_classes, activities_dataset, tiny_videos, tmp_path, unloc
):
    """It is built, searched and scored; one that could not be built is counted where the numbers are printed."""
    content = json.loads((tiny_videos / "annotations" / "activities.json").read_text())
    test = [video for video in content["database"].values() if video["subset"] == "testing"]
    test[0]["annotations"] = [one | {"segment": [1, 1]} for one in test[0]["annotations"]]
    for extra in ((), ("gone",)):
        lost = {name: test[1] for name in extra}
        truth = tmp_path / f"activity{len(extra)}.json"
        truth.write_text(json.dumps({"database": content["database"] | lost}))
        shards, out = tmp_path / f"shards{len(extra)}", tmp_path / f"out{len(extra)}"
        build("activitynet", [truth], tiny_videos / "videos", shards, fps=FPS, short_side=SIZE, workers=1)
        words = (f"--checkpoint={trained_on_classes}", f"--data-dir={shards}", f"--out={out}")
        printed = unloc("evaluate", *words).ok().out
        metrics = json.loads((out / "metrics.json").read_text())
        assert (
            metrics["videos"]
            == len(test)
            == len(json.loads((out / "predictions.json").read_text())["results"])
        )
        official, _ = _numbers(unloc, "activitynet", truth, out, "predictions.json", "--subset=testing")
        ours = metrics["mAP"]["mAP@0.50"]
        assert ("could not be used when" in printed) == bool(extra)
        assert metrics["left_out"] == {
            "videos": len(extra),
            "segments": len(extra) * len(test[1]["annotations"]),
        }
        assert (official["mAP@0.50"] == pytest.approx(ours, abs=1e-9)) or extra
        of_shards, _ = _numbers(unloc, "activitynet", shards, out, "predictions.json", "--subset=test")
        assert of_shards["mAP@0.50"] == pytest.approx(ours, abs=1e-9)


def test_queries_that_nobody_can_find_count(trained, tiny_videos, tmp_path, unloc):
    files = [tiny_videos / "annotations" / f"captions_{split}.json" for split in ("train", "val")]
    content = json.loads((tiny_videos / "annotations" / "captions_test.json").read_text())
    first, second, *_ = content.values()
    first["timestamps"] = [[end, start] for start, end in first["timestamps"]]
    second["timestamps"][0] = [2, 2]
    truth = tmp_path / "captions_test.json"
    truth.write_text(json.dumps(content))
    shards, out = tmp_path / "shards", tmp_path / "out"
    videos = tiny_videos / "videos"
    build("activitynet_captions", [*files, truth], videos, shards, fps=FPS, short_side=SIZE, workers=1)
    unloc("evaluate", f"--checkpoint={trained}", f"--data-dir={shards}", f"--out={out}").ok()
    metrics = json.loads((out / "metrics.json").read_text())
    official, ran = _numbers(unloc, "moment-retrieval", truth, out, "predictions.jsonl")
    assert metrics["queries"] == official["queries"] == official["predicted_queries"]
    assert (
        f"{len(first['timestamps']) + 1} of {official['queries']} queries have a ground-truth window"
        in ran.err
    )
    for name, value in metrics["recall"]["model"].items():
        assert official[name] == pytest.approx(value, abs=1e-9)
    files = (f"--ground-truth={truth}", f"--predictions={out / 'predictions.jsonl'}")
    unloc("diagnose", "--protocol=moment-retrieval", *files, f"--out={tmp_path / 'page.html'}").ok()
