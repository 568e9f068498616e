"""`unloc evaluate`: its files are consistent with each other, with training, and with any number of devices."""

import json
import re
import shutil

import numpy as np
import pytest

from data_pipelines.build import build
from data_pipelines.reading.built import find_dataset, read_build_info
from data_pipelines.reading.record_index import iterate_records
from tests.timed_video import regular_times_ms, write_video
from tests.tiny_runs import COUNTS, FPS, SIZE, metric_lines, run_child

pytestmark = pytest.mark.slow

CONTROLS = ["another video's query", "another query of the same video", "best constant segment"]
RECALLS = {f"R{k}@{iou}" for k in (1, 5) for iou in (0.3, 0.5, 0.7)} | {"mIoU"}


def _strict_json(path):
    def refuse(name):
        raise AssertionError(f"{path} holds {name}, which is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    return shutil.copytree(trained, tmp_path_factory.mktemp("evaluated") / "run")


@pytest.fixture
def evaluated(run, captions_dataset, unloc):
    """(folder, what was printed) of the test split."""
    ran = unloc("evaluate", f"--checkpoint={run}", f"--data-dir={captions_dataset}").ok()
    return run / "evaluation" / "test", ran.out


def _iou(a, b) -> float:
    overlap = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return overlap / (a[1] - a[0] + b[1] - b[0] - overlap)


def test_metrics_follow_from_the_predictions(evaluated, captions_dataset):
    folder, printed = evaluated
    metrics = _strict_json(folder / "metrics.json")
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    records = {r.video_id: r for r in iterate_records(find_dataset(captions_dataset), "test", False)}
    wanted = [
        (video_id, query, pytest.approx(segment.tolist(), abs=1e-3))
        for video_id, record in records.items()
        for query, segment in zip(record.texts, record.segments_s)
    ]
    assert [(line["vid"], line["query"], *line["relevant_windows"]) for line in lines] == wanted
    assert (metrics["videos"], metrics["queries"]) == (len(records), len(lines))
    assert (metrics["split"], metrics["data"]) == ("test", str(captions_dataset))

    recall = metrics["recall"]["model"]
    assert set(recall) == RECALLS
    for line in lines:
        scores = [score for _, _, score in line["pred_relevant_windows"]]
        assert scores == sorted(scores, reverse=True) and scores[-1] > 0
        assert all(start < end for start, end, _ in line["pred_relevant_windows"])
        assert len(line["pred_levels"]) == len(scores) and set(line["pred_levels"]) <= {0, 1}
    ious = [
        [_iou(window, line["relevant_windows"][0]) for window in line["pred_relevant_windows"][:5]]
        for line in lines
    ]
    for threshold in (0.3, 0.5, 0.7):
        hits = {
            1: np.mean([of[0] >= threshold for of in ious]),
            5: np.mean([max(of) >= threshold for of in ious]),
        }
        for k in (1, 5):
            assert recall[f"R{k}@{threshold}"] == pytest.approx(100 * hits[k])
    assert recall["mIoU"] == pytest.approx(100 * np.mean([of[0] for of in ious]), abs=0.05)
    # The table shows these numbers.
    row = next(line for line in printed.splitlines() if line.startswith("  model"))
    assert f"{recall['R1@0.3']:.1f}" in row and f"{recall['mIoU']:.1f}" in row


def test_controls(evaluated, captions_dataset):
    folder, printed = evaluated
    metrics = _strict_json(folder / "metrics.json")
    assert list(metrics["recall"]) == ["model", *CONTROLS]
    assert all(set(values) == RECALLS for values in metrics["recall"].values())
    assert all(f"control: {name} " in printed for name in CONTROLS)
    assert len({line.rindex(" ") for line in printed.splitlines() if "control: " in line}) == 1  # a table

    # The same part of every video, scored by hand.
    start, end = metrics["constant_segment"]
    ious = [
        _iou((start * record.duration_s, end * record.duration_s), segment)
        for record in iterate_records(find_dataset(captions_dataset), "test", False)
        for segment in record.segments_s
    ]
    constant = metrics["recall"]["best constant segment"]
    assert constant["mIoU"] == pytest.approx(100 * np.mean(ious))
    assert constant["R1@0.3"] == pytest.approx(100 * np.mean(np.array(ious) >= 0.3))

    right = metrics["right_event"]
    assert set(right["differs_only_in"]) == {"object", "motion"}
    assert right["right_event"]["count"] == metrics["queries"]
    assert 0 < right["right_event"]["chance"] < 100


def test_validation_is_what_training_reported(run, captions_dataset, unloc):
    unloc("evaluate", f"--checkpoint={run}", "--split=validation", f"--data-dir={captions_dataset}").ok()
    found = _strict_json(run / "evaluation" / "validation" / "metrics.json")["recall"]["model"]
    last = metric_lines(run)[-1]
    assert {f"validation/{name}": value for name, value in found.items()} == pytest.approx(
        {name: value for name, value in last.items() if name.startswith("validation/")}, abs=1e-4
    )


def test_eight_devices_find_the_same(evaluated, run, captions_dataset, tmp_path):
    """Also a batch of 4 is evaluated by 8 devices."""
    ran = run_child(
        "evaluate", f"--checkpoint={run}", f"--data-dir={captions_dataset}", f"--out={tmp_path}", devices=8
    ).ok()
    here, there = (_strict_json(folder / "metrics.json") for folder in (evaluated[0], tmp_path))
    for name in here["recall"]:
        assert there["recall"][name] == pytest.approx(here["recall"][name], abs=0.1)
    # Nothing but the progress bar goes to standard error.
    assert re.fullmatch(r"(\s*evaluate test: +\d+%\|[^\r\n]*)+\s*", ran.err), ran.err


def test_rates_over_nothing_are_null(run, tmp_path, unloc):
    """One query per video and no attributes: there are no rivals and no other query to swap in."""
    (tmp_path / "videos").mkdir()
    sentence = {"duration": 3.0, "timestamps": [[0.5, 1.5]], "sentences": ["a circle moves"]}
    for split in ("train", "val", "test"):
        write_video(tmp_path / "videos" / f"{split}.mp4", regular_times_ms(3.0), size=(64, 64))
        (tmp_path / f"{split}.json").write_text(json.dumps({split: sentence}))
    files = [tmp_path / f"{split}.json" for split in ("train", "val", "test")]
    dataset = tmp_path / "own_videos"
    build("activitynet_captions", files, tmp_path / "videos", dataset, fps=FPS, short_side=SIZE, workers=1)
    ran = unloc("evaluate", f"--checkpoint={run}", f"--data-dir={dataset}").ok()
    # Not into the folder of the dataset that the model was trained on.
    metrics = _strict_json(run / "evaluation" / "test_own_videos" / "metrics.json")
    assert list(metrics["recall"]) == ["model", "best constant segment"]
    assert metrics["queries_without_another_in_their_video"] == metrics["queries"] == 1
    assert metrics["right_event"] == {
        "right_event": {"rate": None, "chance": None, "hit_none": None, "count": 0},
        "differs_only_in": {},
    }
    assert "nan" not in ran.out


def test_action_localization(trained_on_classes, activities_dataset, tmp_path, unloc):
    out = tmp_path / "out"
    printed = unloc("evaluate", f"--checkpoint={trained_on_classes}", f"--out={out}").ok().out
    metrics = _strict_json(out / "metrics.json")
    scores = metrics["mAP"]
    for low, high, step in ((0.3, 0.7, 0.1), (0.5, 0.95, 0.05)):
        values = [scores[f"mAP@{t:.2f}"] for t in np.arange(low, high + 1e-6, step)]
        assert scores[f"mAP@{low:.2f}:{high:.2f}"] == pytest.approx(np.mean(values))
        assert values == sorted(values, reverse=True)  # a stricter threshold is never easier
        assert f"{np.mean(values):.1f}" in printed
    submission = _strict_json(out / "predictions.json")
    classes = read_build_info(activities_dataset)["classes"]
    records = list(iterate_records(find_dataset(activities_dataset), "test", False))
    assert set(submission["results"]) == {record.video_id for record in records}
    assert len(records) == metrics["videos"] == COUNTS["test"]
    for record in records:
        found = submission["results"][record.video_id]
        assert {one["label"] for one in found} <= set(classes)
        assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
        assert all(0 <= one["segment"][0] < one["segment"][1] <= record.duration_s for one in found)


def test_thresholds_and_protocols(run, captions_dataset, trained_on_classes, tmp_path, unloc):
    """`--tiou` and `--protocol`: what `unloc metrics` counts in the files."""
    words, out = ["evaluate", f"--checkpoint={trained_on_classes}"], tmp_path / "out"
    printed = unloc(*words, "--tiou=0.1:0.1:0.5", "--protocol=ego4d_mq", f"--out={out}").ok().out
    metrics = _strict_json(out / "metrics.json")
    assert set(metrics["mAP"]) == {
        "mAP@0.10:0.50",
        *(f"mAP@{t}" for t in ("0.10", "0.20", "0.30", "0.40", "0.50")),
    }
    official = metrics["official"]
    assert official["average_mAP"] == pytest.approx(metrics["mAP"]["mAP@0.10:0.50"], abs=1e-9)
    assert "protocol ego4d_mq" in printed and f"{official['recall@0.50@5']:.2f}" in printed
    refused = {
        "--tiou=0.5:0.1": "config.evaluation.tiou=0.5:0.1: thresholds look like 0.1:0.1:0.5",
        "--protocol=mad": "--protocol=mad does not measure temporal_action_localization",
        "--protocol=ego4d_mp": "did you mean ego4d_mq?",
    }
    for option, message in refused.items():
        assert message in unloc(*words, option, f"--out={tmp_path / 'not'}").error()
    assert not (tmp_path / "not").exists()

    words = ["evaluate", f"--checkpoint={run}", f"--data-dir={captions_dataset}", f"--out={out}"]
    unloc(*words, "--protocol=mad").ok()
    metrics = _strict_json(out / "metrics.json")
    assert metrics["official"]["R5@0.3"] == pytest.approx(metrics["recall"]["model"]["R5@0.3"], abs=1e-9)
    assert metrics["official"]["R100@0.1"] >= metrics["official"]["R10@0.1"]
    assert "--tiou has the thresholds of action localisation" in unloc(*words, "--tiou=0.5").error()


def test_datasets_that_do_not_fit_the_model(
    run, trained_on_classes, captions_dataset, tiny_videos, tmp_path, unloc
):
    gone = unloc("evaluate", f"--checkpoint={run}").error()
    assert gone.endswith("lost_captions is not there. Give its place: --data-dir=DIR.")
    assert (
        "no finished dataset here"
        in unloc("evaluate", f"--checkpoint={run}", f"--data-dir={tmp_path}").error()
    )
    other = unloc("evaluate", f"--checkpoint={trained_on_classes}", f"--data-dir={captions_dataset}").error()
    assert re.match(
        r"\d+ classes of this dataset, such as '.*', are none of the vocabulary's \d+ classes", other
    )
    files = [tiny_videos / "annotations" / "captions_train.json"]
    larger = tmp_path / "larger"
    build("activitynet_captions", files, tiny_videos / "videos", larger, fps=FPS, short_side=20, workers=1)
    size = unloc("evaluate", f"--checkpoint={run}", f"--data-dir={larger}", "--split=train").error()
    assert (
        "a short side of 16 pixels, this dataset's have 20. Build it with `unloc data build --short-side 16"
        in size
    )
    train_only = tmp_path / "train_only"
    build(
        "activitynet_captions", files, tiny_videos / "videos", train_only, fps=FPS, short_side=16, workers=1
    )
    no_test = unloc("evaluate", f"--checkpoint={run}", f"--data-dir={train_only}", "--split=test").error()
    assert "there is no split 'test' with videos in it; splits: train." in no_test


@pytest.mark.parametrize("below", [False, True])
def test_a_folder_that_cannot_be_written(run, captions_dataset, tmp_path, unloc, below):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out" if below else tmp_path / "file"
    error = unloc("evaluate", f"--checkpoint={run}", f"--data-dir={captions_dataset}", f"--out={out}").error()
    assert error.startswith(f"--out={out} cannot be written: ")
